"""MLflow: a run per trial, and the registered models that evaluation compares."""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mlplatform.config import RunConfig, Scalar
from mlplatform.steps import Refused
from trainer import shutdown

log = logging.getLogger(__name__)

MODEL_PATH = "model"
"""Artifact path of a run's model."""
CHAMPION = "champion"


def import_mlflow() -> Any:
    """Import MLflow without pandas, as in the image, where pandas is installed too: 1.2 s instead of 1.7 s."""
    if "mlflow" in sys.modules:
        return sys.modules["mlflow"]
    hide = "pandas" not in sys.modules
    if hide:
        sys.modules["pandas"] = None  # type: ignore[assignment]  # makes importing it an ImportError
    try:
        import mlflow
    finally:
        if hide:
            sys.modules.pop("pandas", None)
    return mlflow


def connect(tracking_uri: str) -> Any:
    """Return a client of the tracking server and its model registry."""
    # Progress bars have no place in a pod's log.
    os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
    os.environ.setdefault("MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT", "true")
    mlflow = import_mlflow()
    return mlflow.MlflowClient(tracking_uri=tracking_uri, registry_uri=tracking_uri)


@dataclass(frozen=True)
class TrialRun:
    """The open MLflow run of a trial."""

    client: Any
    run_id: str
    artifact_uri: str

    @property
    def model_uri(self) -> str:
        """Where the registry finds the run's model, once logged."""
        return f"{self.artifact_uri}/{MODEL_PATH}"

    def log_model(self, directory: Path) -> None:
        """Upload an MLflow model directory."""
        self.client.log_artifacts(self.run_id, str(directory), MODEL_PATH)

    def log(self, params: Mapping[str, Scalar], metrics: Mapping[str, float | None], timestamp_ms: int) -> None:
        """Log parameters and metrics in one request; a metric that could not be computed is left out."""
        from mlflow.entities import Metric, Param

        self.client.log_batch(
            self.run_id,
            metrics=[Metric(k, v, timestamp_ms, 0) for k, v in metrics.items() if v is not None],
            params=[Param(k, str(v)) for k, v in params.items()],
        )


@contextmanager
def trial_run(config: RunConfig, name: str, tags: Mapping[str, str]) -> Iterator[TrialRun]:
    """Open the MLflow run of a trial and close it as what became of it.

    A trial that is tried again continues its earlier run, so a trial never has two.

    Args:
        tags: identify the run; the run key and the trial's number must be among them.
    """
    client = connect(config.tracking_uri)
    experiment = _experiment(client, config.model.name)
    found = client.search_runs(
        [experiment],
        f"tags.run_key = '{tags['run_key']}' and tags.trial = '{tags['trial']}'",
        max_results=1,
        order_by=["attributes.start_time ASC"],
    )
    if found:
        run = found[0]
        log.info("MLflow run %s of an earlier attempt is continued", run.info.run_id)
        client.update_run(run.info.run_id, status="RUNNING")
    else:
        run = client.create_run(experiment, tags=dict(tags), run_name=name)
    try:
        with shutdown.on_stop(lambda: client.set_terminated(run.info.run_id, "KILLED")):
            yield TrialRun(client, run.info.run_id, run.info.artifact_uri)
    except BaseException:
        try:
            client.set_terminated(run.info.run_id, "FAILED")
        except Exception:  # the first error is the one to report
            log.exception("MLflow run %s could not be closed", run.info.run_id)
        raise
    client.set_terminated(run.info.run_id, "FINISHED")


def _experiment(client: Any, name: str) -> str:
    """Return an experiment's id, making it if need be; trials that start together may all try."""
    from mlflow.exceptions import MlflowException

    found = client.get_experiment_by_name(name)
    if found is None:
        try:
            created: str = client.create_experiment(name)
            return created
        except MlflowException as error:
            if error.error_code != "RESOURCE_ALREADY_EXISTS":
                raise
        found = client.get_experiment_by_name(name)
    if found.lifecycle_stage != "active":
        raise Refused(f"MLflow experiment {name!r} is deleted; restore it", kind="bad-config")
    experiment: str = found.experiment_id
    return experiment


@dataclass(frozen=True)
class RegisteredVersion:
    """A version of a registered model."""

    name: str
    version: str
    run_id: str
    source: str


def get_version(client: Any, name: str, version: str) -> RegisteredVersion:
    """Look up a model version.

    Raises:
        Refused: there is none.
    """
    from mlflow.exceptions import MlflowException

    try:
        found = client.get_model_version(name, version)
    except MlflowException as error:
        if error.error_code == "RESOURCE_DOES_NOT_EXIST":
            raise Refused(f"registered model {name} has no version {version}", kind="bad-config") from None
        raise
    return RegisteredVersion(name, str(found.version), found.run_id, found.source)


def get_champion(client: Any, name: str) -> RegisteredVersion | None:
    """Return the version that alias `champion` names now, or None where the alias is not set."""
    from mlflow.exceptions import MlflowException

    try:
        found = client.get_model_version_by_alias(name, CHAMPION)
    except MlflowException as error:
        # The server answers an alias that is not set with the one or the other, depending on its store.
        if error.error_code == "RESOURCE_DOES_NOT_EXIST":
            return None
        if error.error_code == "INVALID_PARAMETER_VALUE" and "alias" in str(error).lower():
            return None
        raise
    return RegisteredVersion(name, str(found.version), found.run_id, found.source)


def download_model(tracking_uri: str, version: RegisteredVersion, folder: Path) -> Path:
    """Download a version's saved model (not the MLflow packaging around it) and return its directory."""
    from trainer.packaging import DATA

    mlflow = import_mlflow()
    folder.mkdir(parents=True)
    path = mlflow.artifacts.download_artifacts(
        artifact_uri=f"{version.source}/{DATA}", dst_path=str(folder), tracking_uri=tracking_uri
    )
    return Path(path)
