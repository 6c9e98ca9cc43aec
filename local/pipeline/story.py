"""The demo's story, told step by step: data lands, the pipeline works, an endpoint predicts."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from local.pipeline.airflow_client import TaskInstance
from local.pipeline.attached import AttachedPlatform

DAG = "train_model"
WAITING_TASK = "ingest.wait_for_data"
OnChange = Callable[[str, list[TaskInstance]], None]


@dataclass(frozen=True)
class RunReport:
    """What a run of the pipeline did, gathered from Airflow and from its documents in S3."""

    run_id: str
    state: str
    tasks: list[TaskInstance]
    prefix: str | None
    """Key prefix of the run's documents in the data bucket; None when it did not come that far."""
    record: dict[str, Any] | None
    decision: dict[str, Any] | None
    trials: list[dict[str, Any]]
    selection: dict[str, Any] | None
    """Which trial was best, and how many succeeded."""
    deployment: dict[str, Any] | None
    """What the deployer reported; None when nothing was deployed."""

    @property
    def run_key(self) -> str:
        """Identity of the work: the last part of the prefix.

        Raises:
            ValueError: the run did not come so far as to have one.
        """
        if self.prefix is None:
            raise ValueError(f"run {self.run_id} claimed no run key")
        return self.prefix.rsplit("/", 1)[-1]

    @property
    def failed_tasks(self) -> list[TaskInstance]:
        """Tasks that failed themselves, not for another's failure."""
        return [task for task in self.tasks if task.state == "failed"]

    def task(self, task_id: str, map_index: int = -1) -> TaskInstance:
        """Return one task instance.

        Raises:
            KeyError: the run has no such task.
        """
        for task in self.tasks:
            if (task.task_id, task.map_index) == (task_id, map_index):
                return task
        raise KeyError(f"{task_id}[{map_index}] is not in run {self.run_id}: {[task.label for task in self.tasks]}")


@dataclass(frozen=True)
class Prediction:
    """What the endpoint said of a held-out example, and what was true."""

    references: dict[str, Any]
    """What people know the example by; empty where the dataset has no such columns."""
    features: dict[str, Any]
    answer: float | list[float]
    """Probability of the positive class, probability of each class, or the number."""
    truth: Any


def trigger(platform: AttachedPlatform, run_id: str, **params: Any) -> None:
    """Start a run of the pipeline."""
    platform.airflow.trigger(DAG, run_id, params)


def wait_until_waiting(platform: AttachedPlatform, run_id: str, timeout: float = 120) -> None:
    """Return once the run waits in Airflow's triggerer for data to land.

    Raises:
        TimeoutError: it does not come to that.
        RuntimeError: the run ended instead.
    """

    def is_waiting(_: str, tasks: list[TaskInstance]) -> bool:
        return any(task.task_id == WAITING_TASK and task.state == "deferred" for task in tasks)

    state = platform.airflow.wait(DAG, run_id, timeout, until=is_waiting)
    if not is_waiting(state, platform.airflow.tasks(DAG, run_id)):
        raise RuntimeError(
            f"run {run_id} did not wait for data but ended as {state}; is there data in the landing bucket?"
        )


def follow(
    platform: AttachedPlatform, run_id: str, timeout: float = 900, on_change: OnChange | None = None
) -> RunReport:
    """Follow a run to its end and report on it."""
    state = platform.airflow.wait(DAG, run_id, timeout, on_change=on_change)
    return report(platform, run_id, state)


def report(platform: AttachedPlatform, run_id: str, state: str) -> RunReport:
    """Gather what a run did."""
    claimed = platform.airflow.xcom(DAG, run_id, "ingest.resolve_inputs", key="prefix")
    prefix = claimed.removeprefix(f"s3://{platform.data}/") if claimed else None
    pods = [key for key in platform.keys(f"{prefix}/train/") if key.endswith("/result.json")] if prefix else []
    return RunReport(
        run_id=run_id,
        state=state,
        tasks=platform.airflow.tasks(DAG, run_id),
        prefix=prefix,
        record=platform.read_json(f"{prefix}/run.json") if prefix else None,
        decision=platform.read_json(f"{prefix}/decision.json") if prefix else None,
        trials=sorted(
            (trial for key in pods for trial in platform.read_json(key)["trials"]),
            key=lambda trial: int(trial["trial"]),
        ),
        selection=platform.read_json(f"{prefix}/selection.json") if prefix else None,
        deployment=platform.read_json(f"{prefix}/deploy/result.json") if prefix else None,
    )


def invoke(platform: AttachedPlatform, endpoint: str, instances: list[dict[str, Any]]) -> dict[str, Any]:
    """Ask a live endpoint through SageMaker's InvokeEndpoint."""
    answer = platform.endpoints.invoke_endpoint(
        EndpointName=endpoint,
        ContentType="application/json",
        Accept="application/json",
        Body=json.dumps({"instances": instances}),
    )
    reply: dict[str, Any] = json.loads(answer["Body"].read())
    return reply


def predict_held_out(
    platform: AttachedPlatform, run: RunReport, endpoint: str, count: int
) -> tuple[list[Prediction], dict[str, Any]]:
    """Send examples the model never saw to the endpoint; return its answers beside the truth, and its whole reply."""
    evaluation = platform.read_json(f"{run.prefix}/evaluate/result.json")
    key = evaluation["examples_uri"].removeprefix(f"s3://{platform.data}/")
    examples = platform.read_json(key)["examples"][:count]
    reply = invoke(platform, endpoint, [example["features"] for example in examples])
    predictions = [
        Prediction(example["references"], example["features"], answer, example["target"])
        for example, answer in zip(examples, reply["predictions"], strict=True)
    ]
    return predictions, reply


def unique_run_id(label: str) -> str:
    """Return a run id that is new and says what it is for."""
    return f"{label}-{time.strftime('%Y%m%dT%H%M%S', time.gmtime())}"
