"""The story that `make demo` tells, checked in Airflow, S3, MLflow and on the live endpoint."""

from __future__ import annotations

import subprocess
from typing import Any

import pytest

from local.datasets import flights
from local.pipeline import story
from local.pipeline.attached import AttachedPlatform
from tests.e2e.support import notifications

MODEL = "flights-late-arrival"
STEPS = ("data.validate", "data.prepare", "promotion.evaluate", "promotion.deploy")


@pytest.fixture(scope="module")
def runs(platform: AttachedPlatform) -> list[story.RunReport]:
    """The demo's two runs, January's first."""
    dag_runs = platform.airflow._get(f"dags/{story.DAG}/dagRuns", order_by="run_after")["dag_runs"]
    ids = [run["dag_run_id"] for run in dag_runs if run["dag_run_id"].startswith("demo-")]
    return [story.report(platform, run_id, platform.airflow.run(story.DAG, run_id)["state"]) for run_id in ids]


def test_the_demo_ends_well_and_says_what_came_of_it(demo: subprocess.CompletedProcess[str]) -> None:
    assert demo.returncode == 0, demo.stdout
    summary = demo.stdout[demo.stdout.index("Summary") :]
    assert summary.count("promotion.deploy") == 2
    assert summary.count("Decision of demo-flights-") == 2
    assert "Examples the model never saw" in summary
    assert f"Live: {MODEL} version" in summary
    assert "make local-down" in summary
    for page in ("Airflow   http://127.0.0.1:", "MLflow    http://127.0.0.1:"):
        assert page in summary


def test_both_runs_succeeded_with_every_trial(runs: list[story.RunReport]) -> None:
    assert [run.state for run in runs] == ["success", "success"]
    for run in runs:
        trials = [task for task in run.tasks if task.task_id == "training.train"]
        assert len(trials) == len(run.trials) >= 4
        assert {task.state for task in trials} == {"success"}
        assert run.task("nothing_to_do").state == "skipped"
        assert run.task("notify").state == "success"


def test_the_first_model_was_promoted_without_a_champion(runs: list[story.RunReport]) -> None:
    decision = runs[0].decision
    assert decision is not None
    assert decision["outcome"] == "promote"
    assert decision["champion_version"] is None
    assert decision["candidate_value"] >= 0.6


def test_the_second_was_compared_with_the_first(runs: list[story.RunReport]) -> None:
    decision = runs[1].decision
    assert decision is not None
    assert decision["champion_version"] == runs[0].decision["candidate_version"]  # type: ignore[index]
    assert decision["improvement"] == pytest.approx(decision["candidate_value"] - decision["champion_value"])
    promoted = decision["improvement"] >= 0
    assert decision["outcome"] == ("promote" if promoted else "reject")
    assert runs[1].task("promotion.skip_deployment").state == ("skipped" if promoted else "success")


def test_every_step_left_its_result(platform: AttachedPlatform, runs: list[story.RunReport]) -> None:
    for run in runs:
        for task_id in STEPS:
            if run.task(task_id).state == "success":
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
    platform: AttachedPlatform, runs: list[story.RunReport]
) -> None:
    prepared = platform.read_json(f"{runs[1].prefix}/prepare/result.json")
    assert prepared["train"]["end"] < prepared["validation"]["start"]
    assert prepared["validation"]["end"] < prepared["test"]["start"]
    assert prepared["test"]["end"].startswith("2013-02-28")
    features = set(platform.read_json(f"{runs[1].prefix}/config.json")["model"]["features"])
    assert not features & {"dep_time", "dep_delay", "arr_time", "arr_delay", "air_time"}


def test_the_registry_tells_where_the_champion_comes_from(
    platform: AttachedPlatform, runs: list[story.RunReport]
) -> None:
    champion = platform.registry.get_model_version_by_alias(MODEL, "champion")
    live = next(run for run in reversed(runs) if run.deployment)
    assert live.deployment is not None
    assert champion.version == live.deployment["model_version"]
    assert champion.tags["run_key"] == live.run_key
    assert champion.tags["gate_outcome"] == "promote"
    assert champion.tags["evaluation_digest"] == live.decision["evaluation_digest"]  # type: ignore[index]
    assert len(champion.tags["model_digest"]) == 64
    challenger = platform.registry.get_model_version_by_alias(MODEL, "challenger")
    assert challenger.version == runs[-1].decision["candidate_version"]  # type: ignore[index]
    if live is runs[1]:
        previous = platform.registry.get_model_version_by_alias(MODEL, "previous")
        assert previous.version == runs[0].decision["candidate_version"]  # type: ignore[index]


def test_trials_are_runs_with_parameters_and_metrics(platform: AttachedPlatform, runs: list[story.RunReport]) -> None:
    for trial in runs[0].trials:
        logged = platform.registry.get_run(trial["run_id"])
        assert logged.info.status == "FINISHED"
        assert logged.data.metrics["roc_auc"] == pytest.approx(trial["metrics"]["roc_auc"])
        assert {str(value) for value in trial["params"].values()} <= set(logged.data.params.values())


def test_the_live_endpoint_answers_as_the_evaluation_did(
    platform: AttachedPlatform, runs: list[story.RunReport]
) -> None:
    live = next(run for run in reversed(runs) if run.deployment)
    assert live.deployment is not None
    predictions, reply = story.predict_held_out(platform, live, live.deployment["endpoint_name"], count=20)
    assert str(reply["model"]["version"]) == live.deployment["model_version"]
    examples = platform.read_json(f"{live.prefix}/evaluate/examples.json")["examples"][: len(predictions)]
    expected = [example["prediction"] for example in examples]
    assert [p.answer for p in predictions] == pytest.approx(expected, abs=1e-5)
    assert all(p.truth == (p.references["arr_delay"] > 15) for p in predictions)


def test_people_were_told(platform: AttachedPlatform, runs: list[story.RunReport]) -> None:
    version = runs[0].decision["candidate_version"]  # type: ignore[index]
    assert any(text.startswith(f"Version {version} of flights passed the gate") for text in notifications(platform))


def test_the_same_data_landed_again_is_not_trained_on_again(
    platform: AttachedPlatform, run_pipeline: Any, kubernetes: Any
) -> None:
    pods = len(kubernetes.pods())
    versions = len(platform.registry.search_model_versions(f"name='{MODEL}'"))
    tables = flights.month_tables(2)
    land = {flights.landing_key(name, 2): flights.parquet_bytes(tables[name]) for name in flights.TABLES}

    run = run_pipeline(land=land)

    assert run.state == "success"
    assert run.task("nothing_to_do").state == "success"
    assert run.task("data.validate").state == "skipped"
    assert len(kubernetes.pods()) == pods
    assert len(platform.registry.search_model_versions(f"name='{MODEL}'")) == versions
    assert platform.keys("", platform.landing) == []
    said = platform.airflow.xcom(story.DAG, run.run_id, "nothing_to_do")
    assert "were done before by demo-flights-2" in said
