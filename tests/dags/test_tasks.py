"""The Python tasks hand on what the library returns, and its refusals as failures without retry."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from mlplatform.deployment import requests
from mlplatform.documents.decisions import Answer, Question, RecordedAnswer
from mlplatform.documents.paths import RunPaths
from mlplatform.errors import NonRetryableError
from mlplatform.orchestration import notifications
from mlplatform.people import messages
from mlplatform.training import approvals, inputs, registration, trials
from mlplatform.training.inputs import ResolvedInputs

PREFIX = "s3://data-bucket/runs/flights/key"


class Xcom:
    """A task instance with XComs and nothing else."""

    def __init__(self, **pulled: Any) -> None:
        self.pulled, self.pushed = pulled, {}  # type: dict[str, Any], dict[str, Any]

    def xcom_push(self, key: str, value: Any) -> None:
        self.pushed[key] = value

    def xcom_pull(self, task_ids: str, key: str = "return_value") -> Any:
        return self.pulled.get(task_ids)


def call(dag: Any, task_id: str, *args: Any, **kwargs: Any) -> Any:
    return dag.get_task(task_id).python_callable(*args, **kwargs)


@pytest.mark.parametrize(
    ("granted", "next_tasks"),
    [(True, ["data.validate", "data.settle_landing"]), (False, ["nothing_to_do"])],
)
def test_resolve_inputs(dag: Any, monkeypatch: pytest.MonkeyPatch, granted: bool, next_tasks: list[str]) -> None:
    def resolve(settings: Any, params: Any, owner: str, is_live: Any) -> ResolvedInputs:
        assert (params, owner) == ({"dataset": "flights", "seed": 1}, "train__flights/run")
        assert is_live("train__flights/other") is True
        return ResolvedInputs(RunPaths(PREFIX), granted, "why")

    monkeypatch.setattr(inputs, "resolve_inputs", resolve)
    ti = Xcom()
    ti.get_dagrun_state = lambda dag_id, run_id: "running"  # type: ignore[attr-defined]
    assert call(dag, "ingest.resolve_inputs", params={"seed": 1}, ti=ti, run_id="run") == next_tasks
    assert ti.pushed == {"prefix": PREFIX, "run_key": "key", "message": "why"}


@pytest.mark.parametrize(
    ("outcome", "next_task"),
    [
        ("promote", "approval.approve_automatically"),
        ("needs-approval", "approval.ask"),
        ("reject", "promotion.skip_deployment"),
    ],
)
def test_decide(dag: Any, monkeypatch: pytest.MonkeyPatch, outcome: str, next_task: str) -> None:
    decision = SimpleNamespace(outcome=outcome, model_dump=lambda mode: {"outcome": outcome})
    monkeypatch.setattr(registration, "decide", lambda settings, prefix: decision)
    monkeypatch.setattr(approvals, "ask", lambda settings, prefix: {"subject": "s", "body": "b"})
    ti = Xcom()
    assert call(dag, "promotion.decide", PREFIX, ti=ti) == next_task
    assert ti.pushed["decision"] == {"outcome": outcome}
    assert ("question" in ti.pushed) is (outcome == "needs-approval")


MODEL = {
    "dataset": "flights",
    "registered_model": "m",
    "version": "3",
    "run_id": "r",
    "model_digest": "d",
    "evaluation_digest": "e",
    "prefix": PREFIX,
}


@pytest.mark.parametrize(
    ("outcome", "next_task"),
    [
        ("approved", "approval.publish"),
        ("rejected", "approval.reject"),
        ("expired", "approval.expire"),
        ("superseded", "approval.supersede"),
    ],
)
def test_record_approval(dag: Any, monkeypatch: pytest.MonkeyPatch, outcome: Any, next_task: str) -> None:
    given = {"outcome": outcome, "by": "jane", "reason": "r", "at": "2026-03-01T12:00:00Z", "source": "airflow"}

    def record(settings: Any, prefix: str, answer: Any, dag_run: str) -> RecordedAnswer:
        assert (prefix, answer, dag_run) == (PREFIX, given, "train__flights/run")
        return RecordedAnswer(question=Question(**MODEL, champion_version=None), answer=Answer.model_validate(given))

    monkeypatch.setattr(approvals, "record_approval", record)
    ti = Xcom(**{"approval.ask": given})
    assert call(dag, "approval.record_approval", PREFIX, ti=ti, run_id="run") == next_task
    assert ti.pushed["answer"]["by"] == "jane"
    assert ("model" in ti.pushed) is (outcome == "approved")
    if outcome == "approved":
        assert ti.pushed["model"] == {**MODEL, "approved_by": "jane", "reason": "r"}


def test_the_event_carries_the_model(dag: Any) -> None:
    from mlplatform.orchestration.assets import approved_models

    event = SimpleNamespace(extra={})
    ti = Xcom(**{"approval.record_approval": MODEL})
    call(dag, "approval.publish", ti=ti, outlet_events={approved_models("flights"): event})
    assert event.extra == MODEL


def test_a_deployment_takes_the_events_oldest_first(dags: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    from mlplatform.orchestration.assets import approved_models

    monkeypatch.setattr(requests, "requested", lambda settings, *args: [args])
    events = {approved_models("flights"): [SimpleNamespace(timestamp=at, extra={"version": at}) for at in (2, 1)]}
    resolve = dags["deploy__flights"].get_task("resolve_request").python_callable
    run = SimpleNamespace(triggering_user_name=None)
    (asked,) = resolve(params={"p": 1}, run_id="run", dag_run=run, triggering_asset_events=events)
    wanted = {"p": 1, "dataset": "flights"}
    assert asked == ([{"version": 1}, {"version": 2}], wanted, "deploy__flights/run", "somebody by hand")
    run = SimpleNamespace(triggering_user_name="jane")
    (asked,) = resolve(params={}, run_id="run", dag_run=run, triggering_asset_events={})
    assert asked == ([], {"dataset": "flights"}, "deploy__flights/run", "jane")


def test_the_others_hand_on_what_the_library_returns(dag: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    tasks = [
        (inputs, "settle_landing"),
        (trials, "generate_trials"),
        (trials, "select_best"),
        (registration, "register"),
    ]
    for module, name in tasks:
        monkeypatch.setattr(module, name, lambda settings, *args, name=name: (name, *args))
    assert call(dag, "data.settle_landing", PREFIX) == ("settle_landing", PREFIX)
    assert call(dag, "training.generate_trials", PREFIX, params={"trials": 3}) == ("generate_trials", PREFIX, 3)
    ti = Xcom(**{"training.generate_trials": [["train"], ["train"]]})
    assert call(dag, "training.select_best", PREFIX, ti=ti) == ("select_best", PREFIX, 2)
    assert call(dag, "training.select_best", PREFIX, ti=Xcom()) == ("select_best", PREFIX, 0)
    assert call(dag, "promotion.register", PREFIX) == ("register", PREFIX)
    ti = Xcom(**{"promotion.decide": {"reasons": ["worse"]}})
    assert call(dag, "promotion.skip_deployment", ti=ti) == ["worse"]
    assert call(dag, "nothing_to_do", ti=Xcom(**{"ingest.resolve_inputs": "done before"})) == "done before"


@pytest.mark.usefixtures("objects")
def test_notify(dag: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    told_of: list[str] = []
    sent: list[Any] = []
    monkeypatch.setattr(notifications, "send", lambda settings, message: sent.append(message))

    def conclude(settings: Any, prefix: str, owner: str, idle: str, answer: Any) -> Any:
        told_of.append(owner)
        return messages.nothing_to_do("flights", idle)

    monkeypatch.setattr(approvals, "conclude", conclude)
    assert call(dag, "notify", PREFIX, ti=Xcom(nothing_to_do="done before"), run_id="run") == "done before"
    assert [message.event for message in sent] == ["nothing-to-do"]
    assert told_of == ["train__flights/run"]


def test_a_refusal_is_a_failure_without_retry(dag: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    from airflow.sdk.exceptions import AirflowFailException

    def refuse(*args: Any) -> None:
        raise NonRetryableError("no trial was generated")

    monkeypatch.setattr(trials, "select_best", refuse)
    with pytest.raises(AirflowFailException, match="no trial was generated"):
        call(dag, "training.select_best", PREFIX, ti=Xcom())
