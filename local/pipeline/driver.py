"""Drives the pipeline as its users do: trigger a run, follow it, answer its question, read its outcome, predict."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

from local.pipeline.airflow_client import TaskInstance
from local.pipeline.attached import AttachedPlatform
from local.platform.home import use_dag_library

use_dag_library()

from mlplatform.config.names import dag_id, dataset_of  # noqa: E402

WAITING_TASK = "ingest.wait_for_data"
ASKING_TASK = "approval.ask"
PUBLISHING_TASK = "approval.publish"
DEPLOYMENT_STARTS_SECONDS = 60.0
"""How long Airflow may take to start a deployment once it was approved."""
OnChange = Callable[[str, list[TaskInstance]], None]


@dataclass(frozen=True)
class DeploymentReport:
    """What a run of a dataset's DAG ``deploy__…`` or ``rollback__…`` did."""

    dag_id: str
    run_id: str
    state: str
    tasks: list[TaskInstance]
    prefix: str | None
    """Key prefix of the deployment's documents in the data bucket; None when it did not come that far."""
    request: dict[str, Any] | None
    result: dict[str, Any] | None
    """What the deployer reported; None when nothing was deployed."""
    failure: str | None
    """Why not, in the words of the step that found it; None when it ended well, or without a word."""

    @property
    def failed_tasks(self) -> list[TaskInstance]:
        """Tasks that failed themselves, not for another's failure."""
        return [task for task in self.tasks if task.state == "failed"]


@dataclass(frozen=True)
class RunReport:
    """What a run of the pipeline did, gathered from Airflow and from its documents in S3."""

    dag_id: str
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
    approval: dict[str, Any] | None = None
    """Who answered what, and why; None when nobody was to answer."""
    deployed: DeploymentReport | None = None
    """The deployment that the approval started; None when there was none."""

    @property
    def deployment(self) -> dict[str, Any] | None:
        """What the deployer reported; None when nothing was deployed."""
        return self.deployed.result if self.deployed else None

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


def trigger(platform: AttachedPlatform, dataset: str, run_id: str, **params: Any) -> None:
    """Start a run of a dataset's pipeline."""
    platform.airflow.trigger(dag_id("train", dataset), run_id, params)


def answer(
    platform: AttachedPlatform, dataset: str, run_id: str, choice: Literal["Approve", "Reject"], reason: str
) -> None:
    """Answer, through Airflow's API, whether a run's candidate may be deployed."""
    platform.airflow.answer(dag_id("train", dataset), run_id, ASKING_TASK, choice, reason=reason)


def wait_until_waiting(platform: AttachedPlatform, dataset: str, run_id: str, timeout: float = 120) -> None:
    """Return once the run waits in Airflow's triggerer for data to land.

    Raises:
        TimeoutError: it does not come to that.
        RuntimeError: the run ended instead.
    """

    def is_waiting(_: str, tasks: list[TaskInstance]) -> bool:
        return any(task.task_id == WAITING_TASK and task.state == "deferred" for task in tasks)

    training = dag_id("train", dataset)
    state = platform.airflow.wait(training, run_id, timeout, until=is_waiting)
    if not is_waiting(state, platform.airflow.tasks(training, run_id)):
        raise RuntimeError(
            f"run {run_id} did not wait for data but ended as {state}; is there data in the landing bucket?"
        )


def is_asked(
    platform: AttachedPlatform, dataset: str, run_id: str, timeout: float = 900, on_change: OnChange | None = None
) -> bool:
    """Wait until a person is asked about the run's candidate, and return True, or until it ended without."""

    def asks(_: str, tasks: list[TaskInstance]) -> bool:
        return any(task.task_id == ASKING_TASK and task.state == "deferred" for task in tasks)

    training = dag_id("train", dataset)
    state = platform.airflow.wait(training, run_id, timeout, until=asks, on_change=on_change)
    return asks(state, platform.airflow.tasks(training, run_id))


def follow(
    platform: AttachedPlatform, dataset: str, run_id: str, timeout: float = 900, on_change: OnChange | None = None
) -> RunReport:
    """Follow a run to its end, and the deployment that it may have started to its own, and report on both.

    Raises:
        TimeoutError: one of them does not end, or an approved model's deployment does not start.
    """
    training = dag_id("train", dataset)
    state = platform.airflow.wait(training, run_id, timeout, on_change=on_change)
    if _is_published(platform.airflow.tasks(training, run_id)):
        follow_deployment(platform, *_deployment_of(platform, training, run_id), timeout, on_change)
    return report(platform, dataset, run_id, state)


def follow_deployment(
    platform: AttachedPlatform, deployment: str, run_id: str, timeout: float = 900, on_change: OnChange | None = None
) -> DeploymentReport:
    """Follow a run of a DAG ``deploy__…`` or ``rollback__…`` to its end and report on it."""
    platform.airflow.wait(deployment, run_id, timeout, on_change=on_change)
    return report_deployment(platform, deployment, run_id)


def report(platform: AttachedPlatform, dataset: str, run_id: str, state: str) -> RunReport:
    """Gather what a run of a dataset's pipeline did."""
    training = dag_id("train", dataset)
    claimed = platform.airflow.xcom(training, run_id, "ingest.resolve_inputs", key="prefix")
    prefix = claimed.removeprefix(f"s3://{platform.data}/") if claimed else None
    pods = [key for key in platform.keys(f"{prefix}/train/") if key.endswith("/result.json")] if prefix else []
    tasks = platform.airflow.tasks(training, run_id)
    return RunReport(
        dag_id=training,
        run_id=run_id,
        state=state,
        tasks=tasks,
        prefix=prefix,
        record=platform.read_json(f"{prefix}/run.json") if prefix else None,
        decision=platform.read_json(f"{prefix}/decision.json") if prefix else None,
        trials=sorted(
            (trial for key in pods for trial in platform.read_json(key)["trials"]),
            key=lambda trial: int(trial["trial"]),
        ),
        selection=platform.read_json(f"{prefix}/selection.json") if prefix else None,
        approval=platform.airflow.xcom(training, run_id, "approval.record_approval", key="answer"),
        deployed=report_deployment(platform, *_deployment_of(platform, training, run_id))
        if _is_published(tasks)
        else None,
    )


def report_deployment(platform: AttachedPlatform, deployment: str, run_id: str) -> DeploymentReport:
    """Gather what a run of a DAG ``deploy__…`` or ``rollback__…`` did; of several deployments in it, the first."""
    claimed = platform.airflow.xcom(deployment, run_id, "resolve_request")
    uri = claimed[0] if isinstance(claimed, list) and claimed else claimed
    prefix = uri.removeprefix(f"s3://{platform.data}/") if uri else None
    failure = platform.read_json(f"{prefix}/error.json") if prefix else None
    return DeploymentReport(
        dag_id=deployment,
        run_id=run_id,
        state=platform.airflow.run(deployment, run_id)["state"],
        tasks=platform.airflow.tasks(deployment, run_id),
        prefix=prefix,
        request=platform.read_json(f"{prefix}/request.json") if prefix else None,
        result=platform.read_json(f"{prefix}/result.json") if prefix else None,
        failure=failure["message"] if failure else None,
    )


def _is_published(tasks: list[TaskInstance]) -> bool:
    return any(task.task_id == PUBLISHING_TASK and task.state == "success" for task in tasks)


def _deployment_of(platform: AttachedPlatform, training: str, run_id: str) -> tuple[str, str]:
    """Return DAG and run that a run's approval has started.

    Raises:
        TimeoutError: Airflow does not start it.
    """
    deadline = time.monotonic() + DEPLOYMENT_STARTS_SECONDS
    while not (started := platform.airflow.started_by(training, run_id)):
        if time.monotonic() > deadline:
            raise TimeoutError(
                f"the approval of run {run_id} has started no deployment in {DEPLOYMENT_STARTS_SECONDS:.0f} s; is "
                f"{dag_id('deploy', dataset_of(training))} paused?"
            )
        time.sleep(0.5)
    return started[0]


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


def held_out(platform: AttachedPlatform, run: RunReport, count: int) -> list[dict[str, Any]]:
    """Return examples that the run's model never saw, as the evaluation wrote them."""
    evaluation = platform.read_json(f"{run.prefix}/evaluate/result.json")
    key = evaluation["examples_uri"].removeprefix(f"s3://{platform.data}/")
    examples: list[dict[str, Any]] = platform.read_json(key)["examples"][:count]
    return examples


def predict_held_out(
    platform: AttachedPlatform, run: RunReport, endpoint: str, count: int
) -> tuple[list[Prediction], dict[str, Any]]:
    """Send examples the model never saw to the endpoint; return its answers beside the truth, and its whole reply."""
    examples = held_out(platform, run, count)
    reply = invoke(platform, endpoint, [example["features"] for example in examples])
    predictions = [
        Prediction(example["references"], example["features"], answer, example["target"])
        for example, answer in zip(examples, reply["predictions"], strict=True)
    ]
    return predictions, reply


def audit_log(platform: AttachedPlatform, dataset: str) -> list[dict[str, Any]]:
    """Return the entries of a dataset's audit log, oldest first."""
    keys = platform.keys(f"audit/{dataset}/", platform.artifacts)
    return [platform.read_json(key, platform.artifacts) for key in keys]


def unique_run_id(label: str) -> str:
    """Return a run id that is new and says what it is for."""
    return f"{label}-{time.strftime('%Y%m%dT%H%M%S', time.gmtime())}"
