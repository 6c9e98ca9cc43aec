"""What plots show, reduced to what an eye can see: a few hundred points, whatever the number of rows."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

POINTS = 400
CELLS = 36
"""Of a density, in each direction."""

Vector = NDArray[np.float64]
Counts = NDArray[np.int64]


def roc_curve(target: Vector, score: Vector) -> tuple[Vector, Vector]:
    """False and true positive rate at each distinct threshold, thinned out; both need a positive and a negative row."""
    hits, asked = _found(target, score)
    x = np.append(0.0, (asked - hits) / max(asked[-1] - hits[-1], 1))
    y = np.append(0.0, hits / max(hits[-1], 1))
    return _thin(x, y)


def precision_recall_curve(target: Vector, score: Vector) -> tuple[Vector, Vector]:
    """Recall and precision at each distinct threshold, thinned out; needs a positive row."""
    hits, asked = _found(target, score)
    return _thin(hits / max(hits[-1], 1), hits / asked)


def _found(target: Vector, score: Vector) -> tuple[Vector, Vector]:
    """Positives and rows at or above each distinct score, from the highest down."""
    order = np.argsort(-score, kind="stable")
    ends = np.append(np.flatnonzero(np.diff(score[order])), len(score) - 1)
    return np.cumsum(target[order])[ends], (ends + 1).astype(np.float64)


def _thin(x: Vector, y: Vector, points: int = POINTS) -> tuple[Vector, Vector]:
    """Leave out points that lie closer along the curve than can be seen."""
    if len(x) <= points:
        return x, y
    along = np.cumsum(np.hypot(np.diff(x, prepend=x[0]), np.diff(y, prepend=y[0])))
    step = np.floor(along / along[-1] * (points - 2)) if along[-1] else np.zeros(len(x))
    kept = np.diff(step, prepend=-1.0) > 0
    kept[-1] = True
    return x[kept], y[kept]


def confusion(target: Vector, predicted: NDArray[np.intp], classes: int) -> Counts:
    """Rows by actual (first axis) and predicted class."""
    cells = target.astype(np.intp) * classes + predicted
    return np.bincount(cells, minlength=classes * classes).reshape(classes, classes)


def lump(matrix: Counts, most: int) -> tuple[Counts, list[int], bool]:
    """Keep the most frequent classes of a confusion matrix and add up the others.

    Returns:
        The matrix, the positions kept (in their order), and whether its last row and column are the others.
    """
    if len(matrix) <= most:
        return matrix, list(range(len(matrix))), False
    frequent = np.argsort(-matrix.sum(axis=1), kind="stable")[: most - 1]
    kept = sorted(frequent.tolist())
    group = np.full(len(matrix), most - 1)
    group[kept] = np.arange(most - 1)
    lumped = np.zeros((most, most), dtype=np.int64)
    np.add.at(lumped, (group[:, None], group[None, :]), matrix)
    return lumped, kept, True


@dataclass(frozen=True)
class ClassScore:
    """How well one class is recognised; None where nothing can be said."""

    rows: int
    precision: float | None
    recall: float | None
    f1: float | None


def class_scores(matrix: Counts) -> list[ClassScore]:
    """Precision, recall and F1 of each class of a confusion matrix."""
    found = matrix.diagonal().tolist()
    actual, predicted = matrix.sum(axis=1).tolist(), matrix.sum(axis=0).tolist()
    return [
        ClassScore(
            rows=a,
            precision=hits / p if p else None,
            recall=hits / a if a else None,
            f1=2 * hits / (a + p) if a + p else None,
        )
        for hits, a, p in zip(found, actual, predicted, strict=True)
    ]


@dataclass(frozen=True)
class Decile:
    """A tenth of the rows by their target."""

    low: float
    high: float
    rows: int
    mean_absolute_error: float
    bias: float
    """Mean of prediction minus target."""


def deciles(target: Vector, prediction: Vector) -> list[Decile]:
    """Error by tenths of the target; equal targets share one, so there may be fewer."""
    inner = np.unique(np.quantile(target, np.linspace(0, 1, 11)[1:-1]))
    place = np.searchsorted(inner, target, side="left")
    result = []
    for index in range(len(inner) + 1):
        rows = place == index
        if rows.any():
            error = prediction[rows] - target[rows]
            result.append(
                Decile(
                    low=float(target[rows].min()),
                    high=float(target[rows].max()),
                    rows=int(rows.sum()),
                    mean_absolute_error=float(np.abs(error).mean()),
                    bias=float(error.mean()),
                )
            )
    return result


def span(*values: Vector, tail: float = 0.001) -> tuple[float, float]:
    """Return the range of all but the most extreme values, a little wider, and never empty."""
    together = np.concatenate(values)
    low, high = (float(bound) for bound in np.quantile(together, [tail, 1 - tail]))
    room = (high - low) * 0.02 or max(abs(high) * 0.05, 0.5)
    return low - room, high + room


def shares(values: Vector, edges: Vector) -> Vector:
    """Share of the values in each bin; what lies outside counts in the outermost."""
    counts, _ = np.histogram(np.clip(values, edges[0], edges[-1]), edges)
    return counts / max(len(values), 1)


def density(x: Vector, y: Vector, edges: Vector) -> Counts:
    """Rows in each cell of a square grid; what lies outside counts in the outermost."""
    counts, _, _ = np.histogram2d(np.clip(x, edges[0], edges[-1]), np.clip(y, edges[0], edges[-1]), [edges, edges])
    return counts.astype(np.int64)
