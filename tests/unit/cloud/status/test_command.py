"""`make status ENV=dev`, of documents that a release has really written."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from cloud import cli
from tests.unit.cloud.status.conftest import GOLDEN, World, refused

AUDIT = "artifacts/audit/titanic"


def told(world: World, monkeypatch: pytest.MonkeyPatch, *options: str) -> tuple[int, str]:
    monkeypatch.setattr(cli, "Environment", lambda name: world.environment)
    done = CliRunner().invoke(cli.app, ["status", "--env", "dev", *options])
    return done.exit_code, done.stdout


def asked(world: World, monkeypatch: pytest.MonkeyPatch, dataset: str = "titanic") -> tuple[dict[str, Any], Any]:
    """Return the report, and its part about a dataset."""
    code, output = told(world, monkeypatch, "--json")
    report: dict[str, Any] = json.loads(output)
    assert code == report["exit_code"]
    return report, next(one for one in report["datasets"] if one["dataset"] == dataset)


def run(dag: str, name: str, state: str = "running") -> dict[str, Any]:
    moments = {"start_date": "2026-11-29T10:00:00Z", "queued_at": None, "run_after": None, "end_date": None}
    return {"dag_id": dag, "dag_run_id": name, "state": state, **moments}


def task(dag: str, of: str, name: str, state: str) -> dict[str, Any]:
    moments = {"start_date": "2026-11-29T10:01:00Z", "queued_when": None, "scheduled_when": None}
    return {"dag_id": dag, "dag_run_id": of, "task_id": name, "state": state, **moments}


def test_what_the_release_left_live_is_told(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    report, titanic = asked(world, monkeypatch)
    live = titanic["live"]
    assert [(one["version"], one["family"], one["approval"]["by"]) for one in live["versions"]] == [
        ("1", "xgboost", "policy")
    ]
    assert (live["how"], live["by"], live["since"]) == ("rolled-back", "Anonymous", "2026-11-28T21:44:52.990944Z")
    assert titanic["endpoint"]["status"] == "InService"
    assert titanic["monitoring"]["outcome"] == "drifted"
    assert titanic["monitoring"]["worst"]["name"] == "age"
    assert report["disabled"] == ["flights"]
    assert report["unknown"] == []
    assert [one.split(":")[0] for one in report["wrong"]] == ["titanic"]
    assert report["exit_code"] == 3


def test_both_versions_of_an_experiment_are_told(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    (second,) = (GOLDEN.folder / "s3/data/deployments/titanic").glob("v3-e702901c33/request.json")
    (request,) = (GOLDEN.folder / "s3/data/deployments/titanic").glob("rollback-*/request.json")
    challenger = {"model": json.loads(second.read_bytes())["model"], "weight": 0.2}
    asked_for = {**json.loads(request.read_bytes()), "challenger": challenger}
    world.put(request.relative_to(GOLDEN.folder / "s3").as_posix(), json.dumps(asked_for).encode())
    endpoint = world.sagemaker.endpoints["titanic"]
    (primary,) = endpoint["ProductionVariants"]
    endpoint["ProductionVariants"] = [
        {**primary, "CurrentWeight": 0.8},
        {"VariantName": "challenger", "CurrentWeight": 0.2},
    ]
    model = {"VariantName": "challenger", "ModelName": "titanic-v3-5ca7c9c0-0f61bf3d"}
    world.sagemaker.configs[endpoint["EndpointConfigName"]]["ProductionVariants"].append(model)
    _, titanic = asked(world, monkeypatch)
    assert [(one["variant"], one["version"], one["share"]) for one in titanic["live"]["versions"]] == [
        ("primary", "1", 0.8),
        ("challenger", "3", 0.2),
    ]
    assert all(one["family"] and one["approval"] for one in titanic["live"]["versions"])
    assert titanic["live"]["unknown"] == []
    _, text = told(world, monkeypatch)
    assert "20% of the requests (challenger)" in text


def test_people_read_the_same(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    code, text = told(world, monkeypatch)
    assert code == 3
    for line in (
        "version 1, xgboost, approved by policy",
        "rolled-back by Anonymous since 2026-11-28 21:44 UTC",
        "titanic InService",
        "most moved age, PSI 2.742 (limit 0.25), version 3",
        "Switched off here: flights",
        "  - titanic: the live model has drifted",
    ):
        assert line in text
    (path,) = (GOLDEN.folder / "s3" / "data/monitoring/titanic").glob("*/result.json")
    world.put(path.relative_to(GOLDEN.folder / "s3").as_posix(), path.read_bytes().replace(b'"drifted"', b'"ok"'))
    code, text = told(world, monkeypatch)
    assert code == 0
    assert "All was read, and nothing is wrong." in text


def test_questions_and_runs_come_from_airflow(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    training = "train__titanic"
    world.mwaa.runs = [run(training, "a"), run(training, "b"), run(training, "c", "queued"), run("etl__titanic", "x")]
    asking = task(training, "a", "approval.ask", "deferred")
    world.mwaa.tasks = [asking, task(training, "b", "ingest.take_turn", "up_for_reschedule")]
    world.mwaa.tasks += [task("etl__titanic", "x", "ingest.wait_for_data", "deferred")]
    question = {"created_at": "2026-11-29T10:01:00Z", "assigned_users": [{"id": "7", "name": "jane"}]}
    lapsed = {**question, "task_instance": task(training, "old", "approval.ask", "success")}
    world.mwaa.questions = [{**question, "task_instance": asking}, lapsed]
    world.mwaa.decisions = {"a": {"candidate_version": "5"}}
    turn = {"schema_version": 1, "owner": f"{training}/c", "since": "2026-11-29T10:00:00Z"}
    world.put("data/runs/_turns/titanic.json", json.dumps(turn).encode())
    _, titanic = asked(world, monkeypatch)
    assert [(one["run"], one["state"]) for one in titanic["activity"]["runs"]] == [
        ("a", "running"),
        ("b", "running"),
        ("c", "queued"),
    ]
    (waits,) = titanic["waiting"]["questions"]
    assert (waits["version"], waits["who"], waits["deadline"]) == ("5", ["jane"], "2026-11-29T14:01:00Z")
    assert [(one["run"], one["held_by"]) for one in titanic["waiting"]["runs"]] == [("b", f"{training}/c")]
    _, text = told(world, monkeypatch)
    assert "version 5 for jane since 2026-11-29 10:01 UTC" in text
    assert f"https://airflow.example/dags/{training}/runs/a/tasks/approval.ask/required_actions" in text
    assert "b for its turn since 2026-11-29 10:01 UTC" in text


@pytest.mark.parametrize(
    ("path", "unknown"),
    [
        ("hitlDetails", "questions: "),
        ("taskInstances", "what runs wait for: "),
        ("dagRuns", "runs: "),
        ("dags", "DAGs: "),
        ("pools", "pools: "),
    ],
)
def test_what_airflow_refuses_is_unknown_and_the_rest_is_told(
    world: World, monkeypatch: pytest.MonkeyPatch, path: str, unknown: str
) -> None:
    world.mwaa.refuses = path
    report, titanic = asked(world, monkeypatch)
    assert titanic["live"]["versions"][0]["version"] == "1"
    assert any(one.startswith(f"titanic: {unknown}Airflow refused: 403") for one in report["unknown"])


def test_a_broken_audit_entry_is_unknown_and_the_rest_is_told(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    world.put(f"{AUDIT}/20261128T220000.000000Z-deployed-3.json", b"{")
    report, titanic = asked(world, monkeypatch)
    assert [one["version"] for one in titanic["live"]["versions"]] == ["1"]
    assert titanic["live"]["by"] is None
    assert titanic["monitoring"]["outcome"] == "drifted"
    assert any("220000.000000Z-deployed-3.json: not valid JSON" in one for one in report["unknown"])


def test_other_datasets_do_not_suffer_for_one_that_cannot_be_read(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    described = world.sagemaker.describe_endpoint

    def for_some(EndpointName: str) -> dict[str, Any]:
        if EndpointName == "iris":
            raise refused("DescribeEndpoint")
        return described(EndpointName)

    monkeypatch.setattr(world.sagemaker, "describe_endpoint", for_some)
    report, iris = asked(world, monkeypatch, "iris")
    assert (iris["endpoint"]["status"], iris["live"]["versions"]) == (None, [])
    assert iris["live"]["unknown"][0].endswith("not yours")
    housing = next(one for one in report["datasets"] if one["dataset"] == "housing")
    assert (housing["live"]["versions"][0]["version"], housing["live"]["unknown"]) == ("1", [])


def test_without_the_facts_of_the_platform_airflow_is_still_asked(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.s3.delete_object(Bucket="dags", Key="dags/platform.json")
    world.mwaa.runs = [run("train__titanic", "a")]
    report, titanic = asked(world, monkeypatch)
    assert [one["run"] for one in titanic["activity"]["runs"]] == ["a"]
    assert (titanic["live"]["versions"], report["exit_code"]) == ([], 4)
    assert any("NoSuchKey" in one for one in titanic["live"]["unknown"])


def test_a_refused_file_of_a_dataset_is_named(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    file: Path = world.environment.root / "config" / "models" / "iris.yaml"
    file.write_text(file.read_text() + "\nnonsense: 1\n")
    report, _ = asked(world, monkeypatch)
    assert [one["dataset"] for one in report["datasets"]] == ["housing", "titanic"]
    assert "nonsense" in report["refused"]["iris"]


def test_alarms_of_an_endpoint_are_told(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    world.alarm("titanic-rollback-5xx", "titanic", "ALARM")
    world.cloudwatch.delete_alarms(AlarmNames=["titanic-rollback-4xx"])
    _, titanic = asked(world, monkeypatch)
    assert [one["name"] for one in titanic["endpoint"]["alarms"]] == ["titanic-rollback-5xx"]
    assert titanic["endpoint"]["missing_rollback_alarms"] == ["titanic-rollback-4xx"]


def test_a_hundred_datasets_cost_few_requests_each(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of Airflow as many as for one, but for the pages; of S3 no more for a longer audit log."""
    models = world.environment.root / "config" / "models"
    text = (models / "iris.yaml").read_text()
    for number in range(100):
        (models / f"copy{number:02d}.yaml").write_text(text.replace("name: iris", f"name: copy{number:02d}", 1))
    for minute in range(60):
        name = f"20261127T10{minute:02d}00.000000Z-rejected-2.json"
        world.put(f"{AUDIT}/{name}", b"never read")
    world.mwaa.dags = []
    world.asked.clear()
    report, titanic = asked(world, monkeypatch)
    assert len(report["datasets"]) == 103
    assert titanic["live"]["versions"][0]["approval"]["by"] == "policy"
    assert world.asked["GetObject"] + world.asked["ListObjectsV2"] < 9 * 103
    assert sum(world.mwaa.calls.values()) < 15
