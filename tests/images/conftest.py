"""A Docker engine of the tests' own, and the images built by it. Without Docker and root, what needs it is skipped."""

from __future__ import annotations

import os
import platform
import subprocess
import time
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from cloud import images as release
from local.docker.base_image import ensure_base_image
from local.docker.engine import KEEP_GB, Engine, Unavailable
from local.emulators.emulated import registry_host
from local.emulators.names import ACCOUNT, REGION
from local.platform.ports import any_free_port
from mlplatform import storage
from tests.images.index import authorities, private_index
from tests.images.pipeline import Run
from tests.images.support import CACHE, ENVS, NAMES, Images, free_port


@pytest.fixture(scope="session")
def account_port() -> int:
    """Where the emulated account will be, if a test wants one: the engine is told before."""
    return any_free_port()


@pytest.fixture(scope="session")
def engine(account_port: int) -> Iterator[Engine]:
    """An engine that ends with the tests, however they end; it knows the emulated account's registry."""
    registry = {"registry": registry_host(ACCOUNT, REGION), "proxy": f"http://127.0.0.1:{account_port}"}
    try:
        if platform.machine() != "x86_64":
            raise Unavailable(f"the images are for {release.PLATFORM}, this machine is {platform.machine()}")
        with Engine(CACHE / "docker", **registry) as engine:
            yield engine
    except Unavailable as reason:
        pytest.skip(str(reason))


@pytest.fixture(scope="session")
def index_asked(tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[str]]:
    """Builds get their packages by way of an index with a password, a secret of theirs; yield what it was asked for."""
    with private_index() as (address, asked), pytest.MonkeyPatch.context() as environment:
        index = tmp_path_factory.mktemp("secrets") / "index"
        index.write_text(f"PIP_INDEX_URL={address}\nUV_DEFAULT_INDEX={address}\n", encoding="utf-8")
        environment.setenv(release.SECRETS["index"], str(index))
        if trusted := authorities():
            environment.setenv(release.SECRETS["ca"], str(trusted))
        yield asked


@pytest.fixture(scope="session")
def images(engine: Engine, index_asked: list[str], request: pytest.FixtureRequest) -> Iterator[Images]:
    """The images; those that the selected tests name are begun at once, the largest beside the others."""
    try:
        base_image = ensure_base_image(engine)
    except Unavailable as reason:
        pytest.skip(str(reason))
    with ThreadPoolExecutor(2) as pool:
        images = Images(engine, base_image, pool)
        specs = [getattr(item, "callspec", None) for item in request.session.items]
        wanted = {spec.params.get("name") for spec in specs if spec} & set(NAMES)
        images.announce(sorted(wanted, key=lambda name: (name != "trainer_cuda", NAMES.index(name))))
        yield images
        pool.shutdown(cancel_futures=True)
        engine.attempt("image", "prune", "--force")  # those that lost their name to a newer build
        engine.attempt("builder", "prune", "--force", f"--keep-storage={KEEP_GB}GB")


@pytest.fixture(scope="session")
def s3(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """S3 with the three buckets; yield the variables that lead a container on the machine's network to it."""
    port = free_port()
    variables = {
        "AWS_ENDPOINT_URL": f"http://127.0.0.1:{port}",
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
    }
    log = tmp_path_factory.mktemp("s3") / "log"
    command = [str(ENVS / "dev/bin/python"), "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
    with log.open("wb") as output, pytest.MonkeyPatch.context() as environment:
        process = subprocess.Popen(command, stdout=output, stderr=output, env={**os.environ, "PYTHONPATH": ""})
        try:
            _wait(f"{variables['AWS_ENDPOINT_URL']}/moto-api/", process, log)
            for name, value in variables.items():
                environment.setenv(name, value)
            storage.client.cache_clear()
            for bucket in ("landing", "data", "artifacts"):
                storage.client().create_bucket(Bucket=bucket)
            storage.client().put_bucket_versioning(Bucket="landing", VersioningConfiguration={"Status": "Enabled"})
            yield variables
        finally:
            process.terminate()
            process.wait()


@pytest.fixture(scope="session")
def mlflow(images: Images, s3: dict[str, str]) -> Iterator[str]:
    """The address of MLflow, out of its own image."""
    port = free_port()
    address = f"http://127.0.0.1:{port}"
    environment = {
        **s3,
        "MLFLOW_S3_ENDPOINT_URL": s3["AWS_ENDPOINT_URL"],
        "MLFLOW_BACKEND_STORE_URI": "sqlite:////tmp/mlflow.db",
        "MLFLOW_ARTIFACTS_DESTINATION": "s3://artifacts/mlflow",
        "MLFLOW_SERVER_ALLOWED_HOSTS": "127.0.0.1:*",
        "MLFLOW_HOST": "127.0.0.1",
        "MLFLOW_PORT": str(port),
        "MLFLOW_WORKERS": "1",
    }
    with images.serve("mlflow", f"{address}/health", environment=environment):
        yield address


@pytest.fixture(scope="session")
def prepared(images: Images, s3: dict[str, str]) -> Run:
    """A run whose data the trainer's image has validated and prepared."""
    run = Run("prepared")
    run.land_good()
    run.write()
    for step in ("validate", "prepare"):
        done = images.run("trainer", *run.arguments(step), environment=s3, network="host")
        assert done.returncode == 0, done.stderr
    return run


def _wait(url: str, process: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + 60
    while True:
        try:
            urllib.request.urlopen(url, timeout=2).close()
            return
        except OSError:
            assert process.poll() is None, log.read_text()
            assert time.monotonic() < deadline, log.read_text()
        time.sleep(0.1)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Give the tests the time of a whole build: the first one to ask for an image waits for it."""
    here = Path(__file__).parent
    for item in items:
        if item.path.is_relative_to(here):
            item.add_marker(pytest.mark.timeout(1800))
