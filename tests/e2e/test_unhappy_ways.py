"""What can go wrong between landing and live, on the real platform: nothing bad ever gets through."""

from __future__ import annotations

import io
import signal
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import psutil
import pyarrow as pa
import pyarrow.compute as pc
import pytest
from rich.console import Console

from local import datasets
from local.datasets import flights
from local.pipeline import demo, driver
from local.pipeline.attached import AttachedPlatform
from tests.e2e.support import Kubernetes, LiveState, eventually, notifications

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
    pods = kubernetes.pods(run_key=run.run_key)
    assert [pod["exit_code"] for pod in pods] == [TASK_REFUSED]
    log = platform.airflow.log_of(run.dag_id, run.run_id, validate)
    assert key in log
    assert named in log
    assert eventually(lambda: platform.read_json(f"{run.prefix}/run.json")["state"] == "failed")
    assert eventually(lambda: any(key in text and named in text for text in notifications(platform)))
    assert platform.keys("", platform.landing) == [f"quarantine/{key}", f"quarantine/{key}.reason.json"]
    assert named in str(platform.read_json(f"quarantine/{key}.reason.json", platform.landing))
    assert LiveState.of(platform) == before


def test_the_demo_shows_the_log_of_the_task_that_failed(
    platform: AttachedPlatform, monkeypatch: pytest.MonkeyPatch
) -> None:
    def land_a_bad_file(batch: int, s3: Any, bucket: str) -> dict[str, str]:
        key = flights.landing_key("flights", batch)
        s3.put_object(Bucket=bucket, Key=key, Body=truncated())
        return {"flights": key}

    monkeypatch.setattr(flights, "land", land_a_bad_file)
    said = Console(file=io.StringIO(), width=120)
    with pytest.raises(demo.DemoFailed) as failure:
        demo.tell(platform, said, datasets.load("flights"), length=1)
    assert "task data.validate failed; its log" in str(failure.value)
    assert flights.landing_key("flights", 1) in str(failure.value)


def test_when_the_endpoint_cannot_be_updated_the_old_model_answers(
    platform: AttachedPlatform, run_pipeline: Any
) -> None:
    before = LiveState.of(platform)
    fault = {"kind": "update-fails", "endpoint": "flights", "times": 1}
    httpx.post(f"{platform.addresses['aws']}/_local/faults", json=fault).raise_for_status()

    run = run_pipeline(trials=1, seed=1, minimum_improvement=-1.0)

    assert run.decision is not None
    assert run.decision["outcome"] == "promote"
    deployed = run.deployed
    assert deployed is not None
    assert deployed.state == "failed"
    (deploy,) = (task for task in deployed.tasks if task.task_id == "deployment.deploy")
    assert (deploy.state, deploy.try_number) == ("failed", 1)
    after = LiveState.of(platform)
    assert (after.champion, after.configuration, after.answered_by) == (
        before.champion,
        before.configuration,
        before.answered_by,
    )
    assert before.configuration in platform.airflow.log_of(deployed.dag_id, deployed.run_id, deploy)
    assert deployed.failure is not None
    assert "rolled the update back" in deployed.failure
    version = run.decision["candidate_version"]
    failed = [entry for entry in driver.audit_log(platform, "flights") if entry["kind"] == "deployment-failed"]
    assert [entry["model_version"] for entry in failed][-1] == version
    told = deployed.failure
    assert eventually(lambda: any(told in text for text in notifications(platform)))


def test_without_the_right_to_start_pods_the_first_step_fails_and_says_so(
    platform: AttachedPlatform, run_pipeline: Any, kubernetes: Kubernetes
) -> None:
    rights = [{"apiGroups": [""], "resources": ["pods"], "verbs": ["get", "list", "watch", "patch", "delete"]}]
    path = "/apis/rbac.authorization.k8s.io/v1/namespaces/ml-training/roles/airflow"
    with kubernetes.changed(path, rules=rights):
        run = run_pipeline(trials=1, seed=9)
    assert run.state == "failed"
    assert [task.task_id for task in run.failed_tasks if task.state == "failed"] == ["data.validate"]
    refused = (
        'pods is forbidden: User "airflow" cannot create resource "pods" in API group "" in the namespace "ml-training"'
    )
    assert eventually(lambda: any(refused in text for text in notifications(platform)))
    assert kubernetes.pods(run_key=run.run_key) == []


def test_a_pod_waits_within_its_try_while_the_quota_is_full(
    platform: AttachedPlatform, run_pipeline: Any, kubernetes: Kubernetes
) -> None:
    """The file is bad, so that the run ends with the first pod that is let in."""
    quota = "/api/v1/namespaces/ml-training/resourcequotas/steps"
    before = len(kubernetes.refusals())
    with ThreadPoolExecutor() as pool:
        with kubernetes.occupied("ml-training"), kubernetes.changed(quota, spec={"hard": {"pods": "1"}}):
            running = pool.submit(run_pipeline, land={flights.landing_key("flights", 3): truncated()[:-1]})
            assert eventually(lambda: len(kubernetes.refusals()) > before)
        run = running.result()
    validate = run.task("data.validate")
    assert (validate.state, validate.try_number) == ("failed", 1), "waiting uses up no try"
    assert [pod["exit_code"] for pod in kubernetes.pods(run_key=run.run_key)] == [TASK_REFUSED]
    log = platform.airflow.log_of(run.dag_id, run.run_id, validate)
    assert "waiting for room since" in log
    assert "quota steps is used up (pods: 1 of 1 used, 1 requested)" in log


def test_an_evicted_trial_is_tried_again(platform: AttachedPlatform, run_pipeline: Any, kubernetes: Kubernetes) -> None:
    kubernetes.fault(kind="evict", selector="ml-platform/step=train", delay_seconds=1, times=1)

    run = run_pipeline(trials=2, seed=2)

    assert [len(fault["applied"]) for fault in kubernetes.faults()] == [1]
    assert run.state == "success"
    tries = sorted(task.try_number for task in run.tasks if task.task_id == "training.train")
    assert tries == [1, 2]
    assert len(run.trials) == 2


def test_a_killed_worker_does_not_start_a_second_pod(
    platform: AttachedPlatform, run_pipeline: Any, kubernetes: Kubernetes
) -> None:
    # The pod finds no node for longer than a worker stays with it: the one that takes over hands it to the triggerer.
    kubernetes.fault(kind="unschedulable", selector="ml-platform/step=train", times=1, duration_seconds=40)
    run_id = driver.unique_run_id("killed-worker")
    driver.trigger(platform, "flights", run_id, wait_for_new_data=False, trials=1, seed=3)
    pod = _kill_worker_of_next_pod(platform, kubernetes, "train")

    run = driver.follow(platform, "flights", run_id)

    assert run.state == "success"
    train = run.task("training.train", 0)
    assert train.try_number == 2
    pods = kubernetes.pods(run_key=run.run_key, step="train")
    assert [found["uid"] for found in pods] == [pod["uid"]]
    log = platform.airflow.log_of(run.dag_id, run_id, train)
    assert "Reusing existing pod" in log
    assert "Pausing task as DEFERRED" in log


def _kill_worker_of_next_pod(
    platform: AttachedPlatform, kubernetes: Kubernetes, step: str, timeout: float = 120
) -> dict[str, Any]:
    """SIGKILL the process of the task that has just created a pod of a step."""
    scheduler = platform.state.services["scheduler"].process
    assert scheduler is not None
    known = {pod["uid"] for pod in kubernetes.pods(step=step)}
    deadline = time.monotonic() + timeout
    while time.monotonic() < deadline:
        fresh = [pod for pod in kubernetes.pods(step=step) if pod["uid"] not in known]
        if fresh:
            workers = psutil.Process(scheduler.pid).children()
            tasks = [task for worker in workers for task in worker.children() if task.status() != psutil.STATUS_ZOMBIE]
            assert tasks, "the worker was gone before it could be killed"
            for task in tasks:
                task.send_signal(signal.SIGKILL)
            return fresh[0]
        time.sleep(0.05)
    raise TimeoutError(f"no pod of step {step} was created")


def test_when_every_trial_fails_nothing_is_registered(
    platform: AttachedPlatform, run_pipeline: Any, kubernetes: Kubernetes
) -> None:
    before = LiveState.of(platform)
    kubernetes.fault(kind="oom", selector="ml-platform/step=train", times=None)

    run = run_pipeline(trials=2, seed=4)

    assert run.state == "failed"
    assert {task.state for task in run.tasks if task.task_id == "training.train"} == {"failed"}
    select = run.task("training.select_best")
    assert (select.state, select.try_number) == ("failed", 1)
    assert "0 of 2 trials succeeded" in platform.airflow.log_of(run.dag_id, run.run_id, select)
    assert "OOMKilled" in platform.airflow.log_of(run.dag_id, run.run_id, run.task("training.train", 0))
    assert run.task("promotion.register").state == "upstream_failed"
    assert LiveState.of(platform) == before
