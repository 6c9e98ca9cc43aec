"""MLflow: a run per trial, and the saved models of registered versions."""

from __future__ import annotations

import json
import logging
import math
import os
import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from mlplatform.config.base import Scalar
from mlplatform.documents.run import RunConfig
from mlplatform.promotion import registry
from mlplatform.promotion.registry import TAG_LIMIT, Version
from mlplatform.training.tracking import ensure_experiment
from trainer import shutdown
from trainer.session import Stopped

log = logging.getLogger(__name__)

MODEL_PATH = "model"
"""Artifact path of a run's model."""
OUTCOME = "outcome"
"""Tag of a trial's run: status of its `TrialResult`."""
REASON = "reason"
"""Tag of a trial's run: why it did not succeed."""
FLUSH_SECONDS = 5.0
METRICS_PER_REQUEST = 1000
"""What MLflow takes at most in a request."""


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
    """Return the process's client of the tracking server and its model registry; MLflow is imported from here on."""
    # Progress bars have no place in a pod's log.
    os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
    os.environ.setdefault("MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT", "true")
    import_mlflow()
    return registry.client(tracking_uri)


class MetricLog:
    """Metrics of a run on their way to MLflow: taken at once, sent by a thread of its own.

    A step's metrics are sent in one request, so a step is in MLflow whole or not at all.
    """

    def __init__(self, client: Any, run_id: str, every: float = FLUSH_SECONDS) -> None:
        self._client = client
        self._run_id = run_id
        self._every = every
        self._waiting: list[list[Any]] = []
        self._taking = threading.Lock()
        self._sending = threading.Lock()
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._send_now_and_then, name=f"metrics-{run_id}", daemon=True)
        self._thread.start()

    def add(self, step: int, metrics: Mapping[str, float], timestamp_ms: int | None = None) -> None:
        """Take a step's metrics; those that are no finite number are left out."""
        from mlflow.entities import Metric

        at = int(time.time() * 1000) if timestamp_ms is None else timestamp_ms
        batch = [Metric(name, float(value), at, step) for name, value in metrics.items() if math.isfinite(value)]
        if batch:
            with self._taking:
                self._waiting.append(batch)

    def flush(self) -> None:
        """Send all that waits, and return when MLflow has it.

        Raises:
            MlflowException: it does not take them; they wait on.
        """
        with self._sending:
            while True:
                with self._taking:
                    count, size = 0, 0
                    for batch in self._waiting:
                        if count and size + len(batch) > METRICS_PER_REQUEST:
                            break
                        count, size = count + 1, size + len(batch)
                    batches = self._waiting[:count]
                if not batches:
                    return
                self._client.log_batch(self._run_id, metrics=[metric for batch in batches for metric in batch])
                with self._taking:
                    del self._waiting[:count]

    def close(self) -> None:
        """End the thread. What still waits is for `flush`."""
        self._closing.set()

    def _send_now_and_then(self) -> None:
        while not self._closing.wait(self._every):
            try:
                self.flush()
            except Exception as error:  # training goes on; the flush at its end is the one that has to succeed
                log.warning("MLflow run %s: metrics wait: %s", self._run_id, error)


@dataclass
class TrialRun:
    """The open MLflow run of a trial."""

    client: Any
    run_id: str
    artifact_uri: str
    start_time_ms: int
    metrics: MetricLog
    ended: bool = False

    @property
    def model_uri(self) -> str:
        """Where the registry finds the run's model, once logged."""
        return f"{self.artifact_uri}/{MODEL_PATH}"

    def log_files(self, directory: Path) -> None:
        """Upload a directory's content to the run's artifacts."""
        self.client.log_artifacts(self.run_id, str(directory))

    def log_params(self, params: Mapping[str, Scalar]) -> None:
        """Log parameters."""
        from mlflow.entities import Param

        self.client.log_batch(self.run_id, params=[Param(name, str(value)) for name, value in params.items()])

    def log_inputs(self, inputs: Sequence[Input]) -> None:
        """Log what data the run reads; the same a second time changes nothing."""
        from mlflow.entities import Dataset, DatasetInput, InputTag
        from mlflow.exceptions import MlflowException

        datasets = [
            DatasetInput(
                Dataset(
                    name=item.name,
                    digest=item.digest,
                    source_type="s3",
                    source=json.dumps({"uri": item.source}),
                    schema=json.dumps({"mlflow_colspec": _colspec(item.features)}),
                    profile=json.dumps({"num_rows": item.rows, "num_features": len(item.features)}),
                ),
                [InputTag("mlflow.data.context", item.context)],
            )
            for item in inputs
        ]
        try:
            self.client.log_inputs(self.run_id, datasets)
        except MlflowException as error:
            # Trials that start together all make the dataset, and MLflow hands the database's complaint on to the
            # later ones. Now it is there.
            if "unique" not in str(error).lower():
                raise
            self.client.log_inputs(self.run_id, datasets)

    def logged_steps(self, name: str) -> set[int]:
        """Return the steps for which MLflow has a metric."""
        return {int(metric.step) for metric in self.client.get_metric_history(self.run_id, name)}

    def end(self, status: Literal["FINISHED", "FAILED", "KILLED"], tags: Mapping[str, str]) -> None:
        """Send what waits and close the run as what became of it.

        Raises:
            MlflowException: the server does not answer.
        """
        self.metrics.close()
        self.metrics.flush()
        for name, value in tags.items():
            self.client.set_tag(self.run_id, name, value[:TAG_LIMIT])
        self.client.set_terminated(self.run_id, status)
        self.ended = True


@dataclass(frozen=True)
class Input:
    """A data set that a run reads.

    Attributes:
        digest: identity of its content, at most 36 characters.
        uris: of its files, which lie in one folder.
        features: type of each column, as MLflow calls it.
        context: what for.
    """

    name: str
    digest: str
    uris: Sequence[str]
    features: Mapping[str, str]
    rows: int
    context: Literal["training", "validation"]

    @property
    def source(self) -> str:
        """Address of the file, or of the folder of several."""
        return self.uris[0] if len(self.uris) == 1 else self.uris[0].rpartition("/")[0] + "/"


def _colspec(features: Mapping[str, str]) -> list[dict[str, Any]]:
    return [{"type": kind, "name": name, "required": False} for name, kind in features.items()]


@contextmanager
def trial_run(
    config: RunConfig, name: str, tags: Mapping[str, str], params: Mapping[str, Scalar]
) -> Iterator[TrialRun]:
    """Open the MLflow run of a trial, nested in the search's.

    A trial that is tried again continues its earlier run, so a trial never has two. Whoever uses it ends it; if the
    block is left before, the run is KILLED where the process was told to stop, else FAILED.

    Args:
        tags: identify the run; the run key and the trial's number must be among them.
        params: of the trial. An earlier run with others (the study was lost) is deleted, not continued.
    """
    client = connect(config.tracking_uri)
    experiment = ensure_experiment(client, config.model.name)
    run = None
    for found in client.search_runs(
        [experiment],
        f"tags.run_key = '{tags['run_key']}' and tags.trial = '{tags['trial']}'",
        order_by=["attributes.start_time ASC"],
    ):
        if run is None and all(found.data.params.get(key, str(value)) == str(value) for key, value in params.items()):
            run = found
        else:
            log.warning("MLflow run %s is of the same trial with other parameters; it is deleted", found.info.run_id)
            client.delete_run(found.info.run_id)
    if run is not None:
        log.info("MLflow run %s of an earlier attempt is continued", run.info.run_id)
        client.update_run(run.info.run_id, status="RUNNING")
        for key in {OUTCOME, REASON} & run.data.tags.keys():
            client.delete_tag(run.info.run_id, key)
    else:
        parent = {"mlflow.parentRunId": config.parent_run_id} if config.parent_run_id else {}
        source = {"mlflow.source.type": "JOB", "mlflow.source.name": "trainer"}
        if commit := config.lineage.get("git_sha"):
            source["mlflow.source.git.commit"] = commit
        run = client.create_run(experiment, tags={**source, **parent, **tags}, run_name=name)
    tracked = TrialRun(
        client, run.info.run_id, run.info.artifact_uri, run.info.start_time, MetricLog(client, run.info.run_id)
    )
    try:
        with shutdown.on_stop(lambda: _leave(tracked, "KILLED", {REASON: "the process was told to stop"})):
            yield tracked
    except BaseException as error:
        if not tracked.ended:
            stopped = isinstance(error, Stopped | SystemExit | KeyboardInterrupt)
            _leave(tracked, "KILLED" if stopped else "FAILED", {REASON: str(error) or type(error).__name__})
        raise
    finally:
        tracked.metrics.close()


def _leave(tracked: TrialRun, status: Literal["FAILED", "KILLED"], tags: Mapping[str, str]) -> None:
    try:
        tracked.end(status, tags)
    except Exception:  # the first error is the one to report
        log.exception("MLflow run %s could not be closed", tracked.run_id)


def download_model(tracking_uri: str, version: Version, folder: Path) -> Path:
    """Download a version's saved model (not the MLflow packaging around it) and return its directory."""
    from trainer.packaging import DATA

    return registry.download(tracking_uri, f"{version.source}/{DATA}", folder)
