"""What happens on the platform before it is written down: models of every family, and everything that befalls them.

Each scene uses the platform as its users do, through Airflow, S3 and the endpoint, so that every document is written
by the code that always writes it. The two that would take days, a deadline that passes and a retraining that is wanted,
are written by calling the functions behind them.
"""

from __future__ import annotations

import io
import json
import os
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Literal

import httpx
import pyarrow as pa
import pyarrow.parquet as pq
from rich.console import Console

from local.datasets import load
from local.pipeline import driver
from local.pipeline.attached import AttachedPlatform
from local.platform.home import ROOT
from local.platform.images import image

DATASET = "titanic"
"""What most of it is about: it has categories, missing values and slices."""
OTHERS = {"iris": "pytorch", "housing": "lightgbm"}
"""One run each, for the other tasks and families."""
SCRATCH = "scratch/"
"""Beginning of the keys of what is no document of the platform's."""
SERVED_ROWS = 30
"""Of a request to the endpoint."""
CAPTURED_REQUESTS = 10
"""Enough rows for the monitoring to judge them."""


@dataclass
class Told:
    """What the scenes have made."""

    platform: AttachedPlatform
    console: Console
    runs: dict[str, driver.RunReport] = field(default_factory=dict)
    """By name of the scene."""

    def version(self, scene: str) -> str:
        """Return the model version that a scene's run has made."""
        decision = self.runs[scene].decision
        assert decision is not None
        return str(decision["candidate_version"])

    def say(self, text: str) -> None:
        """Tell whoever waits what happens now."""
        self.console.print(f"{time.strftime('%H:%M:%S')} {text}")


def tell(platform: AttachedPlatform, console: Console) -> Told:
    """Play all scenes in order."""
    told = Told(platform, console)
    for scene in SCENARIO:
        told.say(scene.__doc__ or "")
        scene(told)
    return told


def first_model(told: Told) -> None:
    """The first model: approved by the policy, and the endpoint is made."""
    _train(told, "first", DATASET, land=1, family="xgboost", trials=2)


def no_better_model(told: Told) -> None:
    """Data lands again, one trial of three fails, and the gate asks for a much better model than there is."""
    fault = {"kind": "oom", "selector": "ml-platform/step=train,map_index=2", "times": None}
    told.platform.kubernetes.post("/local/faults", json=fault).raise_for_status()
    run = _train(told, "no-better", DATASET, land=2, family="sklearn", trials=3, minimum_improvement=0.2)
    told.platform.kubernetes.delete("/local/faults").raise_for_status()
    _expect(run.decision is not None and run.decision["outcome"] == "reject", "the gate let it pass")
    _expect([task.label for task in run.failed_tasks] == ["training.train[2]"], "no trial failed, or another one")


def approved_model(told: Told) -> None:
    """A model that a person approves."""

    def approve(run_id: str) -> None:
        _expect(driver.is_asked(told.platform, DATASET, run_id), "nobody was asked")
        driver.answer(told.platform, DATASET, run_id, "Approve", "as good, and it knows more passengers")

    wanted: dict[str, Any] = {"ask_a_person": True, "minimum_improvement": -0.2}
    _train(told, "approved", DATASET, family="lightgbm", meanwhile=approve, trials=2, **wanted)


def watched_model(told: Told) -> None:
    """Passengers much older than those of the training data are asked about, and the monitoring looks at it."""
    platform = told.platform
    rows = _served_rows(told)
    asked: dict[str, list[dict[str, Any]]] = {}
    deadline = time.monotonic() + 180
    while (missing := CAPTURED_REQUESTS - _captured(platform)) > 0:
        _expect(time.monotonic() < deadline, "too few requests were captured")
        for _ in range(missing):
            chosen = [rows[(len(asked) * SERVED_ROWS + row) % len(rows)] for row in range(SERVED_ROWS)]
            asked[name := f"golden-{len(asked):04d}"] = chosen
            _ask(platform, name, chosen)
        time.sleep(1)
    captured = "".join(_captures(platform))
    labels = [
        {"inference_id": name, "row": number, "survived": row["survived"]}
        for name, chosen in asked.items()
        if name in captured
        for number, row in enumerate(chosen)
    ]
    _land_labels(platform, labels)
    monitor, run_id = driver.dag_id("monitor", DATASET), driver.unique_run_id("golden-watched")
    platform.airflow.trigger(monitor, run_id, {})
    _expect(platform.airflow.wait(monitor, run_id, 300) == "success", "the monitoring failed")


def rejected_model(told: Told) -> None:
    """One that a person rejects."""

    def reject(run_id: str) -> None:
        _expect(driver.is_asked(told.platform, DATASET, run_id), "nobody was asked")
        driver.answer(told.platform, DATASET, run_id, "Reject", "not before the holidays")

    wanted: dict[str, Any] = {"ask_a_person": True, "minimum_improvement": -0.2}
    _train(told, "rejected", DATASET, family="xgboost", meanwhile=reject, trials=1, seed=7, **wanted)


def refused_file(told: Told) -> None:
    """A file that is no Parquet is refused, and the run fails."""
    broken = io.BytesIO(b"PAR1 and nothing else")
    key = f"{DATASET}/passengers/broken.parquet"

    def land() -> None:
        told.platform.s3.put_object(Bucket=told.platform.landing, Key=key, Body=broken.getvalue())

    _train(told, "refused", DATASET, lands=land, ends="failed", family="xgboost", trials=1)
    _expect(
        _eventually(lambda: told.platform.read_json(f"quarantine/{key}.reason.json", told.platform.landing)),
        "the file is not in quarantine",
    )


def experiment(told: Told) -> None:
    """The live model and the one before, both on the endpoint."""
    versions = {"version": told.version("approved"), "challenger": told.version("first")}
    _deploy(told, "deploy", "golden-experiment", {**versions, "challenger_weight": 0.2, "reason": "which one"})


def refused_deployment(told: Told) -> None:
    """The rejected version is not deployed."""
    params = {"version": told.version("rejected"), "reason": "try it anyway"}
    _deploy(told, "deploy", "golden-unapproved", params, ends="failed")


def failed_deployment(told: Told) -> None:
    """The rejected version, by force, and the endpoint cannot be updated: what was live stays live."""
    fault = {"kind": "update-fails", "endpoint": DATASET, "times": 1}
    httpx.post(f"{told.platform.addresses['aws']}/_local/faults", json=fault).raise_for_status()
    params = {"version": told.version("rejected"), "reason": "by force", "force": True}
    _deploy(told, "deploy", "golden-failing", params, ends="failed")


def rollback(told: Told) -> None:
    """One step back."""
    _deploy(told, "rollback", "golden-back", {"reason": "complaints since Monday"})


def other_datasets(told: Told) -> None:
    """A model of several classes, and one of numbers."""
    for dataset, family in OTHERS.items():
        _train(told, dataset, dataset, land=1, family=family, trials=1)


def more_families(told: Told) -> None:
    """The other families for both, by the training step alone: their models are saved, and nothing else is made."""
    from mlplatform import storage
    from mlplatform.config.loading import load_family
    from mlplatform.documents.run import RunConfig, Trial

    platform = told.platform
    trainer = image("trainer", str(platform.home.root))
    for dataset, family in OTHERS.items():
        prefix = f"s3://{platform.data}/{told.runs[dataset].prefix}"
        config = storage.read_document(f"{prefix}/config.json", RunConfig)
        for other in sorted({"xgboost", "lightgbm", "sklearn"} - {family}):
            fixed = config.model.families[other].params
            estimators = ("linear", "hist_gradient_boosting") if other == "sklearn" else (None,)
            trials = [
                Trial(index=index, params={**fixed, **({"estimator": name} if name else {})})
                for index, name in enumerate(estimators)
            ]
            own = {"run_key": f"{dataset}-{other}", "family": load_family(other, ROOT), "trials": trials}
            scratch = f"s3://{platform.data}/{SCRATCH}{dataset}-{other}"
            storage.write_document(f"{scratch}/config.json", config.model_copy(update=own))
            where = ["--config", f"{scratch}/config.json", "--input", f"{prefix}/prepare", "--output", scratch]
            subprocess.run([*trainer.entrypoint, "train", *where], env={**os.environ, **trainer.env}, check=True)


def passed_deadline(told: Told) -> None:
    """Nobody answers in time, whether the model that the gate rejected may be deployed after all."""
    from mlplatform.config.names import owner_of_run
    from mlplatform.documents.decisions import Answer
    from mlplatform.promotion import approval
    from mlplatform.training import approvals

    settings, run = _settings(told.platform), told.runs["no-better"]
    question = approvals.question(settings, f"s3://{told.platform.data}/{run.prefix}")
    answer = Answer(
        outcome="expired", by=approval.DEADLINE, reason="no answer in time", at=datetime.now(UTC), source="deadline"
    )
    approval.record(settings, question, answer, owner_of_run(run.dag_id, run.run_id))


def wanted_retraining(told: Told) -> None:
    """The monitoring asks for a retraining, as it does where the settings want one."""
    from mlplatform import storage
    from mlplatform.config.names import owner_of_run
    from mlplatform.documents.monitoring import MonitorResult
    from mlplatform.monitoring import retraining
    from mlplatform.steps import RESULT

    settings = _settings(told.platform)
    limits = settings.monitoring.model_copy(update={"action": "retrain"})
    settings = settings.model_copy(update={"monitoring": limits})
    keys = [key for key in told.platform.keys(f"monitoring/{DATASET}/") if key.endswith(f"/{RESULT}")]
    verdict = storage.read_document(f"s3://{told.platform.data}/{keys[0]}", MonitorResult).verdict
    _expect(verdict.outcome in ("drifted", "degraded"), f"the verdict is {verdict.outcome}")
    owner = owner_of_run(driver.dag_id("monitor", DATASET), "golden-watched")
    refusal = retraining.claim(settings, DATASET, verdict, owner, datetime.now(UTC))
    _expect(refusal is None, str(refusal))


SCENARIO: tuple[Callable[[Told], None], ...] = (
    first_model,
    no_better_model,
    approved_model,
    watched_model,
    rejected_model,
    refused_file,
    experiment,
    refused_deployment,
    failed_deployment,
    rollback,
    other_datasets,
    more_families,
    passed_deadline,
    wanted_retraining,
)


def _train(
    told: Told,
    name: str,
    dataset: str,
    *,
    land: int | None = None,
    lands: Callable[[], None] | None = None,
    meanwhile: Callable[[str], None] | None = None,
    ends: str = "success",
    **params: Any,
) -> driver.RunReport:
    """Run the pipeline, on a batch that lands or on what has landed before."""
    platform, run_id = told.platform, driver.unique_run_id(f"golden-{name}")
    if land is not None:
        batch = land

        def lands() -> None:
            load(dataset).land(batch, platform.s3, platform.landing)

    driver.trigger(platform, dataset, run_id, wait_for_new_data=lands is not None, **params)
    if lands is not None:
        driver.wait_until_waiting(platform, dataset, run_id, 300)
        lands()
    if meanwhile is not None:
        meanwhile(run_id)
    run = driver.follow(platform, dataset, run_id)
    _expect(run.state == ends, f"{run_id} ended as {run.state}: {[task.label for task in run.failed_tasks]}")
    deployed = run.deployed
    _expect(deployed is None or deployed.state == "success", f"{run_id}: {deployed.failure if deployed else ''}")
    told.runs[name] = run
    told.say(f"  {run_id} ended as {run.state}, {run.record}")
    return run


def _deploy(
    told: Told, kind: Literal["deploy", "rollback"], label: str, params: dict[str, Any], ends: str = "success"
) -> None:
    deployment, run_id = driver.dag_id(kind, DATASET), driver.unique_run_id(label)
    told.platform.airflow.trigger(deployment, run_id, params)
    report = driver.follow_deployment(told.platform, deployment, run_id)
    _expect(report.state == ends, f"{run_id} ended as {report.state}: {report.failure}")
    told.say(f"  {run_id} ended as {report.state}, {report.failure or ''}")


def _served_rows(told: Told) -> list[dict[str, Any]]:
    """Held-out passengers, made older by 30 years, with what happened to them."""
    platform, run = told.platform, told.runs["approved"]
    test = platform.read_json(f"{run.prefix}/prepare/result.json")["test"]["uris"][0]
    key = test.removeprefix(f"s3://{platform.data}/")
    body = platform.s3.get_object(Bucket=platform.data, Key=key)["Body"].read()
    rows: list[dict[str, Any]] = pq.read_table(io.BytesIO(body)).to_pylist()
    return [{**row, "age": None if row["age"] is None else row["age"] + 30} for row in rows]


def _ask(platform: AttachedPlatform, inference_id: str, rows: list[dict[str, Any]]) -> None:
    features = platform.read_json(
        next(key for key in platform.keys(f"runs/{DATASET}/") if key.endswith("/evaluate/config.json"))
    )["model"]["features"]
    platform.endpoints.invoke_endpoint(
        EndpointName=DATASET,
        ContentType="application/json",
        InferenceId=inference_id,
        Body=json.dumps({"instances": [{name: row[name] for name in features} for row in rows]}),
    )


def _captures(platform: AttachedPlatform) -> list[str]:
    keys = [key for key in platform.keys(f"capture/{DATASET}/") if key.endswith(".jsonl")]
    return [platform.s3.get_object(Bucket=platform.data, Key=key)["Body"].read().decode() for key in keys]


def _captured(platform: AttachedPlatform) -> int:
    return sum(len(text.splitlines()) for text in _captures(platform))


def _land_labels(platform: AttachedPlatform, labels: list[dict[str, Any]]) -> None:
    content = io.BytesIO()
    pq.write_table(pa.Table.from_pylist(labels), content)
    key = f"labels/{DATASET}/golden.parquet"
    platform.s3.put_object(Bucket=platform.landing, Key=key, Body=content.getvalue())


def _settings(platform: AttachedPlatform) -> Any:
    from mlplatform.config.loading import load_dataset

    return load_dataset(DATASET, platform.home.bundle).settings


def _eventually(holds: Callable[[], Any], timeout: float = 60) -> bool:
    deadline = time.monotonic() + timeout
    while not holds():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.5)
    return True


def _expect(condition: bool, otherwise: str) -> None:
    if not condition:
        raise RuntimeError(otherwise)
