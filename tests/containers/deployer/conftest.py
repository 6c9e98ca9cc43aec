"""Real servers: the local AWS API with the real serving code, and a real MLflow."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))  # for `helpers`, in pytest's import mode "importlib"

from helpers import ARTIFACTS, DATA, IMAGE, REGION, ROOT, ROWS, SavedModel, World

from mlplatform.storage import client
from modelformat import Manifest, digest, write_manifest

ENVS = ROOT / ".local" / "envs"
FIXTURES = ROOT / "tests" / "containers" / "serving" / "fixtures"
PREDICT = """
import json, sys
from pathlib import Path
from modelformat import Predictor
rows, *directories = json.loads(sys.stdin.read())
columns = {name: [row[name] for row in rows] for name in rows[0]}
print(json.dumps([Predictor.load(Path(directory)).predict(columns).tolist() for directory in directories]))
"""


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port: int = free.getsockname()[1]
        return port


def wait_for(url: str, process: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + 180
    while True:
        assert process.poll() is None, log.read_text()
        assert time.monotonic() < deadline, log.read_text()
        try:
            urllib.request.urlopen(url, timeout=2).close()
            return
        except OSError:
            time.sleep(0.1)


def stop(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    try:
        process.wait(15)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait(5)


@pytest.fixture(scope="session")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, str]]:
    """Addresses of MLflow and AWS; the environment of this process points at the latter."""
    folder = tmp_path_factory.mktemp("servers")
    serving = {
        "entrypoint": [str(ENVS / "serving" / "bin" / "python"), "-m", "serving"],
        "env": {"PYTHONPATH": str(ROOT / "containers" / "serving" / "src"), "SERVING_HOST": "127.0.0.1"},
    }
    (folder / "images.json").write_text(json.dumps({IMAGE: serving}))
    tracking_port, aws_port = free_port(), free_port()
    aws_url, tracking_uri = f"http://127.0.0.1:{aws_port}", f"http://127.0.0.1:{tracking_port}"
    plain = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "AWS_ENDPOINT_URL")}
    aws = (
        f"-m local.aws --port {aws_port} --state-dir {folder}/aws --images {folder}/images.json "
        "--time-scale 100 --min-state-seconds 0.2"
    )
    mlflow = (
        f"server --host 127.0.0.1 --port {tracking_port} --workers 1 --backend-store-uri sqlite:///{folder}/mlflow.db "
        f"--artifacts-destination {folder}/mlflow"
    )
    commands = {
        "aws": [ENVS / "dev/bin/python", *aws.split()],
        "mlflow": [ENVS / "mlflow/bin/mlflow", *mlflow.split()],
    }
    processes = {}
    for name, command in commands.items():
        with (folder / f"{name}.log").open("wb") as log:
            processes[name] = subprocess.Popen(
                command,
                cwd=ROOT,
                env={**plain, "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"},
                stdout=log,
                stderr=subprocess.STDOUT,
            )
    patch = pytest.MonkeyPatch()
    try:
        wait_for(f"{aws_url}/_local/health", processes["aws"], folder / "aws.log")
        wait_for(f"{tracking_uri}/health", processes["mlflow"], folder / "mlflow.log")
        patch.setenv("AWS_ENDPOINT_URL", aws_url)
        patch.setenv("AWS_ACCESS_KEY_ID", "local")
        patch.setenv("AWS_SECRET_ACCESS_KEY", "local")
        patch.setenv("AWS_DEFAULT_REGION", REGION)
        client.cache_clear()
        for bucket in (DATA, ARTIFACTS):
            client().create_bucket(Bucket=bucket)
        yield tracking_uri, aws_url
    finally:
        patch.undo()
        for process in processes.values():
            stop(process)


@pytest.fixture(scope="session")
def models(tmp_path_factory: pytest.TempPathFactory) -> list[SavedModel]:
    """Two saved models that answer differently; the expected answers come from the serving environment."""
    content = json.loads((FIXTURES / "logistic.json").read_text(encoding="utf-8"))["manifest"]
    directories = []
    for mean in (400.0, 500.0):
        directory = tmp_path_factory.mktemp("model")
        shutil.copy(FIXTURES / "logistic.onnx", directory / "model.onnx")
        content["features"][0]["mean"] = mean
        write_manifest(directory, Manifest.model_validate_json(json.dumps(content)))
        directories.append(directory)
    done = subprocess.run(
        [ENVS / "serving" / "bin" / "python", "-c", PREDICT],
        input=json.dumps([ROWS, *map(str, directories)]),
        env={**os.environ, "PYTHONPATH": str(ROOT / "containers" / "serving" / "src")},
        capture_output=True,
        text=True,
        check=True,
    )
    return [
        SavedModel(directory, digest(directory), predictions)
        for directory, predictions in zip(directories, json.loads(done.stdout), strict=True)
    ]


@pytest.fixture
def world(servers: tuple[str, str], models: list[SavedModel], request: pytest.FixtureRequest) -> World:
    """A registered model and an endpoint of this test's own."""
    name = request.node.name.removeprefix("test_").replace("_", "-")[:40].strip("-")
    return World(name, *servers, models)
