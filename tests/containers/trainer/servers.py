"""Real servers for the trainer's tests: S3 (moto, from the development environment) and MLflow."""

from __future__ import annotations

import itertools
import os
import re
from collections.abc import Iterator

import pytest
from helpers import ENVS, Run, free_port

from mlplatform.storage import client
from tests.processes import server

NUMBERS = itertools.count()


@pytest.fixture(scope="session", autouse=True)
def s3(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """S3 with the three buckets; the environment points every client of this process and its children at it."""
    address = f"http://127.0.0.1:{(port := free_port())}"
    os.environ.update(
        AWS_ENDPOINT_URL=address,
        AWS_DEFAULT_REGION="us-east-1",
        AWS_ACCESS_KEY_ID="test",
        AWS_SECRET_ACCESS_KEY="test",
    )
    command = [ENVS / "dev/bin/python", "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
    log = tmp_path_factory.mktemp("s3") / "log"
    with server(command, f"{address}/moto-api/", log):
        for bucket in ("landing", "data", "artifacts"):
            client().create_bucket(Bucket=bucket)
        client().put_bucket_versioning(Bucket="landing", VersioningConfiguration={"Status": "Enabled"})
        yield address


@pytest.fixture(scope="session")
def mlflow_uri(s3: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """MLflow's own server, artifacts proxied into S3."""
    folder = tmp_path_factory.mktemp("mlflow")
    address = f"http://127.0.0.1:{(port := free_port())}"
    command = [
        *(ENVS / "mlflow/bin/mlflow", "server", "--host", "127.0.0.1", "--port", str(port), "--workers", "1"),
        *("--backend-store-uri", f"sqlite:///{folder}/db", "--artifacts-destination", "s3://artifacts/mlflow"),
    ]
    environment = {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false", "MLFLOW_S3_ENDPOINT_URL": s3}
    with server(command, f"{address}/health", folder / "log", **environment):
        yield address


@pytest.fixture
def run(request: pytest.FixtureRequest) -> Run:
    """An empty run of its own."""
    return Run(re.sub(r"[^a-z0-9]+", "-", request.node.nodeid.split("::", 1)[1].lower()).strip("-"))


@pytest.fixture
def tracked(run: Run, mlflow_uri: str) -> Run:
    """A run of its own with MLflow, an experiment and a registered model."""
    run.tracking_uri = mlflow_uri
    run.model["name"] = run.model["registered_model"] = f"parcels-{next(NUMBERS)}"
    return run


@pytest.fixture
def prepared(tracked: Run) -> Run:
    """A run whose data is prepared."""
    tracked.land_good()
    tracked.done("prepare")
    return tracked
