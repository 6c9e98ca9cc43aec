"""An S3 in memory, and a small task of its own: tests should not change when a real dataset's file does."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from moto import mock_aws

from mlplatform import storage
from mlplatform.config import loading
from mlplatform.config.environment import Settings
from mlplatform.documents.results import TrialResult
from mlplatform.promotion import registry
from mlplatform.training import tracking
from tests.unit.mlplatform.story import Story

MODEL = """
name: parcels
description: Whether a parcel arrives late.
owner: team
registered_model: parcels
task: binary
tables:
  parcels: {trigger: true, columns: {late: {type: integer}, weight: {type: number}}}
  depots: {columns: {depot: {type: string}}}
query: select late, weight, day from parcels
target: late
features: {weight: {type: number}}
split: {kind: time, column: day, validation_days: 2, test_days: 2}
metric: roc_auc
families:
  xgboost:
    params: {max_bin: 64}
    search:
      depth: {low: 2, high: 4, integer: true}
      rate: {low: 0.01, high: 1.0, scale: log}
  linear: {}
  net: {}
policy: {minimum_quality: 0.6, comparison: {margin: 0.01}}
"""
FAMILIES = {
    "xgboost": """
name: xgboost
description: Trees, on a GPU if there is one.
module: trainer.families.xgboost
image: trainer
devices: [cpu, cuda]
tasks: [binary, regression]
parameters:
  depth: {type: integer, default: 6, minimum: 1, maximum: 16}
  rate: {type: number, default: 0.3, above: 0, maximum: 1}
  max_bin: {type: integer, default: 256, minimum: 2}
search:
  depth: {low: 2, high: 8, integer: true}
""",
    "linear": """
name: linear
description: Never on a GPU.
module: trainer.families.linear
image: trainer
tasks: [binary]
parameters:
  penalty: {type: string, default: l2, choices: [l1, l2]}
search: {}
""",
    "net": """
name: net
description: In the image with CUDA only.
module: trainer.families.net
image: trainer_cuda
devices: [cpu, cuda]
distributed: true
tasks: [binary]
parameters:
  width: {type: integer, default: 128, minimum: 1}
  dropout: {type: number, default: 0.1, minimum: 0, maximum: 1}
search:
  width: [64, 128, 256]
  dropout: {low: 0.0, high: 0.5}
""",
    "counts": """
name: counts
description: For numbers only.
module: trainer.families.counts
image: trainer
tasks: [regression]
parameters: {}
search: {}
""",
}
PLATFORM = {
    "environment": "local",
    "aws": {"region": "us-east-1", "account_id": "123456789012"},
    "buckets": {"landing": "landing", "data": "data", "artifacts": "artifacts"},
    "kubernetes": {"kubeconfig": "kubeconfig"},
    "images": {
        "trainer": "trainer:1",
        "trainer_cuda": "trainer-cuda:1",
        "deployer": "deployer:1",
        "serving": "serving:1",
    },
    "mlflow": {"tracking_uri": "http://mlflow.invalid"},
    "serving": {"execution_role_arn": "arn:aws:iam::123456789012:role/serving"},
}
ROOT = Path(__file__).parents[3]


@pytest.fixture
def bundle(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A bundle with the project's settings and the small task, used wherever none is named."""
    (tmp_path / "config" / "models").mkdir(parents=True)
    for name in ("base.yaml", "local.yaml"):
        (tmp_path / "config" / name).write_text((ROOT / "config" / name).read_text())
    (tmp_path / "config" / "models" / "parcels.yaml").write_text(MODEL)
    (tmp_path / "config" / "families").mkdir()
    for name, text in FAMILIES.items():
        (tmp_path / "config" / "families" / f"{name}.yaml").write_text(text)
    (tmp_path / "platform.json").write_text(json.dumps(PLATFORM))
    found = (loading.load_settings, loading.load_model, loading.load_dataset, loading.model_names)
    for function in (*found, loading.enabled_datasets, loading.family_names, loading.load_family, loading.check_model):
        defaults = tuple(tmp_path if value == loading.BUNDLE else value for value in function.__defaults__ or ())
        monkeypatch.setattr(function, "__defaults__", defaults)
    return tmp_path


@pytest.fixture
def settings(bundle: Path) -> Settings:
    """Settings of the local environment."""
    return loading.load_settings()


@pytest.fixture
def s3(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """An S3 with the platform's buckets; landing and data are versioned, as everywhere."""
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "testing")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "testing")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    monkeypatch.delenv("AWS_ENDPOINT_URL", raising=False)
    storage.client.cache_clear()
    with mock_aws():
        client = storage.client()
        for bucket in ("landing", "data", "artifacts"):
            client.create_bucket(Bucket=bucket)
            client.put_bucket_versioning(Bucket=bucket, VersioningConfiguration={"Status": "Enabled"})
        yield client
    storage.client.cache_clear()


class FakeRegistry:
    """The part of MlflowClient that the library uses, in memory."""

    def __init__(self) -> None:
        self.experiments: dict[str, SimpleNamespace] = {}
        self.runs: dict[str, SimpleNamespace] = {}
        self.models: dict[str, str] = {}
        self.model_tags: dict[str, str] = {}
        self.versions: list[SimpleNamespace] = []
        self.aliases: dict[str, str] = {}

    def create_registered_model(self, name: str, description: str) -> None:
        from mlflow.exceptions import RESOURCE_ALREADY_EXISTS, MlflowException

        if name in self.models:
            raise MlflowException("exists", error_code=RESOURCE_ALREADY_EXISTS)
        self.models[name] = description

    def set_registered_model_tag(self, name: str, key: str, value: str) -> None:
        assert name in self.models
        self.model_tags[key] = value

    def search_model_versions(self, query: str, max_results: int) -> list[SimpleNamespace]:
        return [
            version
            for version in self.versions
            if all(f"tags.`{key}` = '{version.tags[key]}'" in query for key in ("run_key", "trial"))
        ][:max_results]

    def create_model_version(self, name: str, **fields: Any) -> SimpleNamespace:
        version = SimpleNamespace(name=name, version=str(len(self.versions) + 1), **fields)
        self.versions.append(version)
        return version

    def set_registered_model_alias(self, name: str, alias: str, version: str) -> None:
        self.aliases[alias] = version

    def get_model_version_by_alias(self, name: str, alias: str) -> SimpleNamespace:
        from mlflow.exceptions import INVALID_PARAMETER_VALUE, MlflowException

        if alias not in self.aliases:
            raise MlflowException("no alias", error_code=INVALID_PARAMETER_VALUE)
        return SimpleNamespace(version=self.aliases[alias])

    def get_model_version(self, name: str, version: str) -> SimpleNamespace:
        from mlflow.exceptions import RESOURCE_DOES_NOT_EXIST, MlflowException

        for known in self.versions:
            if (known.name, known.version) == (name, version):
                return known
        raise MlflowException("no version", error_code=RESOURCE_DOES_NOT_EXIST)

    def set_model_version_tag(self, name: str, version: str, key: str, value: str) -> None:
        next(v for v in self.versions if v.version == version).tags[key] = value

    def get_run(self, run_id: str) -> SimpleNamespace:
        return SimpleNamespace(info=SimpleNamespace(artifact_uri=f"mlflow-artifacts:/1/{run_id}/artifacts"))

    def get_experiment_by_name(self, name: str) -> SimpleNamespace | None:
        return self.experiments.get(name)

    def create_experiment(self, name: str) -> str:
        self.experiments[name] = SimpleNamespace(experiment_id=f"exp-{name}", lifecycle_stage="active")
        return f"exp-{name}"

    def search_runs(
        self, experiments: list[str], query: str, max_results: int, order_by: list[str]
    ) -> list[SimpleNamespace]:
        wanted = dict(re.findall(r"tags\.(\w+) = '([^']*)'", query))
        return [
            run
            for run in self.runs.values()
            if run.info.experiment_id in experiments and wanted.items() <= run.tags.items()
        ][:max_results]

    def create_run(self, experiment: str, tags: dict[str, str], run_name: str) -> SimpleNamespace:
        run_id = f"search-{len(self.runs) + 1}"
        info = SimpleNamespace(run_id=run_id, experiment_id=experiment, status="RUNNING", run_name=run_name)
        self.runs[run_id] = SimpleNamespace(info=info, tags=tags, params={}, metrics={})
        return self.runs[run_id]

    def update_run(self, run_id: str, status: str) -> None:
        self.runs[run_id].info.status = status

    set_terminated = update_run

    def log_batch(self, run_id: str, params: list[Any]) -> None:
        for param in params:
            # As MLflow: a parameter that was logged does not change.
            assert self.runs[run_id].params.setdefault(param.key, param.value) == param.value

    def log_metric(self, run_id: str, key: str, value: float) -> None:
        self.runs[run_id].metrics[key] = value

    def set_tag(self, run_id: str, key: str, value: str) -> None:
        self.runs[run_id].tags[key] = value


@pytest.fixture
def fake_registry(monkeypatch: pytest.MonkeyPatch) -> FakeRegistry:
    """A model registry in memory."""
    fake = FakeRegistry()
    for module in (registry, tracking):
        monkeypatch.setattr(module, "client", lambda uri: fake)
    return fake


def trained(trial: int, **metrics: float | None) -> TrialResult:
    """Make the result of a trial that came to its end."""
    return TrialResult(
        trial=trial,
        status="succeeded",
        family="xgboost",
        params={"depth": trial},
        metrics=metrics,
        run_id=f"run-{trial}",
        model_uri=f"runs:/run-{trial}/model",
        model_digest=f"digest-{trial}",
        fit_seconds=1.0,
        gpu_seconds=360.0,
    )


@pytest.fixture
def make_trained() -> Any:
    """Return the function that makes results of trials."""
    return trained


@pytest.fixture
def story(settings: Settings, s3: Any, fake_registry: Any, make_trained: Any) -> Story:
    return Story(settings, s3, fake_registry, make_trained)
