"""How the demo talks: progress, summary, and what it says and returns when something fails."""

from __future__ import annotations

import io
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, cast

import pytest
from rich.console import Console
from typer.testing import CliRunner

from local.pipeline import command, summary
from local.pipeline.airflow_client import TaskInstance
from local.pipeline.attached import AttachedPlatform
from local.pipeline.demo import DemoFailed
from local.pipeline.driver import DeploymentReport, Prediction, RunReport
from local.pipeline.load import Load
from local.platform.home import Home, PlatformError
from local.platform.state import PlatformState, ProcessId, ServiceState, write_state

NOON = datetime(2013, 1, 1, 12, tzinfo=UTC)


def a_task(task_id: str, state: str, seconds: float = 1.0, map_index: int = -1) -> TaskInstance:
    return TaskInstance(task_id, map_index, state, 1, NOON, NOON + timedelta(seconds=seconds), "operator")


def a_trial(index: int, value: float | None, depth: int) -> dict[str, Any]:
    params = {"max_depth": depth, "n_estimators": 500}
    status, reason = ("succeeded", None) if value is not None else ("failed", "the loss is nan since epoch 3")
    return {
        "trial": index,
        "status": status,
        "reason": reason,
        "metrics": {"roc_auc": value},
        "fit_seconds": 1.0,
        "params": params,
    }


def a_report(**changes: Any) -> RunReport:
    decision = {"outcome": "reject", "candidate_version": "4", "reasons": ["not good enough"]}
    given: dict[str, Any] = {
        "dag_id": "train__flights",
        "run_id": "run-1",
        "state": "success",
        "tasks": [a_task("data.validate", "success", 2.5), a_task("training.train", "failed", map_index=1)],
        "prefix": "runs/flights/abc",
        "record": None,
        "decision": decision,
        "trials": [a_trial(0, 0.61, 3), a_trial(1, 0.7, 5), a_trial(2, None, 7)],
        "selection": {"best": 1},
    }
    return RunReport(**{**given, **changes})


def a_deployment(**changes: Any) -> DeploymentReport:
    given: dict[str, Any] = {
        "dag_id": "deploy__flights",
        "run_id": "run-2",
        "state": "success",
        "tasks": [a_task("deployment.deploy", "success", map_index=0)],
        "prefix": "deployments/flights/v4-abc",
        "request": {"purpose": "deploy", "model": {"version": "4"}},
        "result": {"strategy": "canary", "seconds": 12.34, "endpoint_name": "flights"},
        "failure": None,
    }
    return DeploymentReport(**{**given, **changes})


def shown(*what: Any) -> str:
    console = Console(file=io.StringIO(), width=120)
    for part in what:
        console.print(part)
    text: str = console.file.getvalue()  # type: ignore[attr-defined]
    return text


def test_steps_are_listed_with_seconds_and_state() -> None:
    text = shown(summary.steps_table(a_report()))
    assert "data.validate" in text
    assert "2.5" in text
    assert "training.train[1]" in text
    assert "failed" in text


def test_the_best_trial_is_marked_and_only_what_was_searched_is_shown() -> None:
    text = shown(summary.trials_table(a_report(), "roc_auc"))
    assert "1 *" in text
    assert "registered as version 4" in text
    assert "max_depth 5" in text
    assert "n_estimators" not in text
    assert "failed: the loss is nan since epoch 3" in text


def test_a_run_without_a_single_score_has_no_best_trial() -> None:
    text = shown(summary.trials_table(a_report(trials=[a_trial(0, None, 3)], selection=None), "roc_auc"))
    assert "*" not in text


def test_a_rejection_is_told_with_its_reasons() -> None:
    text = shown(summary.decision_text(a_report()))
    assert "version 4 reject" in text
    assert "- not good enough" in text


def test_a_run_that_did_not_come_to_a_decision_says_so() -> None:
    assert "no decision was made" in shown(summary.decision_text(a_report(decision=None)))


def test_who_approved_is_told_with_the_decision() -> None:
    answer = {"outcome": "approved", "by": "jane", "source": "airflow", "reason": "looks right"}
    assert "approved by jane (airflow): looks right" in shown(summary.decision_text(a_report(approval=answer)))


def test_the_policys_reasons_are_not_told_twice() -> None:
    answer = {"outcome": "approved", "by": "policy", "source": "policy", "reason": "not good enough"}
    text = shown(summary.decision_text(a_report(approval=answer)))
    assert "approved by policy" in text
    assert text.count("not good enough") == 1


def test_a_deployment_is_told_with_how_it_went_or_why_it_did_not() -> None:
    failed = a_deployment(run_id="run-3", state="failed", result=None, failure="the canary's alarm went off")
    text = shown(summary.deployments_table([a_deployment(), failed]))
    for part in ("run-2", "canary", "12.3", "live", "run-3", "the canary's alarm went off"):
        assert part in text


def test_a_deployment_that_was_refused_before_it_was_written_down_is_told_too() -> None:
    refused = a_deployment(state="failed", prefix=None, request=None, result=None)
    assert "failed" in shown(summary.deployments_table([refused]))


def test_the_audit_log_is_told_and_long_reasons_are_cut() -> None:
    entry = {
        "at": "2026-11-22T10:48:09.5Z",
        "kind": "approved",
        "model_version": "4",
        "by": "jane",
        "reason": "y" * 500,
    }
    text = shown(summary.audit_table([entry]))
    assert "2026-11-22 10:48:09" in text
    assert "y" * 101 not in text.replace("\n", "")


def test_what_an_approval_started_is_part_of_its_run() -> None:
    assert a_report().deployment is None
    deployment = a_report(deployed=a_deployment()).deployment
    assert deployment is not None
    assert deployment["endpoint_name"] == "flights"


def test_a_prediction_stands_beside_what_was_true() -> None:
    references = {"scheduled": "2013-02-22 07:05:00", "flight": 647, "tailnum": None, "arr_delay": 31.0}
    text = shown(summary.predictions_table([Prediction(references, {"carrier": "UA"}, 0.42, 1.0)], None))
    for part in ("2013-02-22 07:05:00", "647", "31", "0.42"):
        assert part in text
    assert "UA" not in text


def test_of_several_classes_the_likeliest_is_named_and_rows_without_references_show_features() -> None:
    features = {"petal_length": 1.4, "petal_width": 0.2}
    told = summary.predictions_table([Prediction({}, features, [0.1, 0.7, 0.2], "virginica")], ["a", "versicolor", "c"])
    for part in ("petal_length", "1.4", "versicolor (0.70)", "virginica"):
        assert part in shown(told)


def test_an_empty_answer_is_an_empty_table() -> None:
    assert "answer" in shown(summary.predictions_table([], None))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--dataset", "moons"], "DATASET=moons: there is none; choose from"),
        (["--model", "oracle"], "MODEL=oracle: config/models/flights.yaml has"),
    ],
)
def test_a_choice_that_does_not_exist_starts_nothing(
    options: list[str], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(command, "up", lambda **_: pytest.fail("the platform was started"))
    done = CliRunner().invoke(command.app, ["demo", "--home", str(tmp_path), *options])
    assert done.exit_code == 2
    assert message in " ".join(done.output.split())


def test_progress_says_each_change_once() -> None:
    console = Console(file=io.StringIO(), width=120)
    lines = summary.ProgressLines(console, started=0.0)
    lines("running", [a_task("data.validate", "running")])
    lines("running", [a_task("data.validate", "running")])
    lines("running", [a_task("data.validate", "success")])
    lines("running", [a_task("nothing_to_do", "skipped")])
    assert console.file.getvalue().count("data.validate") == 2  # type: ignore[attr-defined]
    assert "nothing_to_do" not in console.file.getvalue()  # type: ignore[attr-defined]


def test_no_platform_is_one_clear_message(tmp_path: Path) -> None:
    with pytest.raises(PlatformError, match=r"no platform runs in .* start one with `make local-up`"):
        AttachedPlatform(Home(tmp_path))


@pytest.mark.parametrize("failure", [DemoFailed("task data.validate failed"), TimeoutError("still running")])
def test_a_failure_is_told_and_the_exit_code_is_not_zero(
    failure: Exception, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: Any) -> None:
        raise failure

    monkeypatch.setattr(command, "up", lambda **_: None)
    monkeypatch.setattr(command, "AttachedPlatform", lambda home: None)
    monkeypatch.setattr(command, "tell", fail)
    done = CliRunner().invoke(command.app, ["demo", "--home", str(tmp_path)])
    assert done.exit_code == 1
    assert str(failure) in done.output
    assert "make local-down" in done.output


def test_what_became_of_requests_is_told_in_a_sentence() -> None:
    load = Load(cast("AttachedPlatform", None), "flights", {})
    assert load.summary() == "0 of 0 requests failed; none was answered."
    load.answered.update({"2": 5, "1": 3})
    load.errors.update({"ModelError": 2})
    assert load.summary() == "2 of 10 requests failed (ModelError); version 1 answered 3, version 2 answered 5."


def test_a_platform_of_which_a_part_is_down_is_not_called_absent(tmp_path: Path) -> None:
    crashed = ServiceState(state="crashed", since=1.0, log="triggerer.log", error="signal 9")
    state = PlatformState(
        home=str(tmp_path),
        phase="running",
        supervisor=ProcessId(pid=1, create_time=1.0),
        started_at=1.0,
        services={"triggerer": crashed},
    )
    write_state(Home(tmp_path).state_file, state)
    with pytest.raises(
        PlatformError, match=r"triggerer does not run: `make local-status` .* a new one, which is empty"
    ):
        AttachedPlatform(Home(tmp_path))
