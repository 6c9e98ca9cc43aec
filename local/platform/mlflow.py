"""MLflow: tracking server and model registry on PostgreSQL, artifacts proxied to S3."""

from __future__ import annotations

from pathlib import Path

from local.platform.facts import BUCKETS, Facts
from local.platform.home import environment_python
from local.platform.ports import LOOPBACK
from local.platform.postgres import database_url
from local.platform.probes import get
from local.platform.service import Command, Service


def service(facts: Facts) -> Service:
    """Describe the service."""
    folder = facts.home.folder("mlflow")
    port = facts.ports["mlflow"]

    def command() -> Command:
        argv: list[str | Path] = [
            *(environment_python("mlflow"), "-P", "-m", "mlflow", "server"),
            *("--host", LOOPBACK, "--port", str(port), "--workers", "1"),
            *("--serve-artifacts", "--artifacts-destination", f"s3://{BUCKETS['artifacts']}/mlflow"),
            # The host check stays on: these names, and no others, may be in a request's Host header.
            *("--allowed-hosts", f"localhost:{port},{LOOPBACK}:{port}"),
            *("--cors-allowed-origins", f"http://localhost:{port},http://{LOOPBACK}:{port}"),
        ]
        environment = {
            **facts.base_environment,
            **facts.aws_environment,
            "MLFLOW_BACKEND_STORE_URI": database_url(facts, "psycopg2", "mlflow"),  # not in argv: `ps` shows that
            "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",  # its job runner is eight more processes
            "MLFLOW_DISABLE_TELEMETRY": "true",
            "DO_NOT_TRACK": "true",
        }
        return Command(argv, environment, folder)

    return Service(
        name="mlflow",
        needs=("postgres",),
        command=command,
        prepare=lambda: folder.mkdir(exist_ok=True),
        ready=lambda: _check(facts),
        port=port,
        start_timeout=120,
    )


def _check(facts: Facts) -> None:
    get(f"{facts.mlflow_url}/health")
