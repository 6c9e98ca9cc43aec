"""What is told, by what was read. What could not be read is never told as absent or well."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from time import perf_counter
from typing import Any

import pytest

from cloud.status.assess import assess
from cloud.status.facts import Alarm, Dag, DatasetFacts, Endpoint, OpenQuestion, Unread, Update, Variant
from cloud.status.report import DatasetStatus, ExitCode
from tests.unit.cloud.status.made import (
    CONFIG,
    NOW,
    URL,
    airflow,
    alarms,
    dataset,
    entry,
    facts,
    run,
    settings,
    task,
    verdict,
)

REFUSED = Unread("AWS answered: AccessDenied")


def told(one: DatasetFacts, **changes: Any) -> DatasetStatus:
    (found,) = assess(facts(one, **changes)).datasets
    return found


def test_all_is_well_where_a_model_is_live_and_nothing_happens() -> None:
    report = assess(facts())
    assert (report.wrong, report.unknown, report.exit_code) == ([], [], ExitCode.WELL)
    live = report.datasets[0].live
    (version,) = live.versions
    assert (version.version, version.family, version.share) == ("2", "xgboost", 1.0)
    assert version.approval is not None
    assert version.approval.by == "john"
    assert (live.how, live.by, live.since) == ("deployed", "jane", NOW - timedelta(days=1))


def test_two_variants_have_their_shares_and_approvals() -> None:
    endpoint = Endpoint("InService", CONFIG, [Variant("primary", "2", 0.9), Variant("challenger", "3", 0.3)])
    approvals = {"2": entry("approved"), "3": entry("approved", "3", by="ann")}
    live = told(dataset(endpoint=endpoint, approvals=approvals, families={"2": "xgboost", "3": "pytorch"})).live
    assert [(one.variant, one.version, one.family, one.share) for one in live.versions] == [
        ("primary", "2", "xgboost", pytest.approx(0.75)),
        ("challenger", "3", "pytorch", pytest.approx(0.25)),
    ]
    assert [one.approval.by for one in live.versions if one.approval] == ["jane", "ann"]


@pytest.mark.parametrize(
    "endpoint",
    [
        pytest.param(None, id="there is no endpoint"),
        pytest.param(Endpoint("InService", "flights-bootstrap", [Variant("primary", None, 1.0)]), id="no model yet"),
    ],
)
def test_nothing_is_live_before_the_first_deployment(endpoint: Endpoint | None) -> None:
    nothing = dataset(endpoint=endpoint, put_live=None, approvals={}, families={}, verdict=None)
    report = assess(facts(nothing, alarms=alarms()))
    assert report.datasets[0].live.versions == []
    assert report.datasets[0].endpoint.status == (endpoint.status if endpoint else "absent")
    assert report.exit_code == ExitCode.WELL
    gone = assess(facts(replace(nothing, put_live=entry())))
    assert "live, though version 2 was deployed at 2026-11-30 12:00 UTC" in gone.wrong[0]


def test_what_the_audit_log_does_not_know_of_is_wrong_unless_a_deployment_is_at_work() -> None:
    other = dataset(endpoint=Endpoint("InService", "flights-v3-5ca7c9c0-0f61bf3d", [Variant("primary", "3", 1.0)]))
    silent = told(other)
    assert silent.live.since is None  # not the other version's
    assert "live is flights-v3-5ca7c9c0-0f61bf3d, the audit log's last is flights-v2-" in silent.live.wrong[0]
    previous = {"3": Unread("request.json is of version 2")}
    at_work = told(replace(other, families=previous), airflow=airflow(runs=[run("deploy__flights")]))
    assert at_work.live.unknown == []
    assert at_work.live.wrong == []
    assert "a deployment is at work" in str(at_work.live.note)
    unread = told(other, airflow=airflow(runs=REFUSED))
    assert unread.live.wrong == []
    assert REFUSED.reason in unread.live.unknown[0]
    (nobody,) = told(replace(other, put_live=None)).live.wrong
    assert nobody == "live is flights-v3-5ca7c9c0-0f61bf3d, and the audit log does not say who put it there"


def test_a_broken_audit_entry_leaves_the_rest_told() -> None:
    broken = Unread("s3://artifacts/audit/flights/x.json: not valid JSON")
    report = assess(facts(dataset(put_live=broken, families={"2": broken}, approvals={"2": broken})))
    live = report.datasets[0].live
    assert [one.version for one in live.versions] == ["2"]
    assert (live.by, live.versions[0].family, live.versions[0].approval) == (None, None, None)
    assert [told.split(":")[1].strip() for told in report.unknown] == [
        "who put it live, and when",
        "family of version 2",
        "approval of version 2",
    ]
    assert (report.wrong, report.exit_code) == ([], ExitCode.INCOMPLETE)


def test_an_endpoint_that_cannot_be_read_is_neither_absent_nor_well() -> None:
    report = assess(facts(dataset(endpoint=REFUSED)))
    assert report.datasets[0].endpoint.status is None
    assert report.datasets[0].live.versions == []
    assert len([one for one in report.unknown if REFUSED.reason in one]) == 2
    assert report.exit_code == ExitCode.INCOMPLETE


def test_an_unreachable_airflow_does_not_hide_what_is_live() -> None:
    down = Unread("Airflow cannot be reached")
    unreachable = airflow(dags=down, runs=down, tasks=down, questions=down, failed_monitoring=down, pools=down)
    report = assess(facts(airflow=unreachable))
    one = report.datasets[0]
    assert [version.version for version in one.live.versions] == ["2"]
    assert one.activity.unknown == [f"{what}: Airflow cannot be reached" for what in ("DAGs", "pools", "runs")]
    assert len(one.waiting.unknown) == 2
    assert one.monitoring.overdue is None
    assert one.monitoring.outcome == "ok"
    assert (report.wrong, report.exit_code) == ([], ExitCode.INCOMPLETE)


def test_what_is_wrong_counts_more_than_what_is_unknown() -> None:
    failed = dataset(endpoint=Endpoint("Failed", CONFIG, [Variant("primary", "2", 1.0)], failure="no capacity"))
    report = assess(facts(failed, airflow=airflow(questions=REFUSED)))
    assert report.wrong == ["flights: endpoint flights is Failed: no capacity"]
    assert report.unknown != []
    assert report.exit_code == ExitCode.WRONG


def test_a_rollout_says_what_comes_and_for_how_long_it_bakes() -> None:
    update = Update("flights-v3-5ca7c9c0-0f61bf3d", "3", "Baking", NOW - timedelta(minutes=2))
    moving = Endpoint("Updating", CONFIG, [Variant("primary", "2", 1.0)], update=update)
    endpoint = told(dataset(endpoint=moving)).endpoint
    assert endpoint.rollout is not None
    assert (endpoint.rollout.version, endpoint.rollout.stage) == ("3", "Baking")
    assert endpoint.rollout.bake_seconds == settings().serving.rollout.bake_seconds
    assert (endpoint.status, endpoint.wrong) == ("Updating", [])


# --- Alarms ---------------------------------------------------------------------------------------


def test_alarms_ring_for_their_own_endpoint_only() -> None:
    """Also one whose name begins with another's, of an alarm that names no endpoint in its dimensions."""
    ringing = Alarm("flights-eu-invocations", "ALARM", NOW, None)
    own = Alarm("flights-rollback-5xx", "ALARM", NOW, "flights")
    quiet = [one for one in alarms("flights", "flights-eu") if one.name != own.name]
    one, other = dataset(), dataset("flights-eu", endpoint_name="flights-eu")
    report = assess(facts(one, other, alarms=[*quiet, ringing, own]))
    assert [alarm.name for alarm in report.datasets[0].endpoint.alarms] == ["flights-rollback-5xx"]
    assert [alarm.name for alarm in report.datasets[1].endpoint.alarms] == ["flights-eu-invocations"]
    assert "flights: alarm flights-rollback-5xx rings" in report.wrong


def test_missing_rollback_alarms_are_named() -> None:
    endpoint = told(dataset(), alarms=alarms()[1:]).endpoint
    assert endpoint.missing_rollback_alarms == ["flights-rollback-4xx"]
    assert endpoint.wrong == ["rollback alarms are missing: flights-rollback-4xx"]
    unread = told(dataset(), alarms=REFUSED).endpoint
    assert (unread.missing_rollback_alarms, unread.wrong) == ([], [])
    assert unread.unknown == [f"alarms: {REFUSED.reason}"]
    none = told(dataset("moons", endpoint_name="moons")).endpoint
    assert none.wrong == ["no alarms roll a deployment back: none are configured for it"]


# --- What runs and waits --------------------------------------------------------------------------


def asks(of: str, version: Any, hours: float, *who: str) -> OpenQuestion:
    return OpenQuestion("train__flights", of, "approval.ask", version, NOW - timedelta(hours=hours), who)


def test_a_question_says_who_may_answer_until_when_and_where() -> None:
    waiting = told(dataset(), airflow=airflow(questions=[asks("r1", "3", 0.5, "jane", "john")])).waiting
    (question,) = waiting.questions
    assert (question.version, question.who, question.superseded_by) == ("3", ["jane", "john"], None)
    assert question.deadline == NOW - timedelta(hours=0.5) + timedelta(hours=settings().approval.deadline_hours)
    assert question.where == f"{URL}/dags/train__flights/runs/r1/tasks/approval.ask/required_actions"
    assert waiting.unknown == []


def test_a_question_lapses_for_a_newer_one() -> None:
    asked = [asks("r2", "4", 1), asks("r1", "3", 2)]
    first, second = told(dataset(), airflow=airflow(questions=asked)).waiting.questions
    assert (first.version, first.superseded_by) == ("3", "4")
    assert (second.version, second.superseded_by) == ("4", None)


def test_a_question_about_an_unknown_version_is_still_told() -> None:
    waiting = told(dataset(), airflow=airflow(questions=[asks("r1", REFUSED, 1)])).waiting
    assert [one.version for one in waiting.questions] == [None]
    assert waiting.unknown == [f"version that r1 asks about: {REFUSED.reason}"]


def test_a_run_says_what_it_is_at_and_what_it_waits_for() -> None:
    dag = "train__flights"
    pods = [task(dag, "training.train", "deferred") for _ in range(3)]
    turn = task(dag, "ingest.take_turn", "up_for_reschedule", of="r2")
    landing = task(dag, "ingest.wait_for_data", of="r3")
    other = task("train__iris", "ingest.wait_for_data", of="r1")
    busy = airflow(
        "flights",
        runs=[run(dag, name=name) for name in ("r1", "r2", "r3")] + [run("train__iris")],
        tasks=[*pods, task(dag, "training.select_best", "queued"), turn, landing, other],
    )
    found = told(dataset(turn="train__flights/r1"), airflow=busy)
    assert [one.run for one in found.activity.runs] == ["r1", "r2", "r3"]
    at = found.activity.runs[0].tasks
    assert [(one.task, one.state, one.count) for one in at] == [
        ("training.select_best", "queued", 1),
        ("training.train", "deferred", 3),
    ]
    assert [(one.run, one.waits_for, one.held_by) for one in found.waiting.runs] == [
        ("r2", "turn", "train__flights/r1"),
        ("r3", "data", None),
    ]


def test_paused_dags_are_named_and_runs_that_can_never_start_are_wrong() -> None:
    dags = airflow().dags
    assert not isinstance(dags, Unread)
    paused = {**dags, "deploy__flights": Dag(paused=True, next_run=None)}
    quiet = told(dataset(), airflow=airflow(dags=paused)).activity
    assert (quiet.paused, quiet.wrong) == (["deploy__flights"], [])
    stuck = told(dataset(), airflow=airflow(dags=paused, runs=[run("deploy__flights", "queued")])).activity
    assert stuck.wrong == ["run r1 of deploy__flights is queued, and the DAG is paused"]


@pytest.mark.parametrize(
    ("pools", "shut"),
    [
        ({"deployment": 32}, "training__flights"),
        ({"deployment": 32, "training__flights": 0}, "training__flights"),
        ({"training__flights": 2}, "deployment"),
    ],
)
def test_pools_whose_tasks_never_start_are_wrong(pools: dict[str, int], shut: str) -> None:
    said = told(dataset(), airflow=airflow(pools=pools)).activity.wrong
    assert said == [f"Airflow has no pool {shut}, or one without slots: its tasks never start"]


def test_pools_that_could_not_be_read_are_unknown() -> None:
    assert "pools: down" in told(dataset(), airflow=airflow(pools=Unread("down"))).activity.unknown


def test_dags_that_airflow_does_not_have_are_wrong() -> None:
    dags = airflow().dags
    assert not isinstance(dags, Unread)
    fewer = {name: dag for name, dag in dags.items() if not name.startswith("rollback")}
    assert told(dataset(), airflow=airflow(dags=fewer)).activity.wrong == ["Airflow has no DAG rollback__flights"]


# --- Monitoring -----------------------------------------------------------------------------------


def test_the_last_verdict_names_what_moved_most() -> None:
    monitoring = told(dataset()).monitoring
    assert monitoring.worst is not None
    assert (monitoring.worst.name, monitoring.worst.psi) == ("hour", 0.2)
    assert (monitoring.outcome, monitoring.overdue) == ("ok", False)
    strict = dataset(settings=settings(maximum_prediction_psi=0.01))
    assert told(strict).monitoring.worst == monitoring.worst.model_copy(
        update={"name": "prediction", "psi": 0.05, "limit": 0.01}
    )


def test_what_too_few_rows_say_moved_nothing() -> None:
    assert told(dataset(verdict=verdict("too-few"))).monitoring.worst is None


def test_a_degraded_model_is_wrong() -> None:
    report = assess(facts(dataset(verdict=verdict("degraded", "roc_auc is 0.5"))))
    assert report.wrong == ["flights: the live model has degraded: roc_auc is 0.5"]


LATE = NOW - timedelta(hours=2)


@pytest.mark.parametrize(
    ("monitor", "runs", "failed", "why"),
    [
        pytest.param(Dag(False, LATE), [], [], "not started the run that was due at 2026-12-01 10:00", id="not begun"),
        pytest.param(Dag(True, None), [], [], "monitor__flights is paused", id="paused"),
        pytest.param(
            Dag(False, None),
            [run("monitor__flights", ago=timedelta(hours=3))],
            [],
            "run r1 is running since 2026-12-01 09:00 UTC",
            id="does not end",
        ),
        pytest.param(
            Dag(False, None),
            [],
            [run("monitor__flights", "failed", ago=timedelta(hours=1))],
            "run r1 failed at 2026-12-01 11:00 UTC, and there is no verdict since",
            id="failed",
        ),
    ],
)
def test_monitoring_is_overdue(monitor: Dag, runs: list[Any], failed: list[Any], why: str) -> None:
    dags = airflow().dags
    assert not isinstance(dags, Unread)
    late = airflow(dags={**dags, "monitor__flights": monitor}, runs=runs, failed_monitoring=failed)
    found = told(dataset(), airflow=late).monitoring
    assert found.overdue is True
    assert why in found.wrong[0]
    for not_due in (
        dataset(settings=settings(schedule=None)),
        dataset(endpoint=None, put_live=None, approvals={}, families={}),
    ):
        assert told(not_due, airflow=late).monitoring.overdue is False


def test_a_failed_run_before_the_last_verdict_is_history() -> None:
    failed = [run("monitor__flights", "failed", ago=timedelta(hours=30))]
    assert told(dataset(), airflow=airflow(failed_monitoring=failed)).monitoring.overdue is False


# --- Many datasets --------------------------------------------------------------------------------


def test_a_dataset_that_is_switched_off_is_named_and_nothing_else() -> None:
    refused = DatasetFacts("moons", Unread("config/models/moons.yaml: task: missing"))
    report = assess(facts(dataset(), DatasetFacts("iris", enabled=False), refused))
    assert [one.dataset for one in report.datasets] == ["flights"]
    assert report.disabled == ["iris"]
    assert report.unknown == ["moons: config/models/moons.yaml: task: missing"]
    assert report.exit_code == ExitCode.INCOMPLETE


def test_settings_that_cannot_be_read_leave_airflows_part_told() -> None:
    unread = dataset(
        settings=REFUSED, endpoint_name=None, endpoint=REFUSED, put_live=REFUSED, verdict=REFUSED, turn=REFUSED
    )
    found = told(unread, airflow=airflow(runs=[run("train__flights")], questions=[asks("r1", "3", 1)]))
    assert [one.run for one in found.activity.runs] == ["r1"]
    assert [one.deadline for one in found.waiting.questions] == [None]
    assert all(section.unknown for section in (found.live, found.endpoint, found.waiting, found.monitoring))


def test_a_hundred_datasets_are_told_apart_and_soon() -> None:
    names = [f"set-{number:03d}" for number in range(100)]
    datasets = [replace(dataset(name), settings=settings(), put_live=entry(dataset=name)) for name in names]
    runs = [run(f"train__{name}") for name in names]
    tasks = [task(f"train__{name}", "training.train") for name in names for _ in range(8)]
    busy = airflow(*names, runs=runs, tasks=tasks)
    begun = perf_counter()
    report = assess(facts(*datasets, airflow=busy, alarms=alarms(*names)))
    assert perf_counter() - begun < 2
    assert [one.dataset for one in report.datasets] == names
    assert {(len(one.activity.runs), one.activity.runs[0].tasks[0].count) for one in report.datasets} == {(1, 8)}
    assert {one.activity.runs[0].dag for one in report.datasets} == {f"train__{name}" for name in names}
