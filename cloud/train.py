"""Land data, start the pipeline in MWAA, and follow it to its end from a terminal."""

from __future__ import annotations

import contextlib
import uuid
from collections.abc import Callable, Iterator
from datetime import UTC, datetime

import httpx

from cloud.airflow_api import airflow
from cloud.datasets import dag_id, enabled
from cloud.environments import Environment
from cloud.errors import CloudError
from cloud.paused import UNDELIVERED
from local.datasets import flights
from local.pipeline.airflow_client import AirflowClient, TaskInstance

HOURS = 24
POLL_SECONDS = 10
Say = Callable[[str], None]


def train(
    environment: Environment,
    dataset: str,
    month: int | None,
    say: Say,
    *,
    unpause: bool = False,
    poll_seconds: float = POLL_SECONDS,
) -> None:
    """Start a run of a dataset's pipeline and follow it; with a month, land that month of the example's flights first.

    Args:
        environment: in which.
        dataset: whose pipeline.
        month: of 2013.
        say: tells people what happens.
        unpause: the dataset's training and deployment, should they be paused.
        poll_seconds: between looks at the run.

    Raises:
        CloudError: the dataset has no DAGs in the environment, or no months, or its training is paused; or the run
            cannot be started, failed, or takes longer than a day.
    """
    if dataset not in (datasets := enabled(environment)):
        raise CloudError(f"DATASET={dataset} has no DAGs in {environment.name}: choose from {', '.join(datasets)}")
    if month is not None and dataset != flights.DATASET:
        raise CloudError(f"MONTH={month} lands {flights.DATASET}, not {dataset}: leave it out, or DATASET")
    dag, outputs = dag_id("train", dataset), environment.outputs
    run_id = f"by-hand-{datetime.now(UTC):%Y%m%dT%H%M%S}-{uuid.uuid4().hex[:4]}"
    with airflow(environment, say) as client, _refusals():
        see_that_it_runs(client, dataset, say, unpause=unpause)
        if month is not None:
            bucket = outputs["buckets"]["landing"]
            for table, key in flights.land(month, environment.client("s3"), bucket).items():
                say(f"landed {table}: s3://{bucket}/{key}")
        client.trigger(dag, run_id, {})
        say(f"started {run_id} of {dag}")
        follow(client, dag, run_id, say, poll_seconds)
    for name in outputs["endpoint_names"].values():
        say(
            f"endpoint {name}: {environment.client('sagemaker').describe_endpoint(EndpointName=name)['EndpointStatus']}"
        )


def see_that_it_runs(client: AirflowClient, dataset: str, say: Say, *, unpause: bool) -> None:
    """Make sure that a run of a dataset's training would begin, and say so if its model would not be deployed.

    Raises:
        CloudError: the training is paused, and nobody wants it unpaused.
    """
    training, deployment = dag_id("train", dataset), dag_id("deploy", dataset)
    paused = [dag["dag_id"] for dag in client.dag_details() if dag["is_paused"]]
    if unpause:
        for dag in (training, deployment):
            if dag in paused:
                client.pause(dag, paused=False)
                say(f"unpaused {dag}")
    elif training in paused:
        raise CloudError(
            f"{training} is paused, so the run would stay queued: unpause it in Airflow, or add UNPAUSE=1, which "
            f"unpauses {deployment} too; nothing was landed or started"
        )
    elif deployment in paused:
        say(
            f"warning: {deployment} is paused: unpause it before the model is approved, or it is not deployed "
            f"({UNDELIVERED})"
        )


@contextlib.contextmanager
def _refusals() -> Iterator[None]:
    try:
        yield
    except httpx.HTTPStatusError as error:
        raise CloudError(f"Airflow refused: {error.response.text}") from None


def follow(client: AirflowClient, dag: str, run_id: str, say: Say, poll_seconds: float = POLL_SECONDS) -> None:
    """Say what changes in a run until it ends.

    Raises:
        CloudError: it failed, or takes longer than a day.
    """
    seen: dict[str, str] = {}

    def tell(_: str, tasks: list[TaskInstance]) -> None:
        for task in tasks:
            if task.state and seen.get(task.label) != task.state:
                seen[task.label] = task.state
                took = f", {task.seconds:.0f} s" if task.ended_at else ""
                say(f"{task.label}: {task.state}{took}")

    try:
        state = client.wait(dag, run_id, HOURS * 3600, on_change=tell, poll_seconds=poll_seconds)
    except TimeoutError as error:
        raise CloudError(str(error)) from None
    if state != "success":
        failed = [label for label, state_ in seen.items() if state_ == "failed"]
        raise CloudError(f"run {run_id} ended as {state}: see the log of {', '.join(failed) or 'its tasks'} in Airflow")
    say(f"run {run_id} succeeded")
