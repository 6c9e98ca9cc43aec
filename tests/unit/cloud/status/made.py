"""Facts as a healthy environment has them, for tests to change."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from cloud.status.facts import AirflowFacts, Alarm, Dag, DatasetFacts, Endpoint, Facts, Run, Task, Variant
from cloud.terraform import ROOT
from mlplatform.config.environment import Settings
from mlplatform.config.loading import load_settings
from mlplatform.config.names import dag_ids
from mlplatform.documents.decisions import AuditEntry
from mlplatform.documents.monitoring import Drifted, MonitoringVerdict, MonitorResult, WatchedVersion
from tests.golden.sets import SETS

NOW = datetime(2026, 12, 1, 12, tzinfo=UTC)
URL = "https://airflow.example"
CONFIG = "flights-v2-5ca7c9c0-0f61bf3d"


@cache
def _local_settings() -> Settings:
    with TemporaryDirectory() as folder:
        bundle = Path(folder)
        (bundle / "config").symlink_to(ROOT / "config")
        (bundle / "platform.json").write_text(json.dumps(SETS[0].platform))
        return load_settings(bundle)


def settings(**monitoring: Any) -> Settings:
    """Return settings in which monitoring has a schedule."""
    found = _local_settings()
    watched = found.monitoring.model_copy(update={"schedule": "@daily", **monitoring})
    return found.model_copy(update={"monitoring": watched})


def entry(kind: Any = "deployed", version: str = "2", **changes: Any) -> AuditEntry:
    """Return an entry of the audit log, a day old."""
    known: dict[str, Any] = {
        "kind": kind,
        "at": NOW - timedelta(days=1),
        "dataset": "flights",
        "registered_model": "flights-late-arrival",
        "model_version": version,
        "model_digest": "m",
        "evaluation_digest": "e",
        "by": "jane",
        "reason": "better",
        "dag_run": "deploy__flights/a",
        "details": {} if kind == "approved" else {"endpoint_config": CONFIG},
    }
    return AuditEntry(**{**known, **changes})


def verdict(outcome: Any = "ok", *reasons: str, at: datetime = NOW - timedelta(hours=11)) -> MonitorResult:
    """Return what monitoring found."""
    moved = Drifted(psi=0.05, bins=4, most="a", before=0.1, now=0.2, missing=0)
    return MonitorResult(
        run_key="k",
        started_at=at,
        finished_at=at,
        endpoint_name="flights",
        start=at,
        labels_start=at,
        end=at,
        requests=10,
        rows=300,
        malformed=0,
        versions=[
            WatchedVersion(
                model_version="2",
                requests=10,
                rows=300,
                features={"distance": moved, "hour": moved.model_copy(update={"psi": 0.2})},
                prediction=moved,
            )
        ],
        verdict=MonitoringVerdict(outcome=outcome, reasons=list(reasons)),
        report_uri="s3://data/report.html",
    )


def dataset(name: str = "flights", **changes: Any) -> DatasetFacts:
    """Return a dataset whose version 2 is live."""
    known = DatasetFacts(
        name=name,
        enabled=True,
        settings=settings(),
        endpoint_name=name,
        endpoint=Endpoint("InService", CONFIG, [Variant("primary", "2", 1.0)]),
        put_live=entry(),
        approvals={"2": entry("approved", by="john")},
        families={"2": "xgboost"},
        verdict=verdict(),
        turn=None,
    )
    return replace(known, **changes)


def airflow(*names: str, **changes: Any) -> AirflowFacts:
    """Return an Airflow in which nothing runs."""
    dags = {dag: Dag(paused=False, next_run=None) for name in names or ("flights",) for dag in dag_ids(name)}
    pools = {"deployment": 32, **{f"training__{name}": 2 for name in names or ("flights",)}}
    return replace(AirflowFacts(URL, dags, [], [], [], [], pools), **changes)


def alarms(*names: str) -> list[Alarm]:
    """Return the rollback alarms of endpoints, all in order."""
    return [
        Alarm(f"{name}-rollback-{what}", "OK", NOW, name)
        for name in names or ("flights",)
        for what in ("4xx", "5xx", "latency", "overhead")
    ]


def facts(*datasets: DatasetFacts, **changes: Any) -> Facts:
    """Return an environment with these datasets."""
    known = datasets or (dataset(),)
    names = [one.name for one in known]
    return replace(Facts("prod", NOW, airflow(*names), alarms(*names), known), **changes)


def run(dag: str, state: str = "running", name: str = "r1", ago: timedelta = timedelta(minutes=5)) -> Run:
    """Return a run that began some time ago."""
    return Run(dag, name, state, NOW - ago)


def task(dag: str, name: str, state: str = "deferred", of: str = "r1") -> Task:
    """Return a task instance of a run."""
    return Task(dag, of, name, state, NOW - timedelta(minutes=4))
