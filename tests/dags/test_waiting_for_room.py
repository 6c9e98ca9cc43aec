"""A step whose pods a used-up quota refuses: its operator at work on a local Kubernetes API that enforces quotas."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from tests.dags.cluster import NAMESPACE, OUTPUT, Cluster, Task, until
from tests.dags.test_pod_faults import RESULT

pytestmark = pytest.mark.usefixtures("s3", "no_connection")

QUOTA = f"/api/v1/namespaces/{NAMESPACE}/resourcequotas/steps"


@pytest.fixture(autouse=True)
def _soon(monkeypatch: pytest.MonkeyPatch) -> None:
    from mlplatform.orchestration import step_operator

    monkeypatch.setattr(step_operator, "_SHORTEST_WAIT_SECONDS", 0.1)


def trial(dag: Any, cluster: Cluster, script: str = "echo done; sleep 0.5", **options: Any) -> Task:
    """Return a task instance of the training step."""
    return Task(dag, cluster, script, **{"termination_grace_period": 1, **options})


@contextmanager
def no_room_for(dag: Any, cluster: Cluster, pods: int) -> Iterator[Task]:
    """Let another step's pod take the last place of so many; it may be killed, and is at the end."""
    other = trial(dag, cluster, "sleep 60", pods=1)
    other.start()
    other.until_running()
    try:
        with cluster.changed(QUOTA, hard={"pods": f"{pods}"}):
            yield other
    finally:
        other.operator.on_kill()
    other.until_nothing_is_left()


@pytest.mark.parametrize("pods", [1, 2])
def test_a_step_waits_for_room_and_runs_in_the_same_try(
    dag: Any, cluster: Cluster, capfd: pytest.CaptureFixture[str], pods: int
) -> None:
    with no_room_for(dag, cluster, pods) as other:
        task = trial(dag, cluster, pods=pods)
        first = task.start()
        second = task.resume_until_deferred(first, task.triggered(first))
        assert second.kwargs == first.kwargs, "it still says since when"
        assert capfd.readouterr().out.count("waiting for room since") == 2
        until(lambda: not task.jobs())
        other.operator.on_kill()
        until(lambda: not task.pods())
        third = task.resume_until_deferred(second, task.triggered(second))
        assert {pod.metadata.labels["try_number"] for pod in task.pods()} == {"1"}
        assert len(task.pods()) == pods
        assert task.resume(third, task.triggered(third)) is None
        assert "done" in capfd.readouterr().out


@pytest.mark.parametrize("pods", [1, 2])
def test_a_full_quota_is_told_in_its_own_words(
    dag: Any, cluster: Cluster, capfd: pytest.CaptureFixture[str], pods: int
) -> None:
    with no_room_for(dag, cluster, pods):
        trial(dag, cluster, pods=pods).start()
        said = capfd.readouterr().out
    (line,) = (line for line in said.splitlines() if "waiting for room" in line)
    assert re.search(
        r"waiting for room since \S+ \S+ UTC: quota steps is used up "
        rf"\(pods: {pods} of {pods} used, 1 requested\); steps that end make room",
        line,
    )
    assert "Traceback" not in said


@pytest.mark.parametrize(
    ("pods", "hard", "wanted"),
    [
        pytest.param(1, {"requests.memory": "1Mi"}, "more than", id="a-pod"),
        pytest.param(2, {"requests.memory": "1Mi"}, "2 such pods are more than", id="each-of-a-job"),
        pytest.param(2, {"pods": "1"}, "2 such pods are more than", id="a-whole-job"),
    ],
)
def test_what_can_never_fit_fails_at_once_and_for_good(
    dag: Any, cluster: Cluster, pods: int, hard: dict[str, str], wanted: str
) -> None:
    from airflow.sdk.exceptions import AirflowFailException

    task = trial(dag, cluster, pods=pods)
    (resource, limit), began = next(iter(hard.items())), time.monotonic()
    told = (
        rf'^Kubernetes refused: pods "\S+" is forbidden: exceeded quota: steps, requested: {resource}=\w+, '
        rf"used: {resource}=[01], limited: {resource}={limit} "
        rf"\({wanted} the whole quota: steps\.train of the settings, quotas of config/kubernetes\)$"
    )
    with cluster.changed(QUOTA, hard=hard), pytest.raises(AirflowFailException, match=told):
        task.operator.execute(task.context)
    assert time.monotonic() - began < 30, "no startup limit has to pass"
    task.until_nothing_is_left()


@pytest.mark.parametrize("pods", [1, 2])
def test_a_task_that_ends_while_it_waits_leaves_nothing_behind(dag: Any, cluster: Cluster, pods: int) -> None:
    """Whoever clears or marks a deferred task starts no process of it that could delete anything."""
    with no_room_for(dag, cluster, pods) as other:
        task = trial(dag, cluster, "sleep 60", pods=pods)
        task.start()
        other.operator.on_kill()
        task.until_nothing_is_left()
        time.sleep(2)
        assert task.pods() == task.jobs() == []


@pytest.mark.parametrize("pods", [1, 2])
def test_a_task_that_is_killed_while_it_asks_does_not_wait(
    dag: Any, cluster: Cluster, monkeypatch: pytest.MonkeyPatch, pods: int
) -> None:
    from airflow.sdk.exceptions import AirflowException

    with no_room_for(dag, cluster, pods) as other:
        task = trial(dag, cluster, "sleep 60", pods=pods)
        asks, name = (task.operator, "_first_pod") if pods > 1 else (task.operator.pod_manager, "create_pod")
        ask = getattr(asks, name)

        def killed_while_it_asks(pod: Any) -> Any:
            task.operator.on_kill()
            return ask(pod)

        monkeypatch.setattr(asks, name, killed_while_it_asks)
        with pytest.raises(AirflowException, match=r"^the task was told to end$"):
            task.operator.execute(task.context)
        other.operator.on_kill()
        task.until_nothing_is_left()


@pytest.mark.parametrize("pods", [1, 2])
def test_a_result_that_came_meanwhile_needs_no_room(
    dag: Any, cluster: Cluster, s3: dict[str, bytes], pods: int
) -> None:
    with no_room_for(dag, cluster, pods):
        task = trial(dag, cluster, pods=pods)
        deferral = task.start()
        s3[f"{OUTPUT}/result.json"] = RESULT
        assert task.resume(deferral, task.triggered(deferral)) is None


def test_a_pod_that_came_meanwhile_is_taken_up(dag: Any, cluster: Cluster) -> None:
    with no_room_for(dag, cluster, 1) as other:
        task = trial(dag, cluster, pods=1)
        deferral = task.start()
        other.operator.on_kill()
        until(lambda: not task.pods())
        twin = trial(dag, cluster, "sleep 60", run_id=task.run_id, pods=1)
        running = twin.start().trigger.pod_name
        again = task.resume_until_deferred(deferral, task.triggered(deferral))
        assert again.trigger.pod_name == running
        task.operator.on_kill()


@pytest.mark.parametrize("pods", [1, 2])
def test_waiting_is_no_part_of_the_step_s_time(
    dag: Any, cluster: Cluster, monkeypatch: pytest.MonkeyPatch, pods: int
) -> None:
    hours_ago = datetime.now(UTC) - timedelta(hours=9)
    task = trial(dag, cluster, "sleep 60", pods=pods)
    whole = task.operator.execution_timeout.total_seconds()
    assert whole < 9 * 3600

    def left(deferral: Any) -> float:
        return float(deferral.trigger.trigger_kwargs["_execution_deadline"]) - time.time()

    new = task.new

    def of_hours_ago() -> Any:
        operator = new()
        task.context["ti"].start_date = hours_ago  # Airflow keeps it from one deferral to the next
        return operator

    monkeypatch.setattr(task, "new", of_hours_ago)
    with no_room_for(dag, cluster, pods) as other:
        deferral = task.start()
        deferral.kwargs = {"since": hours_ago.isoformat()}
        other.operator.on_kill()
        until(lambda: not task.pods())
        started = task.resume_until_deferred(deferral, None)
        assert left(started) == pytest.approx(whole, abs=30)
        lost = {"status": "error", "message": "connection reset", "name": started.trigger.pod_name}
        lost |= {"namespace": NAMESPACE, **started.trigger.trigger_kwargs}
        assert left(task.resume_until_deferred(started, lost)) == pytest.approx(whole, abs=30), "watched again"
        task.operator.on_kill()
