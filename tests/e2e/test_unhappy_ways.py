"""What can go wrong between landing and live, on the real platform: nothing bad ever gets through."""

from __future__ import annotations

import signal
import time
from typing import Any

import httpx
import psutil
import pyarrow as pa
import pyarrow.compute as pc
import pytest

from local.datasets import flights
from local.pipeline import story
from local.pipeline.attached import AttachedPlatform
from tests.e2e.support import Kubernetes, LiveState

TASK_REFUSED = 64


def _march() -> pa.Table:
    return flights.month_tables(3)["flights"]


def _replace(table: pa.Table, column: str, values: Any) -> pa.Table:
    return table.set_column(table.schema.get_field_index(column), column, values)


def missing_column() -> bytes:
    return flights.parquet_bytes(_march().drop_columns(["sched_dep_time"]))


def wrong_type() -> bytes:
    table = _march()
    return flights.parquet_bytes(_replace(table, "distance", pa.array(["far"] * len(table))))


def nan_target() -> bytes:
    table = _march()
    flown = pc.is_valid(table["air_time"])
    delays = pc.if_else(flown, pa.scalar(float("nan")), pa.scalar(None, pa.float64()))
    return flights.parquet_bytes(_replace(table, "arr_delay", delays))


def zero_rows() -> bytes:
    return flights.parquet_bytes(_march().slice(0, 0))


def truncated() -> bytes:
    content = flights.parquet_bytes(_march())
    return content[: len(content) // 2]


@pytest.mark.parametrize(
    ("make", "named"),
    [
        (missing_column, "sched_dep_time"),
        (wrong_type, "distance"),
        (nan_target, "arr_delay"),
        (zero_rows, "rows"),
        (truncated, "Parquet"),
    ],
    ids=lambda value: getattr(value, "__name__", None),
)
def test_a_bad_file_ends_in_validation(
    platform: AttachedPlatform, run_pipeline: Any, kubernetes: Kubernetes, make: Any, named: str
) -> None:
    before = LiveState.of(platform)
    key = flights.landing_key("flights", 3)

    run = run_pipeline(land={key: make()})

    assert run.state == "failed"
    validate = run.task("data.validate")
    assert (validate.state, validate.try_number) == ("failed", 1), "a bad file must not be tried again"
    pods = kubernetes.pods(run_key=str(run.prefix).rsplit("/", 1)[-1])
    assert [pod["exit_code"] for pod in pods] == [TASK_REFUSED]
    log = platform.airflow.log_of(story.DAG, run.run_id, validate)
    assert key in log
    assert named in log
    assert run.record is not None
    assert run.record["state"] == "failed"
    assert platform.keys("", platform.landing) == [f"quarantine/{key}", f"quarantine/{key}.reason.json"]
    assert named in str(platform.read_json(f"quarantine/{key}.reason.json", platform.landing))
    assert LiveState.of(platform) == before
    for entry in platform.keys("quarantine/", platform.landing):
        platform.s3.delete_object(Bucket=platform.landing, Key=entry)


def test_a_candidate_that_loses_is_not_deployed(platform: AttachedPlatform, run_pipeline: Any) -> None:
    before = LiveState.of(platform)

    run = run_pipeline(family="sklearn", trials=1)

    assert run.state == "success"
    assert run.decision is not None
    assert run.decision["outcome"] == "reject"
    assert run.decision["improvement"] < 0
    assert run.task("promotion.deploy").state == "skipped"
    assert run.task("promotion.skip_deployment").state == "success"
    after = LiveState.of(platform)
    assert (after.champion, after.configuration, after.answered_by) == (
        before.champion,
        before.configuration,
        before.answered_by,
    )
    version = platform.registry.get_model_version("flights-late-arrival", run.decision["candidate_version"])
    assert version.tags["gate_outcome"] == "reject"


def test_when_the_endpoint_cannot_be_updated_the_old_model_answers(
    platform: AttachedPlatform, run_pipeline: Any
) -> None:
    before = LiveState.of(platform)
    endpoint = platform.sagemaker.list_endpoints()["Endpoints"][0]["EndpointName"]
    fault = {"kind": "update-fails", "endpoint": endpoint, "times": 1}
    httpx.post(f"{platform.addresses['aws']}/_local/faults", json=fault).raise_for_status()

    run = run_pipeline(family="sklearn", trials=1, seed=1, minimum_improvement=-1.0)

    assert run.state == "failed"
    deploy = run.task("promotion.deploy")
    assert (deploy.state, deploy.try_number) == ("failed", 1)
    assert run.decision is not None
    assert run.decision["outcome"] == "promote"
    after = LiveState.of(platform)
    assert (after.champion, after.configuration, after.answered_by) == (
        before.champion,
        before.configuration,
        before.answered_by,
    )
    assert before.configuration in platform.airflow.log_of(story.DAG, run.run_id, deploy)


def test_an_evicted_trial_is_tried_again(platform: AttachedPlatform, run_pipeline: Any, kubernetes: Kubernetes) -> None:
    kubernetes.fault(kind="evict", selector="ml-platform/step=train", delay_seconds=0.5, times=1)

    run = run_pipeline(trials=2, seed=2)

    assert [len(fault["applied"]) for fault in kubernetes.faults()] == [1]
    assert run.state == "success"
    tries = sorted(task.try_number for task in run.tasks if task.task_id == "training.train")
    assert tries == [1, 2]
    assert len(run.trials) == 2


def test_a_killed_worker_does_not_start_a_second_pod(
    platform: AttachedPlatform, run_pipeline: Any, kubernetes: Kubernetes
) -> None:
    run_id = story.unique_run_id("killed-worker")
    story.trigger(platform, run_id, dataset="flights", wait_for_new_data=False, trials=1, seed=3)
    known = {pod["uid"] for pod in kubernetes.pods()}
    killed = _kill_worker_of_next_pod(platform, kubernetes, known)

    run = story.follow(platform, run_id)

    assert run.state == "success"
    label = f"ml-platform/step={killed['labels']['ml-platform/step']}"
    pods = kubernetes.pods(run_key=str(run.prefix).rsplit("/", 1)[-1], step=label.partition("=")[2])
    assert [pod["uid"] for pod in pods] == [killed["uid"]]
    task = next(task for task in run.tasks if task.task_id == f"data.{label.partition('=')[2]}")
    assert task.try_number == 2


def _kill_worker_of_next_pod(
    platform: AttachedPlatform, kubernetes: Kubernetes, known: set[str], timeout: float = 120
) -> dict[str, Any]:
    """SIGKILL the process of the task that has just created a pod, before it hands over to the triggerer."""
    scheduler = platform.state.services["scheduler"].process
    assert scheduler is not None
    deadline = time.monotonic() + timeout
    while time.monotonic() < deadline:
        fresh = [pod for pod in kubernetes.pods() if pod["uid"] not in known]
        if fresh:
            victims = [
                child
                for worker in psutil.Process(scheduler.pid).children()
                for child in worker.children()
                if child.status() != psutil.STATUS_ZOMBIE
            ]
            for victim in victims:
                victim.send_signal(signal.SIGKILL)
            assert victims, "the worker was gone before it could be killed"
            return fresh[0]
        time.sleep(0.005)
    raise TimeoutError("no pod was created")


def test_when_every_trial_fails_nothing_is_registered(
    platform: AttachedPlatform, run_pipeline: Any, kubernetes: Kubernetes
) -> None:
    before = LiveState.of(platform)
    kubernetes.fault(kind="oom", selector="ml-platform/step=train", times=None)

    run = run_pipeline(trials=2, seed=4)

    assert run.state == "failed"
    assert {task.state for task in run.tasks if task.task_id == "training.train"} == {"failed"}
    select = run.task("training.select_best")
    assert select.state == "failed"
    assert "OOMKilled" in platform.airflow.log_of(story.DAG, run.run_id, run.task("training.train", 0))
    assert run.task("promotion.register").state == "upstream_failed"
    assert LiveState.of(platform) == before
