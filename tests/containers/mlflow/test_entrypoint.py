"""The image's entrypoint; runs in the development environment, the server in its own."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).resolve().parents[3]
ENTRYPOINT = ROOT / "containers" / "mlflow" / "entrypoint.py"
FULL = {
    "MLFLOW_BACKEND_STORE_URI": "sqlite://",
    "MLFLOW_ARTIFACTS_DESTINATION": "s3://artifacts/mlflow",
    "MLFLOW_SERVER_ALLOWED_HOSTS": "mlflow.internal,localhost:*",
}


def test_server(entrypoint: ModuleType) -> None:
    command, environment = entrypoint.plan([], FULL)
    assert command[1:4] == ["-m", "mlflow", "server"]
    assert command[4:] == [
        "--artifacts-destination",
        "s3://artifacts/mlflow",
        "--allowed-hosts",
        "mlflow.internal,localhost:*",
    ]
    assert environment["MLFLOW_BACKEND_STORE_URI"] == "sqlite://"


def test_a_password_is_quoted_and_not_among_the_arguments(entrypoint: ModuleType) -> None:
    parts = {"MLFLOW_DB_HOST": "db", "MLFLOW_DB_USER": "mlflow", "MLFLOW_DB_PASSWORD": "p@ss/w:rd%"}
    given = {**FULL, **parts, "MLFLOW_BACKEND_STORE_URI": ""}
    for arguments in (["server"], ["db-upgrade"]):
        command, environment = entrypoint.plan(arguments, given)
        uri = environment["MLFLOW_BACKEND_STORE_URI"]
        assert uri == "postgresql+psycopg2://mlflow:p%40ss%2Fw%3Ard%25@db:5432/mlflow?sslmode=require"
        assert not any("ss%2Fw" in argument for argument in command)


@pytest.mark.parametrize(
    ("arguments", "change", "message"),
    [
        ([], {"MLFLOW_BACKEND_STORE_URI": ""}, "missing: MLFLOW_DB_HOST, MLFLOW_DB_USER, MLFLOW_DB_PASSWORD"),
        ([], {"MLFLOW_ARTIFACTS_DESTINATION": ""}, "set MLFLOW_ARTIFACTS_DESTINATION"),
        ([], {"MLFLOW_SERVER_ALLOWED_HOSTS": ""}, "set MLFLOW_SERVER_ALLOWED_HOSTS"),
        ([], {"MLFLOW_SERVER_ALLOWED_HOSTS": "a.example, *"}, "would turn the host check off"),
        (["server", "--disable-security-middleware"], {}, "is refused"),
        (["ui"], {}, "unknown command 'ui'"),
    ],
)
def test_what_is_missing_or_unsafe_is_refused(
    arguments: list[str], change: dict[str, str], message: str, entrypoint: ModuleType
) -> None:
    with pytest.raises(entrypoint.StartError, match=message):
        entrypoint.plan(arguments, FULL | change)


def test_the_real_server(tmp_path: Path) -> None:
    """A name that is not allowed is answered 403, and `db-upgrade` works on its tables."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    environment = {
        **{name: value for name, value in os.environ.items() if name != "PYTHONPATH"},
        "MLFLOW_BACKEND_STORE_URI": f"sqlite:///{tmp_path}/mlflow.db",
        "MLFLOW_ARTIFACTS_DESTINATION": str(tmp_path / "artifacts"),
        "MLFLOW_SERVER_ALLOWED_HOSTS": "mlflow.internal",
        "MLFLOW_HOST": "127.0.0.1",
        "MLFLOW_PORT": str(port),
        "MLFLOW_WORKERS": "1",
        "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
    }
    python = ROOT / ".local" / "envs" / "mlflow" / "bin" / "python"
    with (tmp_path / "log").open("wb") as log:
        server = subprocess.Popen(
            [python, ENTRYPOINT, "server"], cwd=tmp_path, env=environment, stdout=log, stderr=subprocess.STDOUT
        )
    try:
        deadline = time.monotonic() + 90
        while True:
            assert server.poll() is None, (tmp_path / "log").read_text()
            assert time.monotonic() < deadline, (tmp_path / "log").read_text()
            try:
                urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=2).close()
                break
            except OSError:
                time.sleep(0.2)

        def status(host: str) -> int:
            url = f"http://127.0.0.1:{port}/api/2.0/mlflow/experiments/search?max_results=1"
            try:
                with urllib.request.urlopen(urllib.request.Request(url, headers={"Host": host}), timeout=30) as answer:
                    return int(answer.status)
            except urllib.error.HTTPError as error:
                return error.code

        assert status("mlflow.internal") == 200
        assert status("evil.example") == 403
    finally:
        server.terminate()
        server.wait(20)
    upgraded = subprocess.run(
        [python, ENTRYPOINT, "db-upgrade"], cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
    )
    assert upgraded.returncode == 0, upgraded.stderr
    refused = subprocess.run([sys.executable, ENTRYPOINT, "ui"], capture_output=True, text=True, check=False)
    assert refused.returncode == 64
