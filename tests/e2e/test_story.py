"""The story that `make demo` tells, checked in Airflow, S3, MLflow and on the live endpoint."""

from __future__ import annotations

import json
import re
import subprocess
from typing import Any

import pytest

from local.datasets import flights
from local.pipeline import demo_steps, driver
from local.pipeline.attached import AttachedPlatform
from tests.e2e.support import Shell, notifications

MODEL = "flights-late-arrival"
STEPS = ("data.validate", "data.prepare", "promotion.evaluate")


@pytest.fixture(scope="module")
def runs(platform: AttachedPlatform) -> list[driver.RunReport]:
    """The demo's runs of the pipeline: January, February with a person to ask, February again."""
    dag = driver.dag_id("train", "flights")
    ids = [run_id for run_id in platform.airflow.runs(dag) if run_id.startswith("demo-flights-")]
    return [driver.report(platform, "flights", run_id, platform.airflow.run(dag, run_id)["state"]) for run_id in ids]


@pytest.fixture(scope="module")
def canary(platform: AttachedPlatform) -> driver.DeploymentReport:
    """The demo's deployment whose canary failed."""
    dag = driver.dag_id("deploy", "flights")
    (run_id,) = (run_id for run_id in platform.airflow.runs(dag) if run_id.startswith("demo-flights-canary"))
    return driver.report_deployment(platform, dag, run_id)


@pytest.fixture(scope="module")
def back(platform: AttachedPlatform) -> driver.DeploymentReport:
    """The demo's step back."""
    dag = driver.dag_id("rollback", "flights")
    (run_id,) = (run_id for run_id in platform.airflow.runs(dag) if run_id.startswith("demo-flights-"))
    return driver.report_deployment(platform, dag, run_id)


def test_the_demo_ends_well_and_says_what_came_of_it(demo: subprocess.CompletedProcess[str]) -> None:
    assert demo.returncode == 0, demo.stdout
    summary = demo.stdout[demo.stdout.index("Summary") :]
    assert summary.count("Decision of demo-flights-") == 3
    assert "approved by" in summary
    assert "reject" in summary
    for part in ("Deployments", "canary", "rollback", "Audit log", "deployment-failed", "rolled-back"):
        assert part in summary
    assert "Examples the model never saw" in summary
    assert f"Live: {MODEL} version" in summary
    assert "make local-down" in summary
    for page in ("Airflow   http://127.0.0.1:", "MLflow    http://127.0.0.1:"):
        assert page in summary


def test_all_runs_succeeded_with_every_trial(runs: list[driver.RunReport]) -> None:
    assert [run.state for run in runs] == ["success"] * 3
    for run in runs:
        trials = [task for task in run.tasks if task.task_id == "training.train"]
        assert len(trials) == len(run.trials) >= 1
        assert {task.state for task in trials} == {"success"}
        assert run.task("nothing_to_do").state == "skipped"
        assert run.task("notify").state == "success"


def test_the_first_model_was_promoted_without_a_champion(runs: list[driver.RunReport]) -> None:
    decision = runs[0].decision
    assert decision is not None
    assert decision["outcome"] == "promote"
    assert decision["champion_version"] is None
    assert decision["candidate_value"] >= 0.6
    assert runs[0].approval is not None
    assert runs[0].approval["by"] == "policy"
    assert runs[0].deployment is not None
    assert runs[0].deployment["strategy"] == "create"


def test_the_second_was_better_and_a_person_approved_it(
    platform: AttachedPlatform, runs: list[driver.RunReport]
) -> None:
    decision, answer, deployment = runs[1].decision, runs[1].approval, runs[1].deployment
    assert decision is not None
    assert answer is not None
    assert deployment is not None
    assert decision["champion_version"] == runs[0].decision["candidate_version"]  # type: ignore[index]
    assert decision["improvement"] == pytest.approx(decision["candidate_value"] - decision["champion_value"])
    assert decision["outcome"] == "needs-approval"
    assert (answer["outcome"], answer["source"]) == ("approved", "airflow")
    tags = platform.registry.get_model_version(MODEL, decision["candidate_version"]).tags
    assert (tags["approval"], tags["approved_by"]) == ("approved", answer["by"])
    assert tags["approval_evaluation_digest"] == tags["evaluation_digest"] == decision["evaluation_digest"]
    assert deployment["strategy"] == "canary"
    assert deployment["alarms"]
    assert deployment["previous_version"] == decision["champion_version"]


def test_the_third_lost_and_was_rejected_with_reasons(
    platform: AttachedPlatform, runs: list[driver.RunReport], canary: driver.DeploymentReport
) -> None:
    decision = runs[2].decision
    assert decision is not None
    assert decision["outcome"] == "reject"
    assert decision["champion_version"] == runs[1].decision["candidate_version"]  # type: ignore[index]
    assert decision["improvement"] < 0
    assert decision["reasons"]
    assert runs[2].task("promotion.skip_deployment").state == "success"
    assert runs[2].task("approval.record_approval").state == "skipped"
    assert runs[2].deployed is None
    # What came next found the second one live.
    assert canary.request is not None
    assert canary.request["champion"] == decision["champion_version"]
    version = platform.registry.get_model_version(MODEL, decision["candidate_version"])
    assert version.tags["gate_outcome"] == "reject"


def test_the_canary_that_answered_with_errors_was_rolled_back(
    demo: subprocess.CompletedProcess[str], runs: list[driver.RunReport], canary: driver.DeploymentReport
) -> None:
    assert canary.state == "failed"
    assert canary.result is None
    assert canary.failure is not None
    live = runs[1].deployment
    assert live is not None
    assert f"rolled the update back to {live['endpoint_config_name']}" in canary.failure
    assert "alarm" in canary.failure.lower()
    failed, total = _requests(demo)[0]
    assert 0 < failed < total
    assert f"{failed} of {total} requests failed (ModelError)" in demo.stdout


def _requests(demo: subprocess.CompletedProcess[str]) -> list[tuple[int, int]]:
    """Return how many of how many requests failed, for each time that people asked."""
    return [(int(failed), int(total)) for failed, total in re.findall(r"(\d+) of (\d+) requests failed", demo.stdout)]


def test_no_request_failed_while_the_models_were_swapped(demo: subprocess.CompletedProcess[str]) -> None:
    failed, total = _requests(demo)[1]
    assert failed == 0
    assert total > 50


def test_one_step_back_put_the_version_before_back(
    platform: AttachedPlatform, runs: list[driver.RunReport], back: driver.DeploymentReport
) -> None:
    assert back.state == "success"
    assert back.result is not None
    first, second = (run.decision["candidate_version"] for run in runs[:2])  # type: ignore[index]
    assert (back.result["purpose"], back.result["model_version"], back.result["previous_version"]) == (
        "rollback",
        first,
        second,
    )


def test_the_audit_log_tells_who_did_what(platform: AttachedPlatform, runs: list[driver.RunReport]) -> None:
    first, second = (run.decision["candidate_version"] for run in runs[:2])  # type: ignore[index]
    told = [(entry["kind"], entry["model_version"]) for entry in driver.audit_log(platform, "flights")]
    assert told[:6] == [
        ("approved", first),
        ("deployed", first),
        ("approved", second),
        ("deployed", second),
        ("deployment-failed", first),
        ("rolled-back", first),
    ]


def test_status_tells_what_is_live_and_who_put_it_there(
    shell: Shell, runs: list[driver.RunReport], back: driver.DeploymentReport
) -> None:
    first = runs[0].decision["candidate_version"]  # type: ignore[index]
    told = shell("make status JSON=1")
    report, _ = json.JSONDecoder().raw_decode(told.stdout[told.stdout.index("{") :])
    flights_ = next(one for one in report["datasets"] if one["dataset"] == "flights")
    live = flights_["live"]
    assert report["unknown"] == []
    assert [one["dataset"] for one in report["datasets"]] == ["flights", "housing", "iris", "titanic"]
    assert [(one["version"], one["share"]) for one in live["versions"]] == [(first, 1.0)]
    assert live["versions"][0]["approval"]["by"] == "policy"
    assert live["versions"][0]["family"] == "xgboost"
    assert (live["how"], live["dag_run"]) == ("rolled-back", f"{back.dag_id}/{back.run_id}")
    assert flights_["endpoint"]["status"] == "InService"
    assert flights_["endpoint"]["missing_rollback_alarms"] == []
    # Tests before this one may have left something that is wrong; make knows no other failure than 2.
    assert told.returncode == (2 if report["exit_code"] else 0)
    for_people = shell("make status").stdout
    assert f"version {first}, xgboost, approved by policy" in for_people
    assert "flights InService" in for_people


def test_every_step_left_its_result(platform: AttachedPlatform, runs: list[driver.RunReport]) -> None:
    for run in runs:
        for task_id in STEPS:
            result = platform.read_json(f"{run.prefix}/{task_id.rsplit('.', 1)[-1]}/result.json")
            assert result["step"] == task_id.rsplit(".", 1)[-1]
            assert result["run_key"] == run.run_key
        assert run.record is not None
        assert run.record["state"] == "finished"


def test_the_landing_bucket_is_empty_and_the_files_are_accepted(platform: AttachedPlatform) -> None:
    assert platform.keys("", platform.landing) == []
    accepted = platform.keys("raw/flights/")
    for month in (1, 2):
        assert f"raw/{flights.landing_key('flights', month)}" in accepted
        assert f"raw/{flights.landing_key('weather', month)}" in accepted
    assert accepted.count("raw/flights/planes/planes.parquet") == 1


def test_the_split_is_by_time_and_nothing_of_the_future_is_a_feature(
    platform: AttachedPlatform, runs: list[driver.RunReport]
) -> None:
    prepared = platform.read_json(f"{runs[1].prefix}/prepare/result.json")
    assert prepared["train"]["end"] < prepared["validation"]["start"]
    assert prepared["validation"]["end"] < prepared["test"]["start"]
    assert prepared["test"]["end"].startswith("2013-02-28")
    features = set(platform.read_json(f"{runs[1].prefix}/config.json")["model"]["features"])
    assert not features & {"dep_time", "dep_delay", "arr_time", "arr_delay", "air_time"}


def test_the_registry_tells_where_the_champion_comes_from(
    platform: AttachedPlatform, runs: list[driver.RunReport], back: driver.DeploymentReport
) -> None:
    champion = platform.registry.get_model_version_by_alias(MODEL, "champion")
    assert back.result is not None
    assert champion.version == back.result["model_version"]
    assert champion.tags["run_key"] == runs[0].run_key
    assert champion.tags["gate_outcome"] == "promote"
    assert champion.tags["evaluation_digest"] == runs[0].decision["evaluation_digest"]  # type: ignore[index]
    assert len(champion.tags["model_digest"]) == 64
    aliases = {"challenger": runs[1], "previous": runs[1]}  # the third was rejected
    for alias, run in aliases.items():
        found = platform.registry.get_model_version_by_alias(MODEL, alias)
        assert found.version == run.decision["candidate_version"]  # type: ignore[index]
    states = {
        version.version: version.tags.get("deployment")
        for version in platform.registry.search_model_versions(f"name='{MODEL}'")
    }
    assert states[champion.version] == "live"
    assert [version for version, state in states.items() if state == "live"] == [champion.version]


def test_trials_are_runs_with_parameters_and_metrics(platform: AttachedPlatform, runs: list[driver.RunReport]) -> None:
    for trial in runs[0].trials:
        logged = platform.registry.get_run(trial["run_id"])
        assert logged.info.status == "FINISHED"
        assert logged.data.metrics["roc_auc"] == pytest.approx(trial["metrics"]["roc_auc"])
        assert {str(value) for value in trial["params"].values()} <= set(logged.data.params.values())


def test_the_live_endpoint_answers_as_the_evaluation_did(
    platform: AttachedPlatform, runs: list[driver.RunReport], back: driver.DeploymentReport
) -> None:
    assert back.result is not None
    predictions, reply = driver.predict_held_out(platform, runs[0], back.result["endpoint_name"], count=20)
    assert str(reply["model"]["version"]) == back.result["model_version"]
    expected = [example["prediction"] for example in driver.held_out(platform, runs[0], len(predictions))]
    assert [p.answer for p in predictions] == pytest.approx(expected, abs=1e-5)
    assert all(p.truth == (p.references["arr_delay"] > 15) for p in predictions)


def test_people_were_told(
    platform: AttachedPlatform, runs: list[driver.RunReport], canary: driver.DeploymentReport
) -> None:
    first, second, third = (run.decision["candidate_version"] for run in runs)  # type: ignore[index]
    told = notifications(platform)
    for part in (
        f"Version {first} of flights serves on the endpoint flights",
        f"Version {second} of flights serves on the endpoint flights; it was version {first} before",
        f"Version {third} of flights was not deployed; what was live stays live",
        f"from version {second} to version {first} on the endpoint flights",
        str(canary.failure),
    ):
        assert any(part in text for text in told), part


def test_the_same_data_landed_again_is_not_trained_on_again(
    platform: AttachedPlatform, run_pipeline: Any, kubernetes: Any
) -> None:
    pods = len(kubernetes.pods())
    versions = len(platform.registry.search_model_versions(f"name='{MODEL}'"))
    tables = flights.month_tables(2)
    land = {flights.landing_key(name, 2): flights.parquet_bytes(tables[name]) for name in flights.TABLES}

    # What the demo chose for it, too: another family or another policy would be other work.
    run = run_pipeline(land=land, family=demo_steps.SECOND_FAMILY, ask_a_person=True)

    assert run.state == "success"
    assert run.task("nothing_to_do").state == "success"
    assert run.task("data.validate").state == "skipped"
    assert len(kubernetes.pods()) == pods
    assert len(platform.registry.search_model_versions(f"name='{MODEL}'")) == versions
    assert platform.keys("", platform.landing) == []
    said = platform.airflow.xcom(run.dag_id, run.run_id, "nothing_to_do")
    assert "were done before by train__flights/demo-flights-2" in said
