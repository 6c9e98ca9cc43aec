"""A step's pod that is taken away, refused or left behind: its operator at work on a local Kubernetes API."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from tests.dags.cluster import NAMESPACE, OUTPUT, Cluster, Task, until

pytestmark = pytest.mark.usefixtures("s3", "no_connection")

# Ends in its own time when it is told to, as a training does that saves its state.
SAVES = "trap 'echo saving; sleep 1; echo saved; exit 143' TERM; echo working; sleep 60 & wait"
RESULT = (
    b'{"run_key": "k", "started_at": "2026-01-01T00:00:00Z", "finished_at": "2026-01-01T00:00:00Z", "trials": '
    b'[{"trial": 0, "status": "failed", "reason": "diverged", "family": "xgboost", "params": {}}]}'
)
OUTLOOK = "another try goes on from the last checkpoint, if one was written"


@pytest.fixture(autouse=True)
def _clean(cluster: Cluster) -> Iterator[None]:
    yield
    cluster.heal()


def trial(dag: Any, cluster: Cluster, script: str = SAVES, **options: Any) -> Task:
    """Return a task instance of a training in one pod."""
    return Task(dag, cluster, script, **{"pods": 1, "termination_grace_period": 5, **options})


def failure(task: Task, deferral: Any) -> BaseException:
    """Return as what the task fails when it goes on."""
    with pytest.raises(Exception) as raised:  # noqa: PT011 - which one is what the caller asserts
        task.resume(deferral, task.triggered(deferral))
    return raised.value


def lost(name: str) -> dict[str, Any]:
    """Return the event of a trigger that could not see its pod."""
    return {"status": "error", "message": "connection reset", "name": name, "namespace": NAMESPACE}


def delete(task: Task) -> str:
    """Delete a pod of the task as a person does, the last one; returns its name."""
    pod = max(task.pods(), key=lambda pod: pod.metadata.name)
    task.operator.client.delete_namespaced_pod(pod.metadata.name, NAMESPACE)
    return str(pod.metadata.name)


def test_a_pod_runs_to_its_end(dag: Any, cluster: Cluster, capfd: pytest.CaptureFixture[str]) -> None:
    task = trial(dag, cluster, "echo done; sleep 0.5")
    assert task.run() is None
    assert "done" in capfd.readouterr().out
    task.until_nothing_is_left()


def test_a_pod_that_went_while_nobody_looked_is_told_from_its_events(dag: Any, cluster: Cluster) -> None:
    from airflow.sdk.exceptions import AirflowException

    task = trial(dag, cluster, "sleep 60")
    deferral = task.start()
    task.until_running()
    name = delete(task)
    task.until_nothing_is_left()
    raised = failure(task, deferral)
    assert type(raised) is AirflowException
    assert str(raised) == f"pod {name} was deleted while it ran, and nobody says by whom; {OUTLOOK}"
    assert raised.__suppress_context__


def test_a_step_that_was_done_before_its_pod_was_deleted_is_done(
    dag: Any, cluster: Cluster, s3: dict[str, bytes]
) -> None:
    task = trial(dag, cluster, "sleep 60")
    deferral = task.start()
    task.until_running()
    event = lost(delete(task))
    task.until_nothing_is_left()
    s3[f"{OUTPUT}/result.json"] = RESULT
    assert task.resume(deferral, event) is None


def test_the_log_of_a_pod_that_is_being_deleted_is_read_to_its_end(
    dag: Any, cluster: Cluster, capfd: pytest.CaptureFixture[str]
) -> None:
    task = trial(dag, cluster)
    deferral = task.start()
    task.until_running()
    name = delete(task)
    with pytest.raises(Exception, match=f"^pod {name} was deleted.*; {OUTLOOK}$"):
        task.resume(deferral, lost(name))
    assert "[base] logs: saved" in capfd.readouterr().out
    task.until_nothing_is_left()


@pytest.mark.parametrize("pods", [1, 2])
def test_a_pod_that_goes_while_a_worker_is_with_it_is_told_at_once(
    dag: Any, cluster: Cluster, capfd: pytest.CaptureFixture[str], pods: int
) -> None:
    task = trial(dag, cluster, pods=pods, attended_seconds=30)
    raised: list[BaseException] = []

    def execute() -> None:
        try:
            task.operator.execute(task.context)
        except BaseException as error:
            raised.append(error)

    worker = threading.Thread(target=execute)
    worker.start()
    other = trial(dag, cluster, pods=pods)
    other.until_running()
    name = delete(other)
    worker.join(15)
    assert str(raised[0]).startswith(f"pod {name} was deleted")
    assert str(raised[0]).endswith(OUTLOOK)
    assert capfd.readouterr().out.count("[base] logs: saved") == pods
    task.until_nothing_is_left()


def test_watching_that_failed_long_ago_does_not_count(dag: Any, cluster: Cluster) -> None:
    from airflow.sdk.exceptions import TaskDeferred

    task = trial(dag, cluster, "sleep 60", termination_grace_period=1)
    deferral = task.start()
    task.until_running()
    event = lost(deferral.trigger.pod_name) | {"_redefer_count": 3, "deferred_at": time.time() - 3600}
    with pytest.raises(TaskDeferred) as again:
        task.resume(deferral, event)
    assert again.value.trigger.trigger_kwargs["_redefer_count"] == 1
    task.operator.on_kill()
    task.until_nothing_is_left()


def test_a_node_that_is_lost_is_not_waited_for_for_ever(
    dag: Any, cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    from mlplatform.orchestration import step_operator

    monkeypatch.setattr(step_operator, "PATIENCE_SECONDS", 1)
    first = trial(dag, cluster, "sleep 60", termination_grace_period=1)
    deferral = first.start()
    first.until_running()
    (pod,) = first.pods()
    cluster.fault(kind="node-lost", namespace=NAMESPACE, duration_seconds=None)
    until(lambda: first.pods()[0].metadata.deletion_timestamp is not None)
    with pytest.raises(Exception, match=f"^pod {pod.metadata.name} was taken away because its node did not answer"):
        first.resume(deferral, lost(pod.metadata.name))
    second = trial(dag, cluster, "sleep 0.5", run_id=first.run_id, try_number=2)
    again = second.start()
    assert again.trigger.pod_name != pod.metadata.name
    second.resume(again, second.triggered(again))
    first.operator.client.delete_namespaced_pod(pod.metadata.name, NAMESPACE, grace_period_seconds=0)
    first.until_nothing_is_left()


def test_another_try_waits_for_a_pod_that_is_being_deleted(
    dag: Any, cluster: Cluster, capfd: pytest.CaptureFixture[str]
) -> None:
    first = trial(dag, cluster)
    first.start()
    first.until_running()
    name = delete(first)
    second = trial(dag, cluster, "sleep 0.5", run_id=first.run_id, try_number=2)
    kept = {"name": name, "namespace": NAMESPACE}  # by Airflow, from 3.3 on
    second.context["task_state_store"] = SimpleNamespace(get=lambda key: kept, set=lambda key, value: None)
    deferral = second.start()
    assert deferral.trigger.pod_name != name
    assert name not in [pod.metadata.name for pod in second.pods() if pod.status.phase == "Running"]
    assert f"waiting for pod {name} of an earlier try, which has until" in capfd.readouterr().out
    second.resume(deferral, second.triggered(deferral))
    second.until_nothing_is_left()


def test_another_try_takes_up_a_pod_that_runs(dag: Any, cluster: Cluster) -> None:
    first = trial(dag, cluster, "sleep 60", termination_grace_period=1)
    deferral = first.start()
    first.until_running()
    second = trial(dag, cluster, "sleep 60", run_id=first.run_id, try_number=2, termination_grace_period=1)
    again = second.start()
    assert again.trigger.pod_name == deferral.trigger.pod_name
    second.operator.on_kill()
    second.until_nothing_is_left()


def test_of_two_pods_that_do_the_same_the_older_goes_on(
    dag: Any, cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = trial(dag, cluster, "sleep 60", termination_grace_period=1)
    deferral = first.start()
    first.until_running()
    time.sleep(1)  # times of creation are whole seconds
    twin = trial(dag, cluster, "sleep 60", run_id=first.run_id, termination_grace_period=1)
    with monkeypatch.context() as blind:
        blind.setattr(type(twin.operator), "find_pod", lambda *args, **kwargs: None)
        twin.start()
    until(lambda: [pod.status.phase for pod in twin.pods()] == ["Running", "Running"])
    second = trial(dag, cluster, "sleep 60", run_id=first.run_id, try_number=2, termination_grace_period=1)
    again = second.start()
    assert again.trigger.pod_name == deferral.trigger.pod_name
    until(lambda: [pod.metadata.name for pod in second.pods()] == [deferral.trigger.pod_name])
    second.operator.on_kill()
    second.until_nothing_is_left()


@pytest.mark.parametrize("pods", [1, 2])
def test_in_a_cluster_s_own_time_ends_are_told_alike(
    dag: Any, tmp_path: Path, capfd: pytest.CaptureFixture[str], pods: int
) -> None:
    """There, a pod's phase changes a second after its container has ended; attended and deferred."""
    from airflow.sdk.exceptions import AirflowException

    slow = Cluster(tmp_path, time_scale=1)
    try:
        task = trial(dag, slow, "echo said; sleep 0.5", pods=pods, attended_seconds=30)
        assert task.operator.execute(task.context) is None
        assert capfd.readouterr().out.count("said") == pods
        task = trial(dag, slow, "echo boom >&2; exit 3", pods=pods)
        with pytest.raises(AirflowException, match=r"failed with exit code 3: boom$"):
            task.run()
        task.until_nothing_is_left()
    finally:
        slow.stop()


@pytest.mark.parametrize("pods", [1, 2])
@pytest.mark.parametrize(
    ("status", "message", "told", "again"),
    [
        pytest.param(
            403,
            'pods "x" is forbidden: exceeded quota: steps, requested: requests.memory=128Gi, '
            "used: requests.memory=0, limited: requests.memory=96Gi",
            r"^Kubernetes refused: pods .x. is forbidden: exceeded quota: .*\(more than the whole quota: steps\.train ",
            False,
            id="quota",
        ),
        pytest.param(
            403,
            'pods "x" is forbidden: error looking up service account ml-training/trainer: '
            'serviceaccount "trainer" not found',
            r"^Kubernetes refused: .* \(steps\.train\.service_account of the settings, `make cluster-config`\)$",
            False,
            id="no-service-account",
        ),
        pytest.param(500, "etcdserver: leader changed", "^Kubernetes answered 500: etcdserver: leader changed$", True),
    ],
)
def test_what_the_api_refuses_is_told_in_one_line(
    dag: Any, cluster: Cluster, pods: int, status: int, message: str, told: str, again: bool
) -> None:
    from airflow.sdk.exceptions import AirflowException, AirflowFailException

    task = Task(dag, cluster, "true", pods=pods)
    cluster.fault(kind="api-error", verb="create", path="/(pods|jobs)$", status=status, message=message, times=None)
    with pytest.raises(AirflowException, match=told) as raised:
        task.operator.execute(task.context)
    assert isinstance(raised.value, AirflowFailException) is not again
    assert raised.value.__suppress_context__
    assert task.pods() == task.jobs() == []


@pytest.mark.parametrize("pods", [1, 2])
def test_what_the_api_refuses_after_a_deferral_is_told_in_one_line(dag: Any, cluster: Cluster, pods: int) -> None:
    task = Task(dag, cluster, "sleep 60", pods=pods, termination_grace_period=1)
    deferral = task.start()
    task.until_running()
    said = (
        'pods is forbidden: User "airflow" cannot list resource "pods" in API group "" in the namespace "ml-training"'
    )
    for verb in ("get", "list"):
        cluster.fault(kind="api-error", verb=verb, path="/pods", status=403, message=said, times=None)
    with pytest.raises(Exception, match=r"^Kubernetes refused: .* cannot list .* \(Airflow\'s rights in config/kuber"):
        task.resume(deferral, lost("p") | deferral.trigger.trigger_kwargs)
    cluster.heal()
    task.operator.on_kill()
    task.until_nothing_is_left()
