"""A real server in a process of its own, and boto3 clients that talk to it."""

from __future__ import annotations

import io
import json
import os
import signal
import socket
import subprocess
import sys
import tarfile
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import boto3
import httpx
import pytest
from botocore.client import Config

from local.images import Image, write_images

ROOT = Path(__file__).resolve().parents[3]
ACCOUNT = "123456789012"
REGION = "us-east-1"
IMAGE = f"{ACCOUNT}.dkr.ecr.{REGION}.amazonaws.com/mlplatform/serving:0123456789ab"
MISSING_IMAGE = f"{ACCOUNT}.dkr.ecr.{REGION}.amazonaws.com/mlplatform/serving:ffffffffffff"
ROLE = f"arn:aws:iam::{ACCOUNT}:role/sagemaker"


class LocalAws:
    """A server process, its clients, and what a story about endpoints needs in one line each."""

    def __init__(self, state_dir: Path, *options: str) -> None:
        self.state_dir = state_dir
        self._clients: dict[tuple[str, str], Any] = {}
        images = state_dir / "images.json"
        state_dir.mkdir(parents=True, exist_ok=True)
        server = Path(__file__).with_name("model_server.py")
        write_images(images, {IMAGE: Image(entrypoint=[sys.executable, "-S", str(server)], env={"FROM_IMAGE": "yes"})})
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"
        command = [sys.executable, "-m", "local.aws", "--port", str(self.port), "--state-dir", str(state_dir)]
        self.log = (state_dir / "server.log").open("ab")
        self.process = subprocess.Popen(
            [*command, "--images", str(images), *options],
            cwd=ROOT,
            stdout=self.log,
            stderr=self.log,
            env={**os.environ, "AWS_SECRET_IN_OUR_SHELL": "must not reach a container"},
        )
        self.http = httpx.Client(base_url=self.url, verify=False)  # loading certificates takes longer than a test
        self._wait_ready()

    def _wait_ready(self) -> None:
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            try:
                if self.http.get("/_local/health").status_code == 200:
                    return
            except httpx.TransportError:
                time.sleep(0.05)
        raise AssertionError(f"not ready:\n{(self.state_dir / 'server.log').read_text()}")

    def stop(self) -> int:
        """Send SIGTERM and return the exit code."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        code = self.process.wait(30)
        self.http.close()
        self.log.close()
        return code

    def client(self, service: str, region: str = REGION) -> Any:
        """Return a boto3 client that does not retry; the same one each time, as making one is slow."""
        if (service, region) not in self._clients:
            self._clients[service, region] = boto3.session.Session().client(
                service,
                endpoint_url=self.url,
                region_name=region,
                aws_access_key_id="test",
                aws_secret_access_key="test",
                config=Config(retries={"total_max_attempts": 1}, max_pool_connections=32),
            )
        return self._clients[service, region]

    def fault(self, kind: str, endpoint: str | None = None, times: int = 1) -> None:
        """Arm a fault."""
        answer = self.http.post("/_local/faults", json={"kind": kind, "endpoint": endpoint, "times": times})
        assert answer.status_code == 200, answer.text


class Stage:
    """One test's names, and short cuts through the control plane."""

    def __init__(self, aws: LocalAws) -> None:
        self.aws = aws
        self.sm = aws.client("sagemaker")
        self.runtime = aws.client("sagemaker-runtime")
        self.s3 = aws.client("s3")
        self.tag = uuid.uuid4().hex[:8]
        self.bucket = f"models-{self.tag}"
        self.s3.create_bucket(Bucket=self.bucket)

    def upload(self, files: dict[str, str]) -> str:
        """Put a model.tar.gz into S3 and return its URI."""
        key = f"{uuid.uuid4().hex}/model.tar.gz"
        self.s3.put_object(Bucket=self.bucket, Key=key, Body=archive(files))
        return f"s3://{self.bucket}/{key}"

    def model(self, files: dict[str, str] | None = None, image: str = IMAGE, **container: Any) -> str:
        """Create a model and return its name."""
        name = f"model-{uuid.uuid4().hex[:8]}"
        if files is not None:
            container["ModelDataUrl"] = self.upload(files)
        self.sm.create_model(ModelName=name, PrimaryContainer={"Image": image, **container}, ExecutionRoleArn=ROLE)
        return name

    def config(self, *models: str, weights: tuple[float, ...] = (), **variant: Any) -> str:
        """Create an endpoint configuration with a variant for each model (variant-0, …) and return its name."""
        name = f"config-{uuid.uuid4().hex[:8]}"
        variants = [
            {
                "VariantName": f"variant-{i}",
                "ModelName": model,
                "InstanceType": "ml.m5.large",
                "InitialInstanceCount": 1,
                "InitialVariantWeight": weights[i] if weights else 1.0,
                **variant,
            }
            for i, model in enumerate(models)
        ]
        self.sm.create_endpoint_config(EndpointConfigName=name, ProductionVariants=variants)
        return name

    def alarm(self, endpoint: str, metric: str = "Invocation5XXErrors", **changes: Any) -> str:
        """Create an alarm on the share of an endpoint's requests and return its name."""
        name = f"{endpoint}-alarm-{uuid.uuid4().hex[:8]}"
        dimensions = {"EndpointName": endpoint, "VariantName": "variant-0"}
        alarm = {
            "Namespace": "AWS/SageMaker",
            "MetricName": metric,
            "Dimensions": [{"Name": key, "Value": value} for key, value in dimensions.items()],
            "Statistic": "Average",
            "Period": 60,
            "EvaluationPeriods": 3,
            "DatapointsToAlarm": 2,
            "ComparisonOperator": "GreaterThanThreshold",
            "Threshold": 0.01,
            "TreatMissingData": "notBreaching",
        }
        self.aws.client("cloudwatch").put_metric_alarm(AlarmName=name, **{**alarm, **changes})
        return name

    def endpoint(self, config: str, **params: Any) -> str:
        """Create an endpoint, wait until it settles, return its name."""
        name = f"endpoint-{uuid.uuid4().hex[:8]}"
        self.sm.create_endpoint(EndpointName=name, EndpointConfigName=config, **params)
        self.settle(name)
        return name

    def settle(self, endpoint: str, seconds: float = 60.0) -> dict[str, Any]:
        """Wait until nothing is in progress and return the description, with the states seen as "States"."""
        states: list[str] = []
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            found: dict[str, Any] = self.sm.describe_endpoint(EndpointName=endpoint)
            if not states or states[-1] != found["EndpointStatus"]:
                states.append(found["EndpointStatus"])
            if states[-1] in ("InService", "Failed", "UpdateRollbackFailed"):
                return {**found, "States": states}
            time.sleep(0.05)
        raise AssertionError(f"{endpoint} does not settle: {states}")

    def invoke(self, endpoint: str, body: bytes = b"{}", **params: Any) -> Any:
        """Invoke the endpoint and return the body's JSON."""
        params.setdefault("ContentType", "application/json")
        return json.loads(self.runtime.invoke_endpoint(EndpointName=endpoint, Body=body, **params)["Body"].read())


def archive(files: dict[str, str], change: Callable[[tarfile.TarInfo], None] | None = None) -> bytes:
    """Return a tar.gz of the files; `change` may spoil the members."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as tar:
        for name, text in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(text)
            if change:
                change(member)
            tar.addfile(member, io.BytesIO(text.encode()))
    return buffer.getvalue()


@pytest.fixture(scope="session")
def aws(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalAws]:
    """Return one server for all tests of this folder."""
    options = ("--min-state-seconds", "0.25", "--startup-seconds", "5", "--time-scale", "200")
    server = LocalAws(tmp_path_factory.mktemp("aws"), *options, "--capture-seconds", "0.8")
    yield server
    assert server.stop() == 0


@pytest.fixture
def stage(aws: LocalAws) -> Stage:
    """Return fresh names on the shared server."""
    return Stage(aws)


@pytest.fixture(name="archive")
def archive_fixture() -> Callable[..., bytes]:
    """Return the function that makes model archives."""
    return archive


@pytest.fixture
def start_aws() -> Iterator[Callable[..., Stage]]:
    """Return a function that starts a server of the test's own."""
    started: list[LocalAws] = []

    def start(state_dir: Path, *options: str) -> Stage:
        started.append(LocalAws(state_dir, *options))
        return Stage(started[-1])

    yield start
    for server in started:
        server.stop()
