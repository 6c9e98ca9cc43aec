"""One small task of each kind, families with few rounds, and a session that interrupts."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

import modelformat
from mlplatform.config.base import METRICS, Scalar, TaskKind
from mlplatform.config.family import FamilySpec, effective_params
from mlplatform.config.loading import load_family as load_from
from mlplatform.documents.profiles import BINS, CategoryProfile, DataProfile, NumberProfile
from modelformat import Predictor
from trainer.data import Dataset, Kind
from trainer.families import load_family
from trainer.families.base import Task
from trainer.session import NoSession, Session, Stopped

KINDS: dict[str, Kind] = {
    **{"weight": "number", "flat": "number", "empty": "number"},
    **{"depot": "category", "nothing": "category"},
}
CLASSES = {"binary": ["0", "1"], "multiclass": ["early", "late", "lost"], "regression": None}
# A small part of every parameter that draws at random, so that a draw that differs shows.
CASES: dict[str, tuple[str, dict[str, Scalar]]] = {
    "xgboost": ("xgboost", {"n_estimators": 35, "max_depth": 4, "subsample": 0.7, "colsample_bytree": 0.7}),
    "lightgbm": (
        "lightgbm",
        {"n_estimators": 35, "num_leaves": 15, "subsample": 0.7, "colsample_bytree": 0.7, "min_child_samples": 10},
    ),
    "linear": ("sklearn", {"estimator": "linear", "C": 0.1}),
    "hist_gradient_boosting": ("sklearn", {"estimator": "hist_gradient_boosting", "max_iter": 40}),
}
TASK_KINDS: tuple[TaskKind, ...] = ("binary", "multiclass", "regression")


def load_spec(name: str) -> FamilySpec:
    """Load a family from the repository's catalogue."""
    return load_from(name, Path(__file__).parents[4])


def parcels(kind: TaskKind, rows: int, seed: int) -> Dataset:
    draw = np.random.default_rng(seed)
    depot = draw.choice(np.array(["north", "south", "west", None], dtype=object), rows)
    weight = np.where(draw.random(rows) < 0.1, np.nan, draw.normal(50, 20, rows))
    columns = {"weight": weight, "flat": np.full(rows, 3.0), "empty": np.full(rows, np.nan), "depot": depot}
    columns["nothing"] = np.full(rows, None, dtype=object)
    delay = (depot == "west") * 2 + np.nan_to_num(weight, nan=90) / 30 - 2.5
    if kind == "regression":
        return Dataset(columns, 1_000_000 + 20 * delay + draw.normal(0, 10, rows))
    delay = delay + draw.logistic(size=rows)
    target = delay > 0 if kind == "binary" else (delay > -1).astype(int) + (delay > 1)
    return Dataset(columns, target.astype(np.float64))


def profile(data: Dataset, classes: list[str] | None) -> DataProfile:
    columns: dict[str, Any] = {}
    for name, kind in KINDS.items():
        values = data.columns[name]
        if kind == "category":
            there = [value for value in values if value is not None]
            counts = {value: there.count(value) for value in sorted(set(there))}
            columns[name] = CategoryProfile(missing=len(values) - len(there), counts=counts)
            continue
        there = values[np.isfinite(values)]
        some = there if len(there) else np.zeros(1)
        columns[name] = NumberProfile(
            missing=len(values) - len(there),
            mean=float(some.mean()),
            deviation=float(some.std()),
            minimum=float(some.min()),
            maximum=float(some.max()),
            histogram=np.histogram(there, BINS)[0].tolist(),
        )
    return DataProfile(rows=data.rows, columns=columns, classes=classes)


TRAIN = {kind: parcels(kind, 2000, 1) for kind in TASK_KINDS}
VALIDATION = {kind: parcels(kind, 500, 2) for kind in TASK_KINDS}


def make_task(kind: TaskKind, **changes: Any) -> Task:
    task: dict[str, Any] = {
        "kind": kind,
        "features": KINDS,
        "target": "late",
        "classes": CLASSES[kind],
        "metric": METRICS[kind][0],
        "seed": 3,
        "threads": 2,
        "device": "auto",
        "profile": profile(TRAIN[kind], CLASSES[kind]),
        "metadata": {"dataset": "parcels"},
    }
    return Task(**task | changes)


def fit(case: str, task: Task, session: Session | None = None, **more: Scalar) -> Any:
    """Fit a case's family to the task's data, with parameters changed."""
    return fit_to(case, task, TRAIN[task.kind], VALIDATION[task.kind], session, **more)


def fit_to(
    case: str, task: Task, train: Dataset, validation: Dataset, session: Session | None = None, **more: Scalar
) -> Any:
    family, params = CASES[case]
    spec = load_spec(family)
    effective = effective_params("test", spec, {**params, **more})
    return load_family(spec).fit(task, train, validation, effective, session or NoSession())


def save(fitted: Any, directory: Path) -> Predictor:
    """Save and load what was fitted."""
    directory.mkdir(parents=True)
    fitted.save(directory)
    return Predictor.load(directory)


def digest(fitted: Any, directory: Path) -> str:
    directory.mkdir(parents=True)
    fitted.save(directory)
    return modelformat.digest(directory)


class Recorder:
    """A session that keeps what it is told, and ends the training at a step.

    Attributes:
        told: number and metrics of each step, of all attempts.
    """

    def __init__(self, folder: Path, stops: tuple[int, ...] = (), end: type[Exception] = Stopped) -> None:
        self.told: list[tuple[int, dict[str, float]]] = []
        self._folder = folder
        self._stops = list(stops)
        self._end = end
        self._saved: Path | None = None

    def resume(self) -> Path | None:
        return self._saved

    def step(self, number: int, metrics: Mapping[str, float], save: Callable[[Path], None]) -> None:
        self.told.append((number, dict(metrics)))
        if number in self._stops:
            self._stops.remove(number)
            self._saved = self._folder / str(number)
            self._saved.mkdir(parents=True)
            save(self._saved)
            raise self._end
