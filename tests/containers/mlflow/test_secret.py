"""The entrypoint with its password in Secrets Manager: moto's, and a real PostgreSQL whose password changes."""

from __future__ import annotations

import json
import os
import signal
import socket
import stat
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import boto3
import psycopg
import pytest
from moto.server import ThreadedMotoServer
from psycopg import sql

from local.platform.postgres import find_binaries, user_prefix

ROOT = Path(__file__).resolve().parents[3]
ENTRYPOINT = ROOT / "containers" / "mlflow" / "entrypoint.py"
MLFLOW = ROOT / ".local" / "envs" / "mlflow" / "bin" / "python"
REGION = "eu-west-1"
ARN = f"arn:aws:secretsmanager:{REGION}:123456789012:secret:rds!db-1-abcdef"
BASE = {
    "MLFLOW_DB_SECRET_ARN": ARN,
    "MLFLOW_DB_HOST": "db.example",
    "MLFLOW_ARTIFACTS_DESTINATION": "s3://artifacts/mlflow",
    "MLFLOW_SERVER_ALLOWED_HOSTS": "mlflow.internal,127.0.0.1:*",
}
AWS = {"AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test", "AWS_DEFAULT_REGION": REGION}


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


def wait_for(holds: Callable[[], bool], what: str, seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline, what
        time.sleep(0.1)


# --- Settings -----------------------------------------------------------------------------------


def test_the_uri_has_no_password(entrypoint: ModuleType) -> None:
    for arguments in ([], ["db-upgrade"]):
        _, environment = entrypoint.plan(arguments, BASE, "mlflow@rds")
        uri = environment["MLFLOW_BACKEND_STORE_URI"]
        assert uri == "postgresql+psycopg2://mlflow%40rds@db.example:5432/mlflow?sslmode=require"


@pytest.mark.parametrize(
    ("change", "options"),
    [
        ({}, "sslmode=require"),
        ({"MLFLOW_DB_SSLROOTCERT": "/etc/rds/ca.pem"}, "sslmode=verify-full&sslrootcert=/etc/rds/ca.pem"),
        (
            {"MLFLOW_DB_SSLROOTCERT": "/etc/rds/ca.pem", "MLFLOW_DB_SSLMODE": "verify-ca"},
            "sslmode=verify-ca&sslrootcert=/etc/rds/ca.pem",
        ),
    ],
)
def test_certificates_turn_the_check_of_the_server_on(
    change: dict[str, str], options: str, entrypoint: ModuleType
) -> None:
    assert entrypoint.backend_store_uri(BASE | change, "mlflow").endswith(f"/mlflow?{options}")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"MLFLOW_DB_PASSWORD": "fixed"}, "set MLFLOW_DB_SECRET_ARN or MLFLOW_DB_PASSWORD, not both"),
        ({"MLFLOW_BACKEND_STORE_URI": "sqlite://"}, "set MLFLOW_DB_SECRET_ARN or MLFLOW_BACKEND_STORE_URI, not both"),
        ({"MLFLOW_DB_HOST": ""}, "MLFLOW_DB_SECRET_ARN is set: set MLFLOW_DB_HOST too"),
        ({"MLFLOW_SERVER_ALLOWED_HOSTS": "*"}, "would turn the host check off"),
        ({"MLFLOW_DB_SECRET_REFRESH_SECONDS": "often"}, "must be a number of seconds above 0"),
        ({"MLFLOW_DB_SECRET_REFRESH_SECONDS": "0"}, "must be a number of seconds above 0"),
    ],
)
def test_wrong_settings_are_refused_before_aws_is_asked(change: dict[str, str], message: str) -> None:
    environment = {"PATH": os.environ["PATH"], "AWS_ENDPOINT_URL": "http://127.0.0.1:9", **AWS, **BASE, **change}
    done = subprocess.run([sys.executable, ENTRYPOINT], env=environment, capture_output=True, text=True, timeout=30)
    assert done.returncode == 64
    assert message in done.stderr


# --- The secret and the password file -----------------------------------------------------------


@pytest.fixture(scope="module")
def moto() -> Iterator[str]:
    server = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


@pytest.fixture
def secrets(moto: str, monkeypatch: pytest.MonkeyPatch) -> Any:
    for name, value in {**AWS, "AWS_ENDPOINT_URL": moto}.items():
        monkeypatch.setenv(name, value)
    return boto3.client("secretsmanager", region_name=REGION)


def make_secret(secrets: Any, **value: Any) -> str:
    made = secrets.create_secret(Name=f"rds!db-{time.time_ns()}", **value)
    return str(made["ARN"])


def test_the_secret_is_read(secrets: Any, entrypoint: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    arn = make_secret(secrets, SecretString=json.dumps({"username": "mlflow", "password": "p:w\\d"}))
    monkeypatch.delenv("AWS_DEFAULT_REGION")  # the address of the secret says where it is
    assert entrypoint.read_secret(arn) == entrypoint.Credentials("mlflow", "p:w\\d")


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ({"SecretString": "hunter2"}, "is not JSON with username and password"),
        ({"SecretString": '["hunter2"]'}, "is not JSON with username and password"),
        ({"SecretString": '{"username": "hunter2"}'}, "is not JSON with username and password"),
        ({"SecretString": '{"username": "mlflow", "password": "hunter2\\n"}'}, "must be text of one line"),
        ({"SecretString": '{"username": "mlflow", "password": ""}'}, "must be text of one line"),
        ({"SecretBinary": b"hunter2"}, "holds bytes"),
    ],
)
def test_an_odd_secret_is_refused_and_not_told(
    value: dict[str, Any], message: str, secrets: Any, entrypoint: ModuleType
) -> None:
    with pytest.raises(entrypoint.SecretError, match=message) as refused:
        entrypoint.read_secret(make_secret(secrets, **value))
    assert "hunter2" not in str(refused.value)


@pytest.mark.usefixtures("secrets")
def test_a_secret_that_is_not_there_ends_the_start(moto: str) -> None:
    environment = {"PATH": os.environ["PATH"], "AWS_ENDPOINT_URL": moto, **AWS, **BASE}
    done = subprocess.run([sys.executable, ENTRYPOINT], env=environment, capture_output=True, text=True, timeout=30)
    assert done.returncode == 1, "worth another try, unlike wrong settings"
    assert f"{ARN} cannot be read" in done.stderr


def test_the_password_file(entrypoint: ModuleType, tmp_path: Path) -> None:
    answers = [entrypoint.Credentials("mlflow", password) for password in ("a:b\\c", "a:b\\c", "new")]
    remaining = iter(answers)
    file = entrypoint.PasswordFile(tmp_path, ("db.example", "5432", "mlflow"), lambda: next(remaining))
    file.refresh()
    assert file.path.read_text() == "db.example:5432:mlflow:mlflow:a\\:b\\\\c\n"
    assert stat.S_IMODE(file.path.stat().st_mode) == 0o600
    first = file.path.stat().st_ino
    file.refresh()
    assert file.path.stat().st_ino == first, "an unchanged secret is not written again"
    file.refresh()
    assert file.path.read_text() == "db.example:5432:mlflow:mlflow:new\n"
    assert [path.name for path in tmp_path.iterdir()] == ["pgpass"]
    assert "a:b" not in repr(answers[0])


# --- The parent ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("code", "expected"), [("raise SystemExit(7)", 7), ("import os; os.kill(os.getpid(), 9)", 137)]
)
def test_the_exit_code_is_the_childs(code: str, expected: int, entrypoint: ModuleType) -> None:
    assert entrypoint.supervise([sys.executable, "-c", code], os.environ, lambda: None, 60) == expected


def test_a_failing_refresh_does_not_end_the_server(entrypoint: ModuleType, capfd: pytest.CaptureFixture[str]) -> None:
    calls = []

    def refresh() -> None:
        calls.append(1)
        raise entrypoint.SecretError("throttled")

    code = "import time; time.sleep(1)"
    assert entrypoint.supervise([sys.executable, "-c", code], os.environ, refresh, 0.1) == 0
    assert len(calls) > 2
    assert "the password file was not refreshed: throttled" in capfd.readouterr().err


# --- A real database ----------------------------------------------------------------------------


class Database:
    """A PostgreSQL server with a user and a database for MLflow."""

    def __init__(self, folder: Path) -> None:
        self.port = free_port()
        self._admin = f"host=127.0.0.1 port={self.port} user=postgres dbname=postgres password=admin connect_timeout=3"
        data = folder / "data"
        data.mkdir()
        # A user namespace or another account may have to read it; it lies in a folder that others cannot enter.
        password = folder / "admin"
        password.write_text("admin")
        password.chmod(0o644)
        environment = {"PATH": os.environ["PATH"], "LC_ALL": "C"}
        subprocess.run(
            [
                *(*user_prefix(data), str(find_binaries() / "initdb"), "--pgdata", str(data), "--username=postgres"),
                *("--auth=scram-sha-256", f"--pwfile={password}", "--no-sync", "--no-instructions"),
            ],
            check=True,
            capture_output=True,
            env=environment,
            cwd=folder,
        )
        settings = {"listen_addresses": "127.0.0.1", "unix_socket_directories": "", "fsync": "off"}
        options = [part for name, value in settings.items() for part in ("-c", f"{name}={value}")]
        with (folder / "postgres.log").open("wb") as log:
            self._process = subprocess.Popen(
                [
                    *user_prefix(data),
                    str(find_binaries() / "postgres"),
                    "-D",
                    str(data),
                    "-p",
                    str(self.port),
                    *options,
                ],
                env=environment,
                cwd=folder,
                stdout=log,
                stderr=log,
            )
        wait_for(self._answers, "PostgreSQL did not start")
        self.execute(sql.SQL("CREATE ROLE mlflow LOGIN PASSWORD 'first'"))
        self.execute(sql.SQL("CREATE DATABASE mlflow OWNER mlflow"))

    def execute(self, statement: sql.SQL | sql.Composed) -> None:
        with psycopg.connect(self._admin, autocommit=True) as connection:
            connection.execute(statement)

    def change_password(self, password: str) -> None:
        """Change it as a rotation does, and end the open connections, so that new ones are needed."""
        self.execute(sql.SQL("ALTER ROLE mlflow PASSWORD {}").format(sql.Literal(password)))
        self.execute(sql.SQL("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'mlflow'"))

    def stop(self) -> None:
        self._process.send_signal(signal.SIGINT)
        self._process.wait(30)

    def _answers(self) -> bool:
        assert self._process.poll() is None, "PostgreSQL ended"
        try:
            psycopg.connect(self._admin).close()
        except psycopg.OperationalError:
            return False
        return True


@pytest.fixture
def postgres(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Database]:
    database = Database(tmp_path_factory.mktemp("postgres"))
    yield database
    database.stop()


def test_the_server_survives_a_new_password_and_ends_when_asked(
    secrets: Any, moto: str, postgres: Database, tmp_path: Path
) -> None:
    def value(password: str) -> str:
        return json.dumps({"username": "mlflow", "password": password})

    arn = make_secret(secrets, SecretString=value("first"))
    temporary = tmp_path / "tmp"
    temporary.mkdir()
    port = free_port()
    environment = {
        "PATH": os.environ["PATH"],
        "HOME": str(temporary),
        "TMPDIR": str(temporary),
        "PYTHONDONTWRITEBYTECODE": "1",
        **AWS,
        "AWS_ENDPOINT_URL": moto,
        "MLFLOW_DB_SECRET_ARN": arn,
        "MLFLOW_DB_SECRET_REFRESH_SECONDS": "0.5",
        "MLFLOW_DB_HOST": "127.0.0.1",
        "MLFLOW_DB_PORT": str(postgres.port),
        "MLFLOW_DB_SSLMODE": "disable",  # the wheel's server has no certificate
        "MLFLOW_ARTIFACTS_DESTINATION": "s3://artifacts/mlflow",
        "MLFLOW_SERVER_ALLOWED_HOSTS": "127.0.0.1:*",
        "MLFLOW_HOST": "127.0.0.1",
        "MLFLOW_PORT": str(port),
        "MLFLOW_WORKERS": "2",
        "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
        "MLFLOW_DISABLE_TELEMETRY": "true",
    }
    # In an empty database, as on the first day.
    upgraded = subprocess.run(
        [MLFLOW, ENTRYPOINT, "db-upgrade"], cwd=temporary, env=environment, capture_output=True, text=True, timeout=120
    )
    assert upgraded.returncode == 0, upgraded.stderr
    log = tmp_path / "log"
    with log.open("wb") as file:
        server = subprocess.Popen(
            [MLFLOW, ENTRYPOINT, "server"], cwd=temporary, env=environment, stdout=file, stderr=subprocess.STDOUT
        )

    def works() -> bool:
        assert server.poll() is None, log.read_text()
        url = f"http://127.0.0.1:{port}/api/2.0/mlflow/experiments/search?max_results=1"
        try:
            with urllib.request.urlopen(url, timeout=30) as answer:
                return int(answer.status) == 200
        except OSError:
            return False

    try:
        wait_for(works, "the server did not start", 120)
        files = list(temporary.glob("mlflow-*/pgpass"))
        assert len(files) == 1
        processes = subprocess.run(["ps", "-eo", "args"], capture_output=True, text=True, check=True).stdout
        assert f"@127.0.0.1:{postgres.port}" not in processes

        secrets.put_secret_value(SecretId=arn, SecretString=value("second:\\one"))
        postgres.change_password("second:\\one")
        wait_for(lambda: "second" in files[0].read_text(), "the password file was not refreshed")
        # Every worker has lost its connections.
        wait_for(lambda: all(works() for _ in range(10)), "the server does not use the new password", 30)
        assert "the database's secret has changed" in log.read_text()
        assert "second" not in log.read_text()

        children = subprocess.run(["pgrep", "-P", str(server.pid)], capture_output=True, text=True).stdout.split()
        assert len(children) == 1
        server.send_signal(signal.SIGTERM)
        code = server.wait(30)
        assert code in (0, 128 + signal.SIGTERM), log.read_text()
        assert "Application shutdown complete" in log.read_text(), "it was not asked, but killed"
        assert not Path(f"/proc/{children[0]}").exists()
        assert not list(temporary.glob("mlflow-*")), "the password stayed on disk"
    finally:
        if server.poll() is None:
            server.kill()
            server.wait()


def test_the_studies_database_is_made_once(postgres: Database, tmp_path: Path) -> None:
    # As RDS's master user is: no superuser, but with the rights to make roles and databases. `rds_iam` is RDS's own.
    postgres.execute(sql.SQL("ALTER ROLE mlflow CREATEROLE CREATEDB"))
    postgres.execute(sql.SQL("CREATE ROLE rds_iam NOLOGIN"))
    postgres.execute(sql.SQL("GRANT rds_iam TO mlflow WITH ADMIN OPTION, INHERIT FALSE, SET FALSE"))
    script = (
        "import importlib.util, sys\n"
        f"spec = importlib.util.spec_from_file_location('entrypoint', {str(ENTRYPOINT)!r})\n"
        "module = sys.modules['entrypoint'] = importlib.util.module_from_spec(spec)\n"
        "spec.loader.exec_module(module)\n"
        "import os\n"
        "module.prepare_studies(os.environ, module.Credentials('mlflow', 'first'))\n"
    )
    environment = {
        "PATH": os.environ["PATH"],
        "MLFLOW_DB_HOST": "127.0.0.1",
        "MLFLOW_DB_PORT": str(postgres.port),
        "MLFLOW_DB_SSLMODE": "disable",
        "MLFLOW_STUDIES_DATABASE": "studies",
    }

    def prepare() -> str:
        done = subprocess.run([MLFLOW, "-c", script], env=environment, capture_output=True, text=True, timeout=60)
        assert done.returncode == 0, done.stderr
        return done.stderr

    assert "the database 'studies' of the studies is made" in prepare()
    assert prepare() == ""
    with psycopg.connect(
        f"host=127.0.0.1 port={postgres.port} user=postgres dbname=postgres password=admin client_encoding=utf8",
        autocommit=True,
    ) as connection:

        def members(role: str) -> set[str]:
            rows = connection.execute(
                "select m.rolname from pg_auth_members a join pg_roles r on r.oid = a.roleid "
                "join pg_roles m on m.oid = a.member where r.rolname = %s and (a.set_option or a.inherit_option)",
                (role,),
            )
            return {row[0] for row in rows}

        owner = connection.execute(
            "select r.rolname, r.rolpassword is null from pg_database d join pg_authid r on r.oid = d.datdba "
            "where d.datname = 'studies'"
        ).fetchone()
        assert owner == ("studies", True)
        assert members("rds_iam") == {"studies"}
        assert members("studies") == set(), "the master user must not become a member of rds_iam"

    postgres.execute(sql.SQL("ALTER ROLE mlflow NOCREATEROLE NOCREATEDB"))
    environment["MLFLOW_STUDIES_DATABASE"] = "others"
    assert "the database 'others' of the studies could not be made: permission denied" in prepare()
