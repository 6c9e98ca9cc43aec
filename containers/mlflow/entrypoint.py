"""Starts the MLflow server, or upgrades its database, by what the environment says. Standard library only.

``server``      the tracking server and model registry
``db-upgrade``  bring the database's tables to this version, once, before a roll-out
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping, Sequence
from urllib.parse import quote

DATABASE = ("MLFLOW_DB_HOST", "MLFLOW_DB_USER", "MLFLOW_DB_PASSWORD")


class StartError(Exception):
    """The environment or the command line is wrong; the message says what to set."""


def backend_store_uri(environment: Mapping[str, str]) -> str:
    """Return the database's URI, as given or put together from its parts.

    Raises:
        StartError: neither the URI nor all of its parts are given.
    """
    if uri := environment.get("MLFLOW_BACKEND_STORE_URI"):
        return uri
    missing = [name for name in DATABASE if not environment.get(name)]
    if missing:
        raise StartError(f"set MLFLOW_BACKEND_STORE_URI, or {', '.join(DATABASE)} (missing: {', '.join(missing)})")
    host, user, password = (environment[name] for name in DATABASE)
    port = environment.get("MLFLOW_DB_PORT") or "5432"
    name = environment.get("MLFLOW_DB_NAME") or "mlflow"
    mode = environment.get("MLFLOW_DB_SSLMODE") or "require"
    return (
        f"postgresql+psycopg2://{quote(user, safe='')}:{quote(password, safe='')}@{host}:{port}/{name}?sslmode={mode}"
    )


def plan(arguments: Sequence[str], environment: Mapping[str, str]) -> tuple[list[str], dict[str, str]]:
    """Return the command to become and its environment.

    Raises:
        StartError: something required is missing, or the host check would be off.
    """
    command, *extra = arguments or ["server"]
    uri = backend_store_uri(environment)
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


def main() -> int:
    """Become the planned command."""
    try:
        command, environment = plan(sys.argv[1:], os.environ)
    except StartError as error:
        print(f"mlflow: {error}", file=sys.stderr)
        return 64
    os.execvpe(command[0], command, environment)


if __name__ == "__main__":
    sys.exit(main())
