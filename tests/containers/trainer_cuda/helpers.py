"""Small tasks of each kind, with missing and unknown values, and sessions that interrupt, prune and count."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mlplatform.config.base import METRICS, Scalar, TaskKind
from mlplatform.config.family import effective_params
from mlplatform.config.loading import load_family
from mlplatform.documents.profiles import BINS, CategoryProfile, DataProfile, NumberProfile
from modelformat import Encoder
from trainer.data import Dataset
from trainer.families import base
from trainer.session import Pruned, Stopped

ROOT = Path(__file__).parents[3]
CLASSES: dict[TaskKind, list[str] | None] = {"binary": ["0", "1"], "multiclass": ["a", "b", "c"], "regression": None}
KINDS: dict[str, Any] = {"height": "number", "depot": "category", "weight": "number", "route": "category"}


def params(**chosen: Scalar) -> dict[str, Scalar]:
    """All parameters: small and quick ones unless said otherwise."""
    small: dict[str, Scalar] = {"batch_size": 64, "epochs": 4, "width": 16, "learning_rate": 0.01}
    return effective_params("test", load_family("pytorch", ROOT), {**small, **chosen})


def examples(kind: TaskKind, rows: int, seed: int) -> Dataset:
    """Draw examples whose target depends on a number, on two categories and, together, on a number and a category."""
    draw = np.random.default_rng(seed)
    height, weight = draw.normal(50, 20, rows), draw.gamma(2.0, 3.0, rows)
    depot = draw.integers(0, 3, rows)
    route = draw.integers(0, 12, rows)
    signal = (height - 50) / 20 * np.where(depot == 1, -1.5, 1.5) + np.sin(route) + 0.2 * weight - 1.2
    noisy = signal + draw.normal(0, 0.4, rows)
    target: NDArray[np.float64] = {
        "binary": (noisy > 0).astype(np.float64),
        "multiclass": np.digitize(noisy, [-0.8, 0.8]).astype(np.float64),
        "regression": 1000.0 + 50.0 * noisy,
    }[kind]
    weight[draw.random(rows) < 0.1] = np.nan
    names = np.array(["east", "north", "west"], dtype=object)[depot]
    names[draw.random(rows) < 0.05] = None
    routes = np.array([f"r{number:02d}" for number in range(12)], dtype=object)[route]
    return Dataset({"height": height, "depot": names, "weight": weight, "route": routes}, target)


def profile(dataset: Dataset, classes: list[str] | None) -> DataProfile:
    columns: dict[str, NumberProfile | CategoryProfile] = {}
    for name, values in dataset.columns.items():
        if KINDS[name] == "number":
            there = values[~np.isnan(values)]
            columns[name] = NumberProfile(
                missing=int(np.isnan(values).sum()),
                mean=float(there.mean()),
                deviation=float(there.std()),
                minimum=float(there.min()),
                maximum=float(there.max()),
                histogram=np.histogram(there, BINS)[0].tolist(),
            )
        else:
            known = [value for value in values if value is not None]
            counts = {value: known.count(value) for value in sorted(set(known))}
            columns[name] = CategoryProfile(missing=len(values) - len(known), counts=counts)
    return DataProfile(rows=dataset.rows, columns=columns, classes=classes)


class Case:
    """A task and its splits."""

    def __init__(self, kind: TaskKind = "binary", rows: int = 1000, seed: int = 7, device: Any = "cpu") -> None:
        self.train, self.validation = examples(kind, rows, 1), examples(kind, 400, 2)
        self.task = base.Task(
            kind=kind,
            features=KINDS,
            target="late",
            classes=CLASSES[kind],
            metric=METRICS[kind][0],
            seed=seed,
            threads=1,
            device=device,
            profile=profile(self.train, CLASSES[kind]),
            metadata={"dataset": "parcels"},
        )

    def encoded(self) -> NDArray[np.float32]:
        return Encoder(base.standardised_features(self.task, "code")).encode(self.validation.columns)


class TooExpensive(Pruned):
    """A session's own kind."""


class Keeper:
    """A session that saves every state, and ends or prunes the trial when told to."""

    def __init__(self, folder: Path, stop_at: int | None = None, prune_at: int | None = None) -> None:
        self.folder = folder
        self.stop_at = stop_at
        self.prune_at = prune_at
        self.steps: list[int] = []
        self.metrics: list[dict[str, float]] = []

    def resume(self) -> Path | None:
        return self.folder if self.folder.exists() else None

    def step(self, number: int, metrics: Mapping[str, float], save: Callable[[Path], None]) -> None:
        self.steps.append(number)
        self.metrics.append(dict(metrics))
        shutil.rmtree(self.folder, ignore_errors=True)
        self.folder.mkdir(parents=True)
        save(self.folder)
        if number == self.stop_at:
            raise Stopped(f"stopped at {number}")
        if number == self.prune_at:
            raise TooExpensive(f"pruned at {number}")


def model_bytes(fitted: Any, folder: Path) -> bytes:
    """The saved network, to the bit."""
    folder.mkdir(parents=True)
    fitted.save(folder)
    return (folder / "model.onnx").read_bytes()
