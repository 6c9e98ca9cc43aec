"""The shape of the monitoring of a dataset, and what its last tasks do with a verdict."""

from __future__ import annotations

import copy
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any

import pytest
from airflow.sdk.exceptions import AirflowSkipException

from mlplatform.monitoring import retraining, windows

EDGES = {
    "choose_window": {"monitor"},
    "monitor": {"conclude"},
    "conclude": {"want_retraining"},
    "want_retraining": {"train"},
    "train": set(),
}
DRIFTED = {"outcome": "drifted", "reasons": ["version 1: feature weight has drifted"], "versions": {"1": "drifted"}}


@pytest.fixture
def watched(dags: dict[str, Any]) -> Any:
    return dags["monitor__flights"]


def test_tasks_edges_and_policy(watched: Any) -> None:
    assert {task.task_id: task.downstream_task_ids for task in watched.tasks} == EDGES
    assert {task.task_id for task in watched.tasks if task.task_type == "StepPodOperator"} == {"monitor"}
    for task in watched.tasks:
        assert task.trigger_rule.value == "all_success"
        assert task.owner == "ml-platform"
        assert task.doc_md
        assert task.retries >= 1
        assert timedelta(0) < task.execution_timeout <= timedelta(hours=48)
        assert task.on_failure_callback
    assert (watched.catchup, watched.max_active_runs) == (False, 1)
    assert watched.doc_md
    assert not watched.params


def test_the_pod_has_the_monitors_rights_and_its_report_is_linked(watched: Any) -> None:
    pod = watched.get_task("monitor")
    assert pod.service_account_name == "monitor"
    assert pod.arguments[0] == "monitor"
    assert [link.name for link in pod.operator_extra_links] == ["Report"]


def test_an_event_says_that_a_retraining_is_wanted_and_train_model_is_started_once(watched: Any) -> None:
    (outlet,) = watched.get_task("want_retraining").outlets
    assert outlet.name == "retraining-wanted-flights"
    train = watched.get_task("train")
    assert train.trigger_dag_id == "train__flights"
    assert "run_id" in train.trigger_run_id
    assert train.skip_when_already_exists


def want(watched: Any, monkeypatch: pytest.MonkeyPatch, refusal: str | None) -> tuple[Any, Any]:
    monkeypatch.setattr(retraining, "claim", lambda *given: refusal)
    conf = {"family": "sklearn", "wait_for_new_data": False}
    monkeypatch.setattr(retraining, "parameters", lambda uri: {"s3://d/config.json": conf}[uri])
    task = watched.get_task("want_retraining")
    events = {outlet: SimpleNamespace(extra=None) for outlet in task.outlets}
    given = task.python_callable(
        DRIFTED,
        ti=SimpleNamespace(xcom_pull=lambda task_ids: {"choose_window": {"config": "s3://d/config.json"}}[task_ids]),
        run_id="scheduled__x",
        dag_run=SimpleNamespace(run_after=datetime(2026, 3, 1, tzinfo=UTC)),
        outlet_events=events,
    )
    return given, next(iter(events.values())).extra


def test_what_train_model_and_listeners_are_given(
    watched: Any, dags: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    conf, extra = want(watched, monkeypatch, None)
    assert extra == {"dataset": "flights", "family": "sklearn", "reasons": DRIFTED["reasons"]}
    assert conf == {"family": "sklearn", "wait_for_new_data": False}
    params = copy.deepcopy(dags["train__flights"].params)  # resolving changes them
    for name, value in conf.items():
        params.get_param(name).resolve(value=value)


def test_without_the_right_nothing_is_started(watched: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(AirflowSkipException, match="cool-down"):
        want(watched, monkeypatch, "the cool-down is not over")


def test_where_nothing_is_live_the_run_is_skipped(watched: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(windows, "prepare", lambda *given: None)
    choose = watched.get_task("choose_window").python_callable
    run = SimpleNamespace(run_after=datetime(2026, 3, 1, tzinfo=UTC))
    with pytest.raises(AirflowSkipException, match="no model is live"):
        choose(run_id="x", dag_run=run)
