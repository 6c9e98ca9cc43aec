"""Load on an endpoint of the local SageMaker while a new model takes its place (blue/green): nothing may fail."""

from __future__ import annotations

import contextlib
import io
import json
import os
import socket
import subprocess
import sys
import tarfile
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import boto3
from botocore.client import Config

from benchmarks import machine
from benchmarks.serving_environment import ENVS, ROOT, BenchmarkError, clean_environment, make_model, say, tree_mib
from benchmarks.serving_http import JSON, bodies, exchange, http_request
from local.images import Image, write_images

ENDPOINT, REGION, ACCOUNT = "benchmark", "us-east-1", "123456789012"
IMAGE = f"{ACCOUNT}.dkr.ecr.{REGION}.amazonaws.com/mlplatform/serving:benchmark"
# The local runtime reads service and region of a signature, and does not verify it.
SIGNATURE = (
    f"AWS4-HMAC-SHA256 Credential=test/20260101/{REGION}/sagemaker/aws4_request, SignedHeaders=host, "
    f"Signature={'0' * 64}"
)
CLIENTS = 8
SETTLE_SECONDS = 120.0


def run(seconds: float) -> int:
    """Ask for so long, with the swap in the middle; print what was seen.

    Returns:
        the exit code: 1 if a request failed.

    Raises:
        BenchmarkError: it could not be tried, or the new model did not take over while requests came.
    """
    with tempfile.TemporaryDirectory(prefix="mlp-bench-") as name:
        folder = Path(name)
        with _local_aws(folder) as (port, pid):
            sagemaker, content = _deploy(folder, port)
            body, _ = bodies(content["names"], content["rows"][:1])
            path = f"/endpoints/{ENDPOINT}/invocations"
            request = http_request(path, JSON, body, Authorization=SIGNATURE)
            _expect_version(port, request, "1")
            file = folder / "request"
            file.write_bytes(request)
            before = tree_mib(pid, root=False)
            say(f"{CLIENTS} clients ask for {seconds:.0f} s")
            load = subprocess.Popen(
                [ENVS / "serving/bin/python", "-m", "benchmarks.serving_load", str(port), str(file),
                 "--clients", str(CLIENTS), "--seconds", str(seconds)],
                env={**clean_environment(), "PYTHONPATH": str(ROOT)}, stdout=subprocess.PIPE, text=True,
            )  # fmt: skip
            try:
                time.sleep(seconds / 2)
                say("the new model takes over")
                began = time.monotonic()
                routing = {"Type": "ALL_AT_ONCE", "WaitIntervalInSeconds": 0}
                policy = {"TrafficRoutingConfiguration": routing, "TerminationWaitInSeconds": 0}
                sagemaker.update_endpoint(
                    EndpointName=ENDPOINT,
                    EndpointConfigName="version-2",
                    DeploymentConfig={"BlueGreenUpdatePolicy": policy},
                )
                _settle(sagemaker, "version-2")
                took = time.monotonic() - began
                if load.poll() is not None:
                    raise BenchmarkError(f"the swap took {took:.0f} s and ended after the load: ask for longer")
                _expect_version(port, request, "2")
                output, _ = load.communicate(timeout=seconds + SETTLE_SECONDS)
            finally:
                load.kill()
                load.wait()
            if load.returncode:
                raise BenchmarkError(f"the load generator ended with {load.returncode}")
            seen, after = json.loads(output), tree_mib(pid, root=False)
    print(f"{machine.describe()}\n")
    print("| seconds | requests | failed | p50 ms | p99 ms | swap s | memory MiB at start | at end |")
    print("|---:|---:|---:|---:|---:|---:|---:|---:|")
    print(
        f"| {seconds:.0f} | {seen['requests']:,} | {seen['failed']} | {seen['p50'] or 0:.2f} | {seen['p99'] or 0:.2f} "
        f"| {took:.1f} | {before:,.0f} | {after:,.0f} |"
    )
    if seen["failed"] or not seen["requests"]:
        say(f"error: {seen['failed']} requests failed, {seen['requests']} answered: {seen['first_failure']}")
        return 1
    return 0


@contextlib.contextmanager
def _local_aws(folder: Path) -> Iterator[tuple[int, int]]:
    """Run the local AWS with our server as an image; yields port and process id."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    python, source = ENVS / "serving/bin/python", ROOT / "containers/serving/src"
    if not python.exists():
        raise BenchmarkError(f"{python} is missing: run `make setup`")
    image = Image(entrypoint=[str(python), "-m", "serving"], env={"PYTHONPATH": str(source)})
    write_images(folder / "images.json", {IMAGE: image})
    log = folder / "aws.log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "local.aws", "--port", str(port), "--state-dir", folder / "state",
             "--images", folder / "images.json", "--access-log", "off"],
            cwd=ROOT, env=dict(os.environ), stdout=output, stderr=output,
        )  # fmt: skip
    try:
        deadline = time.monotonic() + 60
        health = b"GET /_local/health HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"
        while True:
            with contextlib.suppress(OSError):
                if exchange(port, health)[0] == 200:
                    break
            if process.poll() is not None or time.monotonic() > deadline:
                raise BenchmarkError(f"the local AWS does not start: {log.read_text(errors='replace')[-1500:]}")
            time.sleep(0.1)
        yield port, process.pid
    finally:
        process.terminate()
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _deploy(folder: Path, port: int) -> tuple[Any, dict[str, Any]]:
    """Make two models and configurations, and an endpoint of the first."""

    def client(service: str) -> Any:
        return boto3.session.Session().client(
            service,
            endpoint_url=f"http://127.0.0.1:{port}",
            region_name=REGION,
            aws_access_key_id="test",
            aws_secret_access_key="test",
            config=Config(retries={"total_max_attempts": 1}),
        )

    s3, sagemaker = client("s3"), client("sagemaker")
    s3.create_bucket(Bucket="models")
    content: dict[str, Any] = {}
    for version in ("1", "2"):
        say(f"making model {version}")
        content = make_model(folder / version, int(version))
        buffer = io.BytesIO()
        with tarfile.open(fileobj=buffer, mode="w:gz") as archive:
            for file in sorted((folder / version / "model").iterdir()):
                archive.add(file, file.name)
        s3.put_object(Bucket="models", Key=f"{version}.tar.gz", Body=buffer.getvalue())
        container = {"Image": IMAGE, "ModelDataUrl": f"s3://models/{version}.tar.gz"}
        name = f"version-{version}"
        sagemaker.create_model(
            ModelName=name,
            PrimaryContainer={**container, "Environment": {"MODEL_VERSION": version}},
            ExecutionRoleArn=f"arn:aws:iam::{ACCOUNT}:role/sagemaker",
        )
        variant = {"VariantName": "primary", "ModelName": name, "InstanceType": "ml.m5.large"}
        sagemaker.create_endpoint_config(
            EndpointConfigName=name,
            ProductionVariants=[{**variant, "InitialInstanceCount": 1, "InitialVariantWeight": 1.0}],
        )
    say("starting the endpoint")
    sagemaker.create_endpoint(EndpointName=ENDPOINT, EndpointConfigName="version-1")
    _settle(sagemaker, "version-1")
    return sagemaker, content


def _settle(sagemaker: Any, config: str) -> None:
    deadline = time.monotonic() + SETTLE_SECONDS
    while time.monotonic() < deadline:
        found = sagemaker.describe_endpoint(EndpointName=ENDPOINT)
        status = found["EndpointStatus"]
        if status == "InService" and found["EndpointConfigName"] == config:
            return
        if status in ("InService", "Failed", "UpdateRollbackFailed"):
            raise BenchmarkError(f"the endpoint does not serve {config}: {found.get('FailureReason', status)}")
        time.sleep(0.2)
    raise BenchmarkError(f"the endpoint does not serve {config} after {SETTLE_SECONDS:.0f} s")


def _expect_version(port: int, request: bytes, version: str) -> None:
    status, body = exchange(port, request)
    if status != 200 or json.loads(body)["model"]["version"] != version:
        raise BenchmarkError(f"model {version} should answer; got {status}: {body[:500]!r}")
