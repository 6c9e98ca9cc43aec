"""At work on a dataset is one training run at a time: what the tasks and callbacks do about it."""

from __future__ import annotations

import json
from types import SimpleNamespace
from typing import Any

import pytest
from airflow.sdk.exceptions import AirflowException, AirflowFailException

from mlplatform.orchestration import callbacks, notifications
from mlplatform.people import messages
from mlplatform.training import approvals

TURN = "s3://data-bucket/runs/_turns/flights.json"
AT_WORK = {
    "ingest.resolve_inputs",
    *("data.validate", "data.settle_landing", "data.prepare"),
    *("training.generate_trials", "training.train", "training.select_best"),
    *("promotion.register", "promotion.evaluate", "promotion.decide", "promotion.skip_deployment"),
}
"""Tasks that work only in their run's turn: all from where files are fixed until the gate has judged."""


class Runs:
    """The DAG runs that Airflow knows, and their states."""

    def __init__(self, **states: str) -> None:
        self.states = states

    def instance(self, dag: Any) -> Any:
        """Return a task instance that can ask for them."""
        return SimpleNamespace(dag_id=dag.dag_id, get_dagrun_state=lambda dag_id, run_id: self.states[run_id])

    def take(self, dag: Any, run_id: str) -> bool:
        """Do what the sensor does when it looks; tell whether it goes on."""
        took: bool = dag.get_task("ingest.take_turn").python_callable(ti=self.instance(dag), run_id=run_id)
        return took

    def before(self, dag: Any, task_id: str, run_id: str) -> None:
        """Do what is done before a task works."""
        task = dag.get_task(task_id)
        if task.is_mapped:
            task = task.unmap({"arguments": ["train"]})
        if task._pre_execute_hook is not None:
            given = {"ti": self.instance(dag), "run_id": run_id, "params": dict(dag.params)}
            task._pre_execute_hook(given)


@pytest.fixture
def runs(objects: dict[str, bytes]) -> Runs:
    """Three runs at once, of which nobody has the turn."""
    return Runs(one="running", two="running", three="queued")


def whose(objects: dict[str, bytes]) -> Any:
    return json.loads(objects[TURN])["owner"]


def test_a_run_waits_without_a_worker_while_another_one_is_at_work(
    dag: Any, runs: Runs, objects: dict[str, bytes], capsys: pytest.CaptureFixture[str]
) -> None:
    assert dag.get_task("ingest.take_turn").mode == "reschedule"
    assert dag.get_task("ingest.take_turn").retries >= 50, "a look that a slow scheduler loses costs a try"
    assert runs.take(dag, "one")
    assert not runs.take(dag, "two")
    assert "waiting: at work is train__flights/one" in capsys.readouterr().out
    assert runs.take(dag, "one"), "another try has it still"
    assert whose(objects) == "train__flights/one"


@pytest.mark.parametrize("end", ["failed", "success"])
def test_a_run_that_has_ended_holds_up_nobody(dag: Any, runs: Runs, objects: dict[str, bytes], end: str) -> None:
    assert runs.take(dag, "one")
    runs.states["one"] = end
    assert runs.take(dag, "two")
    assert whose(objects) == "train__flights/two"
    assert not runs.take(dag, "three")


def test_datasets_do_not_wait_for_one_another(dags: dict[str, Any], dag: Any, runs: Runs) -> None:
    assert runs.take(dag, "one")
    assert runs.take(dags["train__iris"], "two")
    assert not runs.take(dags["train__iris"], "one"), "a run of the same id, of another dataset"


def test_who_works_makes_sure_of_the_turn_and_who_waits_does_not(dag: Any, runs: Runs) -> None:
    assert runs.take(dag, "one")
    refused = set()
    for task in dag.tasks:
        runs.before(dag, task.task_id, "one")
        assert runs.take(dag, "one")  # asking has given it back
        try:
            runs.before(dag, task.task_id, "two")
        except AirflowException:
            refused.add(task.task_id)
    assert refused == AT_WORK


def test_a_cleared_task_of_a_run_whose_turn_is_over_fails_and_says_what_to_do(dag: Any, runs: Runs) -> None:
    assert runs.take(dag, "two")
    with pytest.raises(
        AirflowException, match=r"^flights: at work is train__flights/two, .* Clear ingest\.take_turn and all after it"
    ) as raised:
        runs.before(dag, "data.prepare", "one")
    assert not isinstance(raised.value, AirflowFailException), "another try may find it free"
    runs.states["two"] = "success"
    runs.before(dag, "data.prepare", "one")
    assert not runs.take(dag, "three"), "it is its turn again"


def ask(dag: Any, runs: Runs) -> None:
    """Do what is done before a person is asked."""
    runs.before(dag, "approval.ask", "one")


def notify(dag: Any, runs: Runs) -> None:
    """Do what the last task does."""
    ti = SimpleNamespace(xcom_pull=lambda task_ids, key=None: None)
    dag.get_task("notify").python_callable("s3://data-bucket/runs/flights/key", ti=ti, run_id="one")


def fail(dag: Any, runs: Runs) -> None:
    """Do what is done when a run has failed."""
    callbacks.run_failed({"run_id": "one", "dag": dag, "reason": "task_failure"})


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What people are told."""
    found: list[str] = []
    monkeypatch.setattr(notifications, "send", lambda settings, message: found.append(message.subject))
    monkeypatch.setattr(approvals, "conclude", lambda *given: messages.nothing_to_do("flights", "done before"))
    return found


@pytest.mark.parametrize("end", [ask, notify, fail])
def test_the_turn_is_given_back(dag: Any, runs: Runs, told: list[str], objects: dict[str, bytes], end: Any) -> None:
    assert runs.take(dag, "one")
    assert not runs.take(dag, "two")
    end(dag, runs)
    assert runs.states["one"] == "running", "Airflow has it so until its last task has ended"
    assert runs.take(dag, "two")
    end(dag, runs)
    assert whose(objects) == "train__flights/two", "and no other run's"
    assert not runs.take(dag, "three")


def test_a_run_that_failed_before_its_turn_is_told_and_takes_none(
    dag: Any, runs: Runs, told: list[str], objects: dict[str, bytes]
) -> None:
    fail(dag, runs)
    assert told == ["flights: training failed"]
    assert TURN not in objects
