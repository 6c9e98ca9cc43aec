"""A small task on synthetic landing files, and a way to run steps on it as a pod would."""

from __future__ import annotations

import io
import json
import socket
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from mlplatform.config.dataset import ModelConfig
from mlplatform.config.environment import Preparation, Search, StudyDatabase
from mlplatform.config.loading import load_family
from mlplatform.documents.inputs import InputManifest, InputObject
from mlplatform.documents.profiles import BINS, CategoryProfile, DataProfile, NumberProfile
from mlplatform.documents.results import StepFailure
from mlplatform.documents.run import Candidate, RunConfig, Trial
from mlplatform.steps import EXIT_NON_RETRYABLE, STEPS, main
from mlplatform.storage import client, read_document, try_read_bytes, try_read_document, write_document
from trainer.data import Dataset, Kind

ROOT = Path(__file__).parents[3]
ENVS = ROOT / ".local" / "envs"

MODEL: dict[str, Any] = {
    "name": "parcels",
    "description": "Whether a parcel arrives late.",
    "owner": "tests",
    "registered_model": "parcels-late",
    "task": "binary",
    "tables": {
        "parcels": {
            "trigger": True,
            "minimum_rows": 50,
            "unique_key": ["id"],
            "columns": {
                "id": {"type": "integer", "minimum": 0},
                "sent": {"type": "timestamp"},
                "depot": {"type": "string", "allowed": ["north", "south", "west"]},
                "weight": {"type": "number", "nullable": True, "minimum": 0, "maximum": 1000},
                "express": {"type": "boolean"},
                "delivered": {"type": "boolean"},
                "delay": {"type": "number", "nullable": True, "required_when": "delivered"},
            },
        },
        "depots": {
            "columns": {"depot": {"type": "string"}, "staff": {"type": "integer"}},
            "unique_key": ["depot"],
        },
    },
    "query": "select p.id, p.sent, p.depot, p.weight, p.weight / (d.staff - 3) as load, p.express::integer as express, "
    "p.delay, (p.delay > 15)::integer as late from parcels p left join depots d using (depot) where p.delivered",
    "target": "late",
    "features": {
        "weight": {"type": "number"},
        "load": {"type": "number"},
        "express": {"type": "number"},
        "depot": {"type": "category"},
    },
    "references": ["id", "sent", "delay"],
    "split": {"kind": "time", "column": "sent", "validation_days": 3, "test_days": 3},
    "metric": "roc_auc",
    "families": {
        "xgboost": {"params": {"n_estimators": 40, "early_stopping_rounds": 10}},
        "sklearn": {"params": {"max_iter": 60}},
    },
    "policy": {"minimum_quality": 0.6},
}

MULTICLASS: dict[str, Any] = {
    "task": "multiclass",
    "query": MODEL["query"].replace(
        "(p.delay > 15)::integer as late",
        "case when p.delay > 20 then 'very late' when p.delay > 10 then 'late' else 'on time' end as late",
    ),
    "metric": "log_loss",
    "policy": {"minimum_quality": 1.0},
}
"""What makes three classes (`late`, `on time`, `very late`) of `MODEL`."""
REGRESSION: dict[str, Any] = {
    "task": "regression",
    "query": MODEL["query"].replace("(p.delay > 15)::integer as late", "p.delay as late"),
    "metric": "rmse",
    "policy": {"minimum_quality": 20.0},
}
"""What makes `MODEL` a regression of the delay in minutes."""
TASKS: dict[str, dict[str, Any]] = {"binary": {}, "multiclass": MULTICLASS, "regression": REGRESSION}

Columns = dict[str, list[Any]]


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port: int = free.getsockname()[1]
        return port


def parcels(days: int = 12, per_day: int = 50, seed: int = 1) -> Columns:
    """Parcels whose delay depends on depot, weight and chance."""
    draw = np.random.default_rng(seed)
    rows = days * per_day
    depot = draw.choice(["north", "south", "west"], rows)
    weight = draw.gamma(2.0, 10.0, rows)
    delivered = draw.random(rows) > 0.05
    delay = 10 * (depot == "west") + 0.5 * weight + draw.normal(0, 6, rows)
    start = datetime(2024, 3, 1)
    return {
        "id": list(range(rows)),
        "sent": [start + timedelta(minutes=row * 1440 / per_day) for row in range(rows)],
        "depot": depot.tolist(),
        "weight": [None if gone else float(value) for value, gone in zip(weight, draw.random(rows) < 0.1, strict=True)],
        "express": (draw.random(rows) > 0.7).tolist(),
        "delivered": delivered.tolist(),
        "delay": [float(value) if there else None for value, there in zip(delay, delivered, strict=True)],
    }


def depots() -> Columns:
    return {"depot": ["north", "south", "west"], "staff": [3, 5, 9]}


def parquet(columns: Columns, types: dict[str, pa.DataType] | None = None) -> bytes:
    table = pa.table({name: pa.array(values, (types or {}).get(name)) for name, values in columns.items()})
    buffer = io.BytesIO()
    pq.write_table(table, buffer)
    return buffer.getvalue()


def profile(data: Dataset, kinds: Mapping[str, Kind], classes: Sequence[str] | None = ("0", "1")) -> DataProfile:
    """What step prepare writes of a train split, computed by NumPy alone."""
    columns: dict[str, NumberProfile | CategoryProfile] = {}
    for name, kind in kinds.items():
        values = data.columns[name]
        if kind == "category":
            counts = Counter(str(value) for value in values if value is not None)
            missing = sum(value is None for value in values)
            columns[name] = CategoryProfile(missing=missing, counts=dict(sorted(counts.items())))
            continue
        there = np.asarray(values, dtype=np.float64)
        there = there[np.isfinite(there)]
        low, high = (float(there.min()), float(there.max())) if len(there) else (0.0, 0.0)
        bins = np.zeros(len(there), dtype=int)
        if high > low:
            bins = np.minimum(((there - low) / (high - low) * BINS).astype(int), BINS - 1)
        columns[name] = NumberProfile(
            missing=data.rows - len(there),
            mean=float(there.mean()) if len(there) else 0.0,
            deviation=float(there.std()) if len(there) else 0.0,
            minimum=low,
            maximum=high,
            histogram=np.bincount(bins, minlength=BINS).tolist(),
        )
    return DataProfile(rows=data.rows, columns=columns, classes=None if classes is None else list(classes))


@dataclass
class Run:
    """A run's prefix on S3, its landed files, and its configuration."""

    name: str
    tracking_uri: str = "http://127.0.0.1:9"  # nobody listens: a step that should not need MLflow fails
    model: dict[str, Any] = field(default_factory=lambda: json.loads(json.dumps(MODEL)))
    family: str = "xgboost"
    seed: int = 7
    objects: list[InputObject] = field(default_factory=list)
    trials: list[Trial] = field(default_factory=lambda: [Trial(index=0, params={"max_depth": 3})])
    search: Search = field(default_factory=Search)
    study_database: StudyDatabase | None = None
    preparation: Preparation = field(default_factory=Preparation)
    checkpoint_seconds: float = 300
    parent_run_id: str | None = None
    candidate: Candidate | None = None

    def use_task(self, task: str) -> None:
        """Make the task a `binary`, `multiclass` or `regression` one."""
        self.model.update(json.loads(json.dumps(TASKS[task])))

    @property
    def prefix(self) -> str:
        return f"s3://data/runs/{self.name}"

    def land(self, table: str, content: bytes, file: str = "a", new: bool = True) -> str:
        """Put a file into the landing bucket and among the run's inputs; return its URI."""
        key = f"{self.name}/{table}/{file}.parquet"
        answer = client().put_object(Bucket="landing", Key=key, Body=content)
        self.objects.append(
            InputObject(
                table=table,
                bucket="landing",
                key=key,
                version_id=answer["VersionId"],
                content_id=answer["ETag"],
                size=len(content),
                new=new,
            )
        )
        return self.objects[-1].uri

    def land_good(self) -> None:
        self.land("depots", parquet(depots()))
        self.land("parcels", parquet(parcels()))

    def config(self) -> RunConfig:
        model = ModelConfig.model_validate(self.model)
        return RunConfig(
            run_key=self.name,
            seed=self.seed,
            family=load_family(self.family, ROOT),
            model=model,
            policy=model.policy,
            tracking_uri=self.tracking_uri,
            region="us-east-1",
            lineage={"git_sha": "0123abc"},
            trials=self.trials,
            search=self.search,
            study_database=self.study_database,
            preparation=self.preparation,
            checkpoint_seconds=self.checkpoint_seconds,
            parent_run_id=self.parent_run_id,
            candidate=self.candidate,
        )

    def write(self) -> str:
        """Write what the orchestrator writes before the steps; return the configuration's URI."""
        write_document(f"{self.prefix}/inputs.json", InputManifest(objects=self.objects))
        uri = f"{self.prefix}/config.json"
        write_document(uri, self.config())
        return uri

    def arguments(self, step: str, output: str | None = None) -> list[str]:
        source = self.prefix if step in ("validate", "prepare") else f"{self.prefix}/prepare"
        output = f"{self.prefix}/{output or step}"
        return [step, "--config", f"{self.prefix}/config.json", "--input", source, "--output", output]

    def step(self, step: str, output: str | None = None) -> int:
        """Run a step in this process and return its exit code."""
        self.write()
        return main("trainer", self.arguments(step, output))

    def done(self, step: str, output: str | None = None) -> Any:
        """Run a step that must succeed and return its result."""
        assert self.step(step, output) == 0, self.failure(output or step)
        return read_document(f"{self.prefix}/{output or step}/result.json", STEPS[step].result)

    def failure(self, output: str) -> StepFailure | None:
        return try_read_document(f"{self.prefix}/{output}/error.json", StepFailure)

    def refused(self, step: str) -> StepFailure:
        """Run a step that must refuse its input, and return why."""
        assert self.step(step) == EXIT_NON_RETRYABLE
        failure = self.failure(step)
        assert failure is not None
        assert try_read_bytes(f"{self.prefix}/{step}/result.json") is None
        return failure
