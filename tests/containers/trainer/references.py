"""What a live version is compared with, made from simulated rows without training anything."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from helpers import Columns, profile
from numpy.typing import NDArray

from mlplatform.config.environment import Monitoring
from mlplatform.documents.evaluation import Latency, Score
from mlplatform.documents.monitoring import LiveQuality, MonitoringVerdict, WatchedVersion
from mlplatform.monitoring.drift import bins_of
from mlplatform.monitoring.verdict import judge
from modelformat import CategoryFeature, Manifest, NumberFeature
from trainer.data import Dataset, Kind
from trainer.monitoring.reference import Reference, feature_bins, profile_of
from trainer.monitoring.tally import Tally

KINDS: Mapping[str, Kind] = {"weight": "number", "parts": "number", "express": "number", "depot": "category"}
CLASSES = ["late", "on time", "very late"]


def simulated(draw: np.random.Generator, rows: int, **change: Any) -> Columns:
    """Rows of a skewed number with gaps, a count, a rare flag and a category with a long tail.

    Args:
        change: heavier (a factor on the weight), gaps (share of weights missing), express (share), depot (one value).
    """
    weight = draw.gamma(2.0, 10.0, rows) * change.get("heavier", 1)
    gaps = draw.random(rows) < change.get("gaps", 0.1)
    depot = [f"place {place}" for place in np.minimum(draw.zipf(1.4, rows), 400)]
    return {
        "weight": [None if gone else float(value) for value, gone in zip(weight, gaps, strict=True)],
        "parts": draw.poisson(2, rows).astype(float).tolist(),
        "express": (draw.random(rows) < change.get("express", 0.05)).astype(float).tolist(),
        "depot": [change["depot"]] * rows if "depot" in change else depot,
    }


def predicted(draw: np.random.Generator, rows: int, task: str, shift: float = 0.0) -> NDArray[np.float64]:
    """Predictions as a model of the task gives them."""
    if task == "multiclass":
        odds = draw.random((rows, 3)) * [1 + shift, 0.8, 0.3]
        return odds / odds.sum(axis=1, keepdims=True)
    hidden = draw.normal(shift, 1.2, rows)
    return 40 * hidden if task == "regression" else 1 / (1 + np.exp(-hidden))


def reference(train: Columns, test: NDArray[np.float64], task: Any = "binary") -> Reference:
    """Return what a version trained on some rows, with some predictions for its test split, is compared with."""
    rows = len(train["weight"])
    features: list[Any] = [
        NumberFeature(name=name)
        if kind == "number"
        else CategoryFeature(name=name, categories=sorted({str(value) for value in train[name]}))
        for name, kind in KINDS.items()
    ]
    classes = {"multiclass": CLASSES, "binary": ["0", "1"], "regression": None}[task]
    manifest = Manifest(
        family="test", engine="onnx", task=task, target="late", classes=classes, features=features, model_file="model"
    )
    columns = {
        name: np.array(values, dtype=object if KINDS[name] == "category" else np.float64)
        for name, values in train.items()
    }
    known = profile(Dataset(columns, np.zeros(rows)), KINDS, classes)
    return Reference(
        manifest=manifest,
        run_id="run",
        bins=feature_bins(known, manifest),
        predicted=bins_of(profile_of(test, manifest), len(test)),
        train_rows=rows,
        test_rows=len(test),
        score=Score(
            model_version="1",
            run_id="run",
            metrics={},
            calibration_error=None,
            latency=Latency(single_ms=1, batch_ms=1),
            model_bytes=1,
        ),
    )


def watched(tally: Tally, quality: LiveQuality | None = None) -> WatchedVersion:
    """Return what the step says of a version."""
    return WatchedVersion(
        model_version="1",
        requests=tally.rows,
        rows=tally.rows,
        reference_rows=tally.reference.train_rows,
        test_rows=tally.reference.test_rows,
        features=tally.features(),
        prediction=tally.prediction(),
        quality=quality,
    )


def judged(tally: Tally, limits: Monitoring) -> MonitoringVerdict:
    return judge([watched(tally)], limits)
