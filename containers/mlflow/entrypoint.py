"""Starts the MLflow server, or upgrades its database, by what the environment says.

``server``      the tracking server and model registry
``db-upgrade``  make the database's tables, or bring them to this version, once, before a roll-out

Standard library only, and boto3 where the password is in Secrets Manager.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import Any
from urllib.parse import quote, urlencode

DATABASE = ("MLFLOW_DB_HOST", "MLFLOW_DB_USER", "MLFLOW_DB_PASSWORD")
SECRET = "MLFLOW_DB_SECRET_ARN"
STUDIES = "MLFLOW_STUDIES_DATABASE"
REFRESH = "MLFLOW_DB_SECRET_REFRESH_SECONDS"
_REFRESH_SECONDS = 60.0
_PASSED_ON = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT)


class StartError(Exception):
    """The environment or the command line is wrong; the message says what to set."""


class SecretError(Exception):
    """The database's secret cannot be read; the message says why, and never what is in it."""


@dataclass(frozen=True)
class Credentials:
    """What signs in to the database; the password is in no ``repr``."""

    user: str
    password: str = field(repr=False)


def backend_store_uri(environment: Mapping[str, str], user: str | None = None) -> str:
    """Return the database's URI, as given or put together from its parts.

    Args:
        environment: the process's.
        user: of the database, where a password file signs it in; the URI has no password then.

    Raises:
        StartError: neither the URI nor all of its parts are given.
    """
    if uri := environment.get("MLFLOW_BACKEND_STORE_URI"):
        return uri
    needed = DATABASE if user is None else DATABASE[:1]
    missing = [name for name in needed if not environment.get(name)]
    if missing and user is None:
        raise StartError(
            f"set MLFLOW_BACKEND_STORE_URI, or {', '.join(DATABASE)} (missing: {', '.join(missing)}), "
            f"or {SECRET} and MLFLOW_DB_HOST"
        )
    if missing:
        raise StartError(f"{SECRET} is set: set {', '.join(missing)} too")
    account = (
        quote(user, safe="")
        if user is not None
        else f"{quote(environment['MLFLOW_DB_USER'], safe='')}:{quote(environment['MLFLOW_DB_PASSWORD'], safe='')}"
    )
    host, port, name = database(environment)
    certificates = environment.get("MLFLOW_DB_SSLROOTCERT")
    # Without the authority's certificates the connection is encrypted, but anyone could be at its other end.
    mode = environment.get("MLFLOW_DB_SSLMODE") or ("verify-full" if certificates else "require")
    options = {"sslmode": mode, **({"sslrootcert": certificates} if certificates else {})}
    return f"postgresql+psycopg2://{account}@{host}:{port}/{name}?{urlencode(options, safe='/')}"


def database(environment: Mapping[str, str]) -> tuple[str, str, str]:
    """Return the database's host, port and name."""
    return (
        environment["MLFLOW_DB_HOST"],
        environment.get("MLFLOW_DB_PORT") or "5432",
        environment.get("MLFLOW_DB_NAME") or "mlflow",
    )


def plan(
    arguments: Sequence[str], environment: Mapping[str, str], user: str | None = None
) -> tuple[list[str], dict[str, str]]:
    """Return the command to run and its environment.

    Args:
        arguments: of the container.
        environment: of the container.
        user: of the database, where a password file signs it in.

    Raises:
        StartError: something required is missing, or the host check would be off.
    """
    command, *extra = arguments or ["server"]
    uri = backend_store_uri(environment, user)
    # In the environment, not among the arguments: those can be read by any process of the machine.
    changed = {**environment, "MLFLOW_BACKEND_STORE_URI": uri}
    if command == "db-upgrade" and not extra:
        code = "import os; from mlflow.cli import cli; cli(['db', 'upgrade', os.environ['MLFLOW_BACKEND_STORE_URI']])"
        return [sys.executable, "-c", code], changed
    if command != "server":
        raise StartError(f"unknown command {' '.join(arguments)!r}: server [options], or db-upgrade")
    destination = environment.get("MLFLOW_ARTIFACTS_DESTINATION")
    if not destination:
        raise StartError("set MLFLOW_ARTIFACTS_DESTINATION, for example s3://<artifacts bucket>/mlflow")
    hosts = environment.get("MLFLOW_SERVER_ALLOWED_HOSTS", "")
    if not hosts.strip() or "*" in (host.strip() for host in hosts.split(",")):
        raise StartError(
            "set MLFLOW_SERVER_ALLOWED_HOSTS to the names clients use, with ports, for example "
            "'mlflow.internal,mlflow.internal:*,localhost:*'; '*' alone would turn the host check off"
        )
    if any(argument.startswith("--disable-security") for argument in extra):
        raise StartError("--disable-security-middleware is refused: name the hosts in MLFLOW_SERVER_ALLOWED_HOSTS")
    server = [sys.executable, "-m", "mlflow", "server", "--artifacts-destination", destination]
    return [*server, "--allowed-hosts", hosts, *extra], changed


def secret_arn(environment: Mapping[str, str]) -> str | None:
    """Return the secret to read the password from, None if the environment has what is needed itself.

    Raises:
        StartError: there is a secret and a password, or a whole URI: one of them would be ignored.
    """
    arn = environment.get(SECRET)
    if not arn:
        return None
    for other in ("MLFLOW_BACKEND_STORE_URI", "MLFLOW_DB_PASSWORD"):
        if environment.get(other):
            raise StartError(f"set {SECRET} or {other}, not both")
    return arn


def refresh_seconds(environment: Mapping[str, str]) -> float:
    """Return how often the secret is read again.

    Raises:
        StartError: it is not a number above zero.
    """
    given = environment.get(REFRESH) or str(_REFRESH_SECONDS)
    try:
        seconds = float(given)
    except ValueError:
        seconds = 0
    if not 0 < seconds <= 86400:
        raise StartError(f"{REFRESH} must be a number of seconds above 0, at most a day, not {given!r}")
    return seconds


def read_secret(arn: str) -> Credentials:
    """Read the database's user and password, as RDS keeps them, from Secrets Manager.

    Raises:
        SecretError: Secrets Manager does not give it, or it has no such content.
    """
    import boto3
    from botocore.config import Config
    from botocore.exceptions import BotoCoreError, ClientError

    limits = Config(connect_timeout=3, read_timeout=5, retries={"mode": "standard", "max_attempts": 4})
    region = arn.split(":")[3] if arn.startswith("arn:") and arn.count(":") >= 6 else None
    try:
        client = boto3.client("secretsmanager", region_name=region, config=limits)
        text = client.get_secret_value(SecretId=arn)["SecretString"]
    except (BotoCoreError, ClientError) as error:
        raise SecretError(f"{arn} cannot be read: {error}") from None
    except KeyError:
        raise SecretError(f"{arn} holds bytes, not JSON text") from None
    try:
        content = json.loads(text)
        user, password = content["username"], content["password"]
    except (ValueError, TypeError, KeyError):  # whose messages would quote the secret
        raise SecretError(f"{arn} is not JSON with username and password, as RDS writes it") from None
    if not all(isinstance(part, str) and part for part in (user, password)) or "\n" in user + password:
        raise SecretError(f"{arn}: username and password must be text of one line")
    return Credentials(user, password)


def make_studies_database(connection: Any, name: str) -> bool:
    """Make the database in which trials of a search share what they learned, and its user of the same name.

    The user has no password: on RDS it signs in by an IAM role. The two belong to the training pods; this server only
    has the rights to make them.

    Args:
        connection: of psycopg2, to MLflow's own database as its master user, in autocommit.
        name: of database and user.

    Returns:
        Whether it was made now.
    """
    from psycopg2 import errors, sql

    identifier = sql.Identifier(name)
    with connection.cursor() as cursor:

        def run(statement: str) -> None:
            cursor.execute(sql.SQL(statement).format(name=identifier))

        cursor.execute("select count(*) from pg_database where datname = %s", (name,))
        if cursor.fetchone()[0]:
            return False
        with contextlib.suppress(errors.DuplicateObject):
            run("create role {name} login")
        # Only who could become a role may give it a database. Taken back before the role signs in by IAM: RDS refuses
        # the password of everyone who is a member of rds_iam through it, the master user too.
        run("grant {name} to current_user")
        try:
            run("create database {name} owner {name}")
        except (errors.DuplicateDatabase, errors.UniqueViolation):  # another server was faster
            return False
        finally:
            run("revoke {name} from current_user")
        run("revoke all on database {name} from public")
        cursor.execute("select count(*) from pg_roles where rolname = 'rds_iam'")
        if cursor.fetchone()[0]:
            run("grant rds_iam to {name}")
    return True


def prepare_studies(environment: Mapping[str, str], credentials: Credentials) -> None:
    """Make the studies' database if the environment names one. What goes wrong is reported: MLflow can do without."""
    name = environment.get(STUDIES)
    if not name:
        return
    import psycopg2

    host, port, database_name = database(environment)
    certificates = environment.get("MLFLOW_DB_SSLROOTCERT")
    mode = environment.get("MLFLOW_DB_SSLMODE") or ("verify-full" if certificates else "require")
    try:
        connection = psycopg2.connect(
            host=host,
            port=port,
            dbname=database_name,
            user=credentials.user,
            password=credentials.password,
            sslmode=mode,
            connect_timeout=10,
            **({"sslrootcert": certificates} if certificates else {}),
        )
        connection.autocommit = True
        try:
            made = make_studies_database(connection, name)
        finally:
            connection.close()
    except psycopg2.Error as error:
        print(f"mlflow: the database {name!r} of the studies could not be made: {error}", file=sys.stderr, flush=True)
        return
    if made:
        print(f"mlflow: the database {name!r} of the studies is made", file=sys.stderr, flush=True)


class PasswordFile:
    """A libpq password file that follows a secret.

    RDS changes the password of its managed secret every seven days. A password in the environment is then wrong for
    as long as the process lives; libpq reads this file for every new connection. Connections that are open stay so.
    """

    def __init__(self, folder: Path, endpoint: tuple[str, str, str], read: Callable[[], Credentials]) -> None:
        self.path = folder / "pgpass"
        self._endpoint = endpoint
        self._read = read
        self._written: Credentials | None = None

    def refresh(self) -> Credentials:
        """Read the secret and, if it has changed, replace the file in one move.

        Raises:
            SecretError: the secret cannot be read; the file stays as it is.
        """
        found = self._read()
        if found == self._written:
            return found
        if self._written is not None:
            print("mlflow: the database's secret has changed; new connections use it", file=sys.stderr, flush=True)
        line = ":".join(_escape(part) for part in (*self._endpoint, found.user, found.password))
        partial = self.path.with_suffix(".partial")
        partial.unlink(missing_ok=True)
        # libpq ignores a password file that others may read.
        with os.fdopen(os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8") as file:
            file.write(line + "\n")
        partial.replace(self.path)
        self._written = found
        return found


def _escape(part: str) -> str:
    return part.replace("\\", "\\\\").replace(":", "\\:")


def supervise(
    command: Sequence[str], environment: Mapping[str, str], refresh: Callable[[], object], seconds: float
) -> int:
    """Run a command to its end and keep its password file fresh meanwhile.

    Signals that ask for the end are passed on; a refresh that fails is reported and tried again.

    Returns:
        The command's exit code; 128 and the signal's number if a signal ended it.
    """
    ended = threading.Event()

    def follow() -> None:
        while not ended.wait(seconds):
            try:
                refresh()
            except Exception as error:  # the server lives on with what it has; next time may be better
                print(f"mlflow: the password file was not refreshed: {error}", file=sys.stderr, flush=True)

    # Caught before the child exists, so that a signal between the two is not lost.
    early: list[int] = []
    child: subprocess.Popen[bytes] | None = None

    def pass_on(number: int, _frame: FrameType | None) -> None:
        if child is None:
            early.append(number)
        else:
            child.send_signal(number)

    before = {number: signal.signal(number, pass_on) for number in _PASSED_ON}
    try:
        child = subprocess.Popen(command, env=dict(environment))
        for number in early:
            child.send_signal(number)
        threading.Thread(target=follow, name="password-file", daemon=True).start()
        code = child.wait()
    finally:
        ended.set()
        for number, handler in before.items():
            signal.signal(number, handler)
    return 128 - code if code < 0 else code


def run_with_secret(arn: str, arguments: Sequence[str], environment: Mapping[str, str]) -> int:
    """Run the planned command with a password file that follows the secret, and return its exit code.

    Raises:
        StartError: the environment or the command line is wrong.
        SecretError: the secret cannot be read at the start.
    """
    seconds = refresh_seconds(environment)
    plan(arguments, environment, user="")  # what is wrong in the settings is said before AWS is asked
    folder = Path(tempfile.mkdtemp(prefix="mlflow-"))  # for this user only
    try:
        password_file = PasswordFile(folder, database(environment), lambda: read_secret(arn))
        credentials = password_file.refresh()
        command, changed = plan(arguments, environment, credentials.user)
        if (arguments or ["server"])[0] == "server":
            prepare_studies(environment, credentials)
        changed["PGPASSFILE"] = str(password_file.path)
        return supervise(command, changed, password_file.refresh, seconds)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def main() -> int:
    """Become the planned command, or run it and keep its password fresh."""
    try:
        if arn := secret_arn(os.environ):
            return run_with_secret(arn, sys.argv[1:], os.environ)
        command, environment = plan(sys.argv[1:], os.environ)
    except StartError as error:
        print(f"mlflow: {error}", file=sys.stderr)
        return 64
    except SecretError as error:
        print(f"mlflow: {error}", file=sys.stderr)
        return 1
    os.execvpe(command[0], command, environment)


if __name__ == "__main__":
    sys.exit(main())
