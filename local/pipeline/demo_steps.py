"""The steps of the demo: what happens on the platform, and what is printed while it happens."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal

import httpx
from rich.console import Console

from local.datasets import Dataset
from local.pipeline import driver, summary
from local.pipeline.attached import AttachedPlatform
from local.pipeline.load import Load

SECOND_FAMILY = "sklearn"
"""What the second batch is trained with, unless a family was asked for: another one than the platform's default."""


class DemoFailed(Exception):
    """The story did not end well; the message has the failing task and its log."""


@dataclass
class Stage:
    """Where the story happens, and what happened so far."""

    platform: AttachedPlatform
    console: Console
    dataset: Dataset
    family: str | None
    """Of models, for all acts; None takes the platform's default, and another one for comparison."""
    runs: list[driver.RunReport] = field(default_factory=list)
    deployments: list[driver.DeploymentReport] = field(default_factory=list)
    _opened: int = 0

    def open(self, title: str) -> None:
        """Begin the next act."""
        self._opened += 1
        self.console.print()
        self.console.rule(f"Act {self._opened}: {title}")

    @property
    def name(self) -> str:
        """Of the dataset."""
        return self.dataset.DATASET

    @property
    def registered_model(self) -> str:
        """Name of the dataset's model in the registry, once a run has claimed its work."""
        model: str = self.platform.read_json(f"{self.runs[0].prefix}/config.json")["model"]["registered_model"]
        return model

    def version(self, alias: str) -> str | None:
        """Return the version that an alias of the model points to."""
        found = self.platform.registry.get_registered_model(self.registered_model).aliases.get(alias)
        return None if found is None else str(found)


def first_model(stage: Stage) -> None:
    """Data lands; there is nothing to compare the model with yet."""
    stage.open(f"The first model: {stage.dataset.BATCHES[0]}")
    _train(stage, 1, stage.family)


def better_model(stage: Stage) -> None:
    """More data lands, and a person approves what passes the gate, through Airflow's API."""
    family = stage.family or SECOND_FAMILY
    stage.open(f"New data, and a person to ask: {stage.dataset.BATCHES[1]}")
    _train(stage, 2, family, ask_a_person=True)


def other_model(stage: Stage) -> None:
    """The same data once more, one trial and another seed: it has to beat what is live by now."""
    stage.open("The same data again, another model: the gate compares")
    run_id = driver.unique_run_id(f"demo-{stage.name}-again")
    chosen = {"family": stage.family} if stage.family else {}
    driver.trigger(stage.platform, stage.name, run_id, wait_for_new_data=False, trials=1, seed=5, **chosen)
    _follow(stage, run_id, "started")


def bad_canary(stage: Stage) -> None:
    """The version before is deployed again, but its canary answers with errors: the alarm rolls it back."""
    stage.open("A canary that fails is rolled back")
    version, endpoint = stage.version("previous"), _endpoint(stage)
    if version is None or endpoint is None:
        stage.console.print("There is only one version that was ever live: nothing to deploy beside it.")
        return
    before = stage.platform.sagemaker.describe_endpoint(EndpointName=endpoint)["EndpointConfigName"]
    run_id = driver.unique_run_id(f"demo-{stage.name}-canary")
    faults = f"{stage.platform.addresses['aws']}/_local/faults"
    fault = {"kind": "canary-5xx", "endpoint": endpoint, "times": 1_000_000}
    httpx.post(faults, json=fault).raise_for_status()
    stage.console.print(f"Version {version} is deployed while people ask; every answer of its canary is an error 500.")
    try:
        with _people_who_ask(stage, endpoint) as load:
            params = {"version": version, "reason": "the demo's failing canary"}
            report = _deploy(stage, "deploy", run_id, params)
    finally:
        httpx.delete(faults).raise_for_status()
    stage.console.print(load.summary())
    if report.failure:
        stage.console.print(f"Why: {report.failure}", markup=False)
    after = stage.platform.sagemaker.describe_endpoint(EndpointName=endpoint)["EndpointConfigName"]
    if report.state == "success" or before != after:
        raise DemoFailed(f"the canary answered with errors, but endpoint {endpoint} now runs {after}, not {before}")


def step_back(stage: Stage) -> None:
    """One step back to the version that was live before."""
    stage.open("One step back")
    version, endpoint = stage.version("previous"), _endpoint(stage)
    if version is None or endpoint is None:
        stage.console.print("There is no version to go back to.")
        return
    run_id = driver.unique_run_id(f"demo-{stage.name}-back")
    with _people_who_ask(stage, endpoint) as load:
        params = {"reason": "the demo shows how to go back"}
        report = _deploy(stage, "rollback", run_id, params)
    stage.console.print(load.summary())
    if report.state != "success":
        raise DemoFailed(explain(stage.platform, report))
    if stage.version("champion") != version:
        raise DemoFailed(f"version {version} was to be champion again, but it is {stage.version('champion')}")
    if load.errors:
        raise DemoFailed(f"nothing was broken, but requests failed while the models were swapped: {load.summary()}")
    seconds = report.result["seconds"] if report.result else 0.0
    stage.console.print(f"Version {version} is live and champion again; the endpoint took {seconds:.0f} s for it.")


def explain(platform: AttachedPlatform, report: driver.RunReport | driver.DeploymentReport) -> str:
    """Return why a run ended badly: the log of each task that failed."""
    parts = [f"run {report.run_id} of {report.dag_id} ended as {report.state}"]
    for task in report.failed_tasks:
        log = platform.airflow.log_of(report.dag_id, report.run_id, task)
        parts.append(f"--- task {task.label} failed; its log:\n{log}")
    return "\n".join(parts)


def _train(stage: Stage, batch: int, family: str | None, ask_a_person: bool = False) -> None:
    run_id = driver.unique_run_id(f"demo-{stage.name}-{batch}")
    chosen = {"family": family} if family else {}
    driver.trigger(stage.platform, stage.name, run_id, ask_a_person=ask_a_person, **chosen)
    stage.console.print(f"Run {run_id} waits for data …")
    driver.wait_until_waiting(stage.platform, stage.name, run_id)
    keys = stage.dataset.land(batch, stage.platform.s3, stage.platform.landing)
    stage.console.print(
        f"{stage.dataset.BATCHES[batch - 1]} lands in s3://{stage.platform.landing}: {', '.join(keys.values())}"
    )
    _follow(stage, run_id, "landed", _approve if ask_a_person else None)


def _approve(stage: Stage, run_id: str, lines: summary.ProgressLines) -> None:
    if driver.is_asked(stage.platform, stage.name, run_id, on_change=lines):
        driver.answer(stage.platform, stage.name, run_id, "Approve", "the demo's person has read the report")
        stage.console.print("A person was asked, and approves in Airflow.")


def _follow(
    stage: Stage,
    run_id: str,
    since: str,
    meanwhile: Callable[[Stage, str, summary.ProgressLines], None] | None = None,
) -> None:
    started = time.monotonic()
    lines = summary.ProgressLines(stage.console, started)
    if meanwhile:
        meanwhile(stage, run_id, lines)
    report = driver.follow(stage.platform, stage.name, run_id, on_change=lines)
    stage.runs.append(report)
    for ended in (report, report.deployed):
        if ended is not None and ended.state != "success":
            raise DemoFailed(explain(stage.platform, ended))
    if report.deployed:
        stage.deployments.append(report.deployed)
    stage.console.print(summary.decision_text(report))
    stage.console.print(
        f"From {since} to {'live' if report.deployment else 'decided'}: {time.monotonic() - started:.0f} s"
    )


def _deploy(
    stage: Stage, kind: Literal["deploy", "rollback"], run_id: str, params: dict[str, str]
) -> driver.DeploymentReport:
    deployment = driver.dag_id(kind, stage.name)
    stage.platform.airflow.trigger(deployment, run_id, dict(params))
    lines = summary.ProgressLines(stage.console, time.monotonic())
    report = driver.follow_deployment(stage.platform, deployment, run_id, on_change=lines)
    stage.deployments.append(report)
    return report


def _people_who_ask(stage: Stage, endpoint: str) -> Load:
    return Load(stage.platform, endpoint, driver.held_out(stage.platform, stage.runs[0], 1)[0]["features"])


def _endpoint(stage: Stage) -> str | None:
    """Return the endpoint that deployments went to; None if there was none."""
    results = [deployment.result for deployment in stage.deployments if deployment.result]
    return str(results[-1]["endpoint_name"]) if results else None
