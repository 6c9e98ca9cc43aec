"""A small run for the trainer's image: parcels that arrive late, landed and configured as the orchestrator does it."""

from __future__ import annotations

import io
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from mlplatform.config.base import Scalar
from mlplatform.config.dataset import ModelConfig
from mlplatform.config.loading import load_family
from mlplatform.documents.inputs import InputManifest, InputObject
from mlplatform.documents.run import RunConfig, Trial
from mlplatform.storage import client, write_document

ROOT = Path(__file__).resolve().parents[2]
DAYS, PER_DAY = 12, 50
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
            "columns": {
                "sent": {"type": "timestamp"},
                "depot": {"type": "string", "allowed": ["north", "west"]},
                "weight": {"type": "number", "minimum": 0},
                "delay": {"type": "number"},
            },
        }
    },
    "query": "select sent, depot, weight, (delay > 12)::integer as late from parcels",
    "target": "late",
    "features": {"weight": {"type": "number"}, "depot": {"type": "category"}},
    "split": {"kind": "time", "column": "sent", "validation_days": 3, "test_days": 3},
    "metric": "roc_auc",
    "families": {"xgboost": {}, "lightgbm": {}, "sklearn": {}, "pytorch": {}},
    "policy": {"minimum_quality": 0.6},
}


def parcels() -> bytes:
    """Return a Parquet file of parcels whose delay depends on depot and weight."""
    rows = range(DAYS * PER_DAY)
    weight = [float(row * 37 % 41) for row in rows]
    depot = ["west" if row % 3 == 0 else "north" for row in rows]
    noise = [float(row * 7919 % 13) - 6 for row in rows]
    table = {
        "sent": [datetime(2024, 3, 1) + timedelta(minutes=row * 1440 / PER_DAY) for row in rows],
        "depot": depot,
        "weight": weight,
        "delay": [0.5 * w + 8 * (d == "west") + n for w, d, n in zip(weight, depot, noise, strict=True)],
    }
    content = io.BytesIO()
    pq.write_table(pa.table(table), content)
    return content.getvalue()


@dataclass
class Run:
    """A run's prefix on S3 and what is there before its steps."""

    name: str
    family: str = "xgboost"
    params: dict[str, Scalar] = field(default_factory=dict)
    tracking_uri: str = "http://127.0.0.1:9"  # nobody listens: a step that should not need MLflow fails
    objects: list[InputObject] = field(default_factory=list)
    source: str = ""

    @property
    def prefix(self) -> str:
        """Where the run's files are."""
        return f"s3://data/runs/{self.name}"

    def land(self, content: bytes) -> None:
        """Put a file of parcels into the landing bucket and among the run's inputs."""
        key = f"{self.name}/parcels/a.parquet"
        answer = client().put_object(Bucket="landing", Key=key, Body=content)
        landed = InputObject(
            table="parcels",
            bucket="landing",
            key=key,
            version_id=answer["VersionId"],
            content_id=answer["ETag"],
            size=len(content),
            new=True,
        )
        self.objects.append(landed)

    def land_good(self) -> None:
        """Land a file that passes."""
        self.land(parcels())

    def write(self) -> None:
        """Write what the orchestrator writes before the steps."""
        model = ModelConfig.model_validate(MODEL)
        config = RunConfig(
            run_key=self.name,
            seed=7,
            family=load_family(self.family, ROOT),
            model=model,
            policy=model.policy,
            tracking_uri=self.tracking_uri,
            region="us-east-1",
            trials=[Trial(index=0, params=self.params)],
        )
        write_document(f"{self.prefix}/inputs.json", InputManifest(objects=self.objects))
        write_document(f"{self.prefix}/config.json", config)

    def arguments(self, step: str, output: str | None = None) -> list[str]:
        """Return a step's command line."""
        source = self.source or self.prefix
        source = source if step in ("validate", "prepare") else f"{source}/prepare"
        return [step, "--config", f"{self.prefix}/config.json", "--input", source, *self._output(output or step)]

    def _output(self, name: str) -> list[str]:
        return ["--output", f"{self.prefix}/{name}"]
