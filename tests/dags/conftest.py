"""A DAG bundle as MWAA or the local platform would have it, assembled once, before anything imports Airflow."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import sys
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel

ROOT = Path(__file__).parents[2]

PLATFORM = {
    "environment": "local",
    "git_sha": "0" * 40,
    "aws": {"region": "us-east-1", "account_id": "123456789012"},
    "buckets": {"landing": "landing-bucket", "data": "data-bucket", "artifacts": "artifacts-bucket"},
    "kubernetes": {"kubeconfig": "kubeconfig", "context": "local"},
    "images": {
        "trainer": "123456789012.dkr.ecr.us-east-1.amazonaws.com/mlplatform/trainer:aaaaaaaaaaaa",
        "trainer_cuda": "123456789012.dkr.ecr.us-east-1.amazonaws.com/mlplatform/trainer-cuda:dddddddddddd",
        "deployer": "123456789012.dkr.ecr.us-east-1.amazonaws.com/mlplatform/deployer:bbbbbbbbbbbb",
        "serving": "123456789012.dkr.ecr.us-east-1.amazonaws.com/mlplatform/serving:cccccccccccc",
    },
    "mlflow": {"tracking_uri": "http://mlflow.invalid:5000"},
    "serving": {"execution_role_arn": "arn:aws:iam::123456789012:role/serving"},
    "notifications": {"topic_arn": "arn:aws:sns:us-east-1:123456789012:training"},
}


def assemble(target: Path, environment: str = "local", **facts: Any) -> Path:
    """Make a bundle: the DAG folder as it is, the configuration, and what a platform adds."""
    shutil.copytree(ROOT / "dags", target, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copytree(ROOT / "config", target / "config", dirs_exist_ok=True)
    (target / "platform.json").write_text(json.dumps({**PLATFORM, "environment": environment, **facts}))
    (target / "kubeconfig").write_text("{}")
    return target


_HOME = Path(tempfile.mkdtemp(prefix="dag-tests-"))
_BUNDLE = assemble(_HOME / "bundle")
SETTINGS = {
    "AIRFLOW_HOME": str(_HOME),
    "AIRFLOW__CORE__DAGS_FOLDER": str(_BUNDLE),
    "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
    "AIRFLOW__CORE__UNIT_TEST_MODE": "False",
    "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": f"sqlite:///{_HOME / 'airflow.db'}",
    "AIRFLOW__LOGGING__BASE_LOG_FOLDER": str(_HOME / "logs"),
    # What the local Kubernetes API is made to refuse is asked for again without a pause.
    "AIRFLOW__WORKERS__API_RETRY_WAIT_MIN": "0.1",
    "AIRFLOW__WORKERS__API_RETRY_WAIT_MAX": "0.2",
    "AIRFLOW__USAGE_DATA_COLLECTION__ENABLED": "False",
    "AWS_ACCESS_KEY_ID": "testing",
    "AWS_SECRET_ACCESS_KEY": "testing",
    "AWS_DEFAULT_REGION": "us-east-1",
    # Nothing listens there: a test that forgets to fake S3 fails at once instead of asking AWS.
    "AWS_ENDPOINT_URL": "http://127.0.0.1:9",
}
os.environ.update(SETTINGS)
# The bundle comes before the source tree, so that `mlplatform` finds the bundle's configuration.
sys.path.insert(0, str(_BUNDLE))


def pytest_unconfigure() -> None:
    """Leave nothing behind."""
    shutil.rmtree(_HOME, ignore_errors=True)


@pytest.fixture(scope="session", name="assemble")
def _assemble() -> Any:
    """Return the function that makes a bundle."""
    return assemble


@pytest.fixture(scope="session")
def bundle() -> Path:
    """Folder of the assembled bundle."""
    return _BUNDLE


@pytest.fixture(scope="session")
def dags(bundle: Path) -> dict[str, Any]:
    """All DAGs, imported as a DAG processor would."""
    from airflow.dag_processing.dagbag import DagBag

    bag = DagBag(str(bundle))
    assert bag.import_errors == {}
    return dict(bag.dags)


@pytest.fixture(scope="session")
def dag(dags: dict[str, Any]) -> Any:
    """The training of a dataset."""
    return dags["train__flights"]


@pytest.fixture(scope="session")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """A local Kubernetes API, for all tests that leave nothing in it."""
    from tests.dags.cluster import Cluster

    running = Cluster(tmp_path_factory.mktemp("kubernetes"))
    yield running
    running.stop()


@pytest.fixture
def s3(monkeypatch: pytest.MonkeyPatch) -> dict[str, bytes]:
    """An S3 of nothing, to be filled."""
    from mlplatform import storage

    content: dict[str, bytes] = {}
    monkeypatch.setattr(storage, "try_read_bytes", lambda uri, version_id=None: content.get(uri))
    return content


@pytest.fixture
def objects(monkeypatch: pytest.MonkeyPatch) -> dict[str, bytes]:
    """An S3 that is a dictionary and can be written to; its conditional puts are as S3's."""
    from mlplatform import storage

    content: dict[str, bytes] = {}
    lock = threading.Lock()

    def etag(uri: str) -> str | None:
        return hashlib.md5(content[uri], usedforsecurity=False).hexdigest() if uri in content else None

    def write(uri: str, body: bytes, *, content_type: str = "") -> None:
        content[uri] = body

    def put_if(uri: str, document: BaseModel, there: str | None) -> str | None:
        with lock:
            if etag(uri) != there:
                return None
            content[uri] = document.model_dump_json().encode()
            return etag(uri)

    def get(uri: str, version_id: str | None = None) -> tuple[bytes, str] | None:
        with lock:
            found = etag(uri)
            return None if found is None else (content[uri], found)

    monkeypatch.setattr(storage, "write_bytes", write)
    monkeypatch.setattr(storage, "create_document", lambda uri, document: put_if(uri, document, None))
    monkeypatch.setattr(storage, "replace_document", put_if)
    monkeypatch.setattr(storage, "_get", get)
    monkeypatch.setattr(
        storage,
        "list_objects",
        lambda uri: iter([{"Key": storage.split_uri(one)[1]} for one in sorted(content) if one.startswith(uri)]),
    )
    return content


@pytest.fixture
def no_connection(monkeypatch: pytest.MonkeyPatch) -> None:
    """Refuse to look up a connection: all that is needed of a cluster is in the kubeconfig."""
    from airflow.sdk import BaseHook

    def refuse(*args: Any) -> None:
        raise AssertionError("a connection was looked up")

    monkeypatch.setattr(BaseHook, "get_connection", refuse)
