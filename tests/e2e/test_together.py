"""Many datasets on one platform, with the cloud's orchestration: what waits holds up nobody.

The settings are production's, shortened only in time: tasks hand over to the triggerer at once and are looked at now
and then, every approval is a person's. Instances, pods and deployments stay as small as the machine.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import pytest
import yaml

from local import bootstrap, datasets
from local.pipeline import driver, summary
from local.pipeline.attached import AttachedPlatform
from local.pipeline.reconfigured import reconfigured
from tests.e2e.support import ROOT, LiveState, eventually, notifications

POLL_SECONDS = 1.0
TRIALS = 4
"""Of the run whose pods are counted; its pool has room for two."""
FAMILIES = {"iris": "pytorch", "housing": "sklearn"}


@pytest.fixture(scope="module")
def cloud_settings(platform: AttachedPlatform, tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Run the platform's DAGs with production's orchestration, approval and policy."""
    folder = tmp_path_factory.mktemp("cloud") / "config"
    shutil.copytree(ROOT / "config", folder)
    local, production = (yaml.safe_load((folder / f"{name}.yaml").read_text()) for name in ("local", "prod"))
    shorter = {"schedule": None, "poll_seconds": POLL_SECONDS, "retry_delay_seconds": 2}
    settings = {
        **local,
        "orchestration": production["orchestration"] | shorter,
        "approval": production["approval"] | {"poll_seconds": 10},  # each look is a process of Airflow's
        "policy": production["policy"],
    }
    (folder / "local.yaml").write_text(yaml.safe_dump(settings))
    with reconfigured(platform, folder):
        yield


@dataclass(frozen=True)
class Together:
    """What came of it all."""

    runs: dict[str, driver.RunReport]
    asked: driver.RunReport
    """Of flights: nobody answered, until another candidate passed the gate."""
    newer: driver.RunReport
    """Of flights: waited for a file meanwhile, and passed the gate."""
    back: driver.DeploymentReport
    """Of housing: the step back, while both of flights waited."""
    waiting_meanwhile: list[tuple[str, str]]
    """Which tasks of flights' two runs were under way when everybody else was done, and in which state."""
    paused: tuple[str, list[str]]
    """State of the run of the paused DAG at the end, and which of its tasks began."""
    flights_before: LiveState
    flights_after: LiveState


@pytest.fixture(scope="module")
def together(platform: AttachedPlatform, cloud_settings: None) -> Together:
    bootstrap.setup(["trainer-cuda"])
    airflow, before = platform.airflow, LiveState.of(platform)
    passing = {"minimum_improvement": -1000.0}  # the gate is tried elsewhere

    def start(name: str, label: str, **params: Any) -> str:
        run_id = driver.unique_run_id(f"{name}-{label}")
        driver.trigger(platform, name, run_id, **params)
        return run_id

    def deploy(name: str, run_id: str) -> driver.RunReport:
        asked = driver.is_asked(platform, name, run_id)
        assert asked, driver.report(platform, name, run_id, "ended").decision
        driver.answer(platform, name, run_id, "Approve", "good enough")
        return driver.follow(platform, name, run_id)

    def first(name: str) -> driver.RunReport:
        return deploy(name, start(name, FAMILIES[name], family=FAMILIES[name], trials=1))

    airflow.pause("train__titanic", paused=True)
    paused = start("titanic", "paused")
    asked = start("flights", "asked", wait_for_new_data=False, trials=TRIALS, seed=21, **passing)
    for name in FAMILIES:
        datasets.load(name).land(1, platform.s3, platform.landing)
    with ThreadPoolExecutor() as pool:
        runs = dict(zip(FAMILIES, pool.map(first, FAMILIES), strict=True))
    assert driver.is_asked(platform, "flights", asked)
    newer = start("flights", "newer", trials=1, seed=22, **passing)
    driver.wait_until_waiting(platform, "flights", newer)

    datasets.load("housing").land(2, platform.s3, platform.landing)
    again = start("housing", "again", family="sklearn", trials=1, **passing)
    assert deploy("housing", again).deployment is not None
    back = driver.unique_run_id("housing-back")
    airflow.trigger("rollback__housing", back, {"reason": "the first one was better"})
    back_report = driver.follow_deployment(platform, "rollback__housing", back)
    meanwhile = [
        (task.task_id, task.state)
        for run_id in (asked, newer)
        for task in airflow.tasks("train__flights", run_id)
        if task.state not in ("none", "success", "skipped")
    ]

    datasets.load("flights").land(2, platform.s3, platform.landing)
    assert driver.is_asked(platform, "flights", newer)
    asked_report = driver.follow(platform, "flights", asked)
    driver.answer(platform, "flights", newer, "Reject", "the old one stays")
    newer_report = driver.follow(platform, "flights", newer)
    titanic = airflow.run("train__titanic", paused)["state"]
    begun = [task.label for task in airflow.tasks("train__titanic", paused) if task.started_at]
    airflow.delete_run("train__titanic", paused)
    airflow.pause("train__titanic", paused=False)
    return Together(
        runs, asked_report, newer_report, back_report, meanwhile, (titanic, begun), before, LiveState.of(platform)
    )


def _spans(platform: AttachedPlatform, run: driver.RunReport, step: str | None = None) -> list[tuple[float, float]]:
    """When each of a run's pods was there, as the Kubernetes API has it."""
    return [(pod["created"], pod["finished"]) for pod in platform.pods(run_key=run.run_key, step=step)]


def _most_at_once(spans: list[tuple[float, float]]) -> int:
    moments = sorted([(begin, 1) for begin, _ in spans] + [(end, -1) for _, end in spans])
    there, most = 0, 0
    for _, change in moments:
        there += change
        most = max(most, there)
    return most


def test_three_datasets_are_at_work_at_once(platform: AttachedPlatform, together: Together) -> None:
    runs = [*together.runs.values(), together.asked]
    assert [run.state for run in together.runs.values()] == ["success", "success"]
    spans = [(min(span)[0], max(span, key=lambda one: one[1])[1]) for span in (_spans(platform, run) for run in runs)]
    assert _most_at_once(spans) == 3


def test_deferred_tasks_start_no_more_pods_than_their_pool_has_room_for(
    platform: AttachedPlatform, together: Together
) -> None:
    """Airflow's limit on the instances of a task does not count deferred ones: all trials would start at once."""
    spans = _spans(platform, together.asked, "train")
    assert len(spans) == TRIALS
    assert min(end - begin for begin, end in spans) > POLL_SECONDS, "too short to be looked at: this proves nothing"
    train = next(task for task in together.asked.tasks if task.task_id == "training.train")
    log = platform.airflow.log_of(together.asked.dag_id, together.asked.run_id, train)
    assert "Pausing task as DEFERRED" in log
    assert _most_at_once(spans) == 2


def test_what_waits_for_a_person_or_a_file_holds_up_nobody(together: Together) -> None:
    assert sorted(task for task, _ in together.waiting_meanwhile) == ["approval.ask", "ingest.wait_for_data"]
    # Each looks up now and then, for which it is queued and runs for a moment.
    assert {state for _, state in together.waiting_meanwhile} <= {"deferred", "scheduled", "queued", "running"}
    assert together.back.state == "success"
    assert together.back.result is not None
    assert (together.back.result["purpose"], together.back.result["model_version"]) == ("rollback", "1")


def test_a_newer_candidate_takes_the_place_of_one_that_waits(platform: AttachedPlatform, together: Together) -> None:
    asked, newer = together.asked, together.newer
    assert asked.state == "success"
    assert asked.record is not None
    assert asked.record["outcome"] == "superseded"
    assert asked.approval is not None
    assert asked.approval["outcome"] == "superseded"
    assert asked.deployed is None
    assert asked.decision is not None
    version = asked.decision["candidate_version"]
    told = f"Version {version} of flights was not deployed: version "
    assert eventually(lambda: any(told in text for text in notifications(platform)))
    logged = [(entry["kind"], entry["model_version"]) for entry in driver.audit_log(platform, "flights")]
    assert ("superseded", version) in logged
    assert newer.approval is not None
    assert newer.approval["outcome"] == "rejected"


def test_what_was_live_of_a_dataset_whose_candidates_wait_stays_live(together: Together) -> None:
    before, after = together.flights_before, together.flights_after
    assert (after.champion, after.configuration) == (before.champion, before.configuration)
    assert after.answered_by == before.answered_by


def test_a_paused_dataset_rests(together: Together) -> None:
    assert together.paused == ("queued", [])


@pytest.mark.parametrize("name", FAMILIES)
def test_a_dataset_goes_from_its_files_to_predictions(
    platform: AttachedPlatform, kubernetes: Any, together: Together, name: str
) -> None:
    """Several classes, and a number; the demo does it for two classes."""
    run = together.runs[name]
    assert run.state == "success", [task.label for task in run.failed_tasks]
    assert [trial["status"] for trial in run.trials] == ["succeeded"]
    assert run.decision is not None
    assert run.decision["outcome"] == "needs-approval", run.decision["reasons"]
    assert len(kubernetes.pods(run_key=run.run_key, step="train")) == 1
    assert run.deployment is not None
    predictions, reply = driver.predict_held_out(platform, run, run.deployment["endpoint_name"], count=10)
    examples = platform.read_json(f"{run.prefix}/evaluate/examples.json")["examples"][: len(predictions)]
    for prediction, example in zip(predictions, examples, strict=True):
        assert prediction.answer == pytest.approx(example["prediction"], rel=1e-4, abs=1e-5)
    assert len(summary.predictions_table(predictions, reply.get("classes")).rows) == len(predictions)
    for step in ("validate", "evaluate"):
        report = f"{run.prefix}/{step}/report.html"
        page = platform.s3.get_object(Bucket=platform.data, Key=report)["Body"].read().decode()
        assert page.startswith("<!doctype html>")
