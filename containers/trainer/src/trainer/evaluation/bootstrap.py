"""How sure a metric is: the paired bootstrap.

Rows are drawn with replacement, candidate and champion are scored on the same draw, and the percentiles of many draws
are the interval (Efron and Tibshirani, "An Introduction to the Bootstrap", 1993, chapters 13 and 16). A draw is a
weight per row, so that sorting is done once and each draw costs a few passes over the rows.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mlplatform.config.base import LOWER_IS_BETTER, Metric, TaskKind
from mlplatform.documents.evaluation import Interval
from trainer.metrics import score_all

RESAMPLES = 1000
LEVEL = 0.95
DEVIATION_RESAMPLES = 200
ROWS = 50_000
"""Draws are made from so many rows, chosen by chance, and the spread is scaled to that of all rows."""
_MINIMUM_DEFINED = 0.9

Vector = NDArray[np.float64]
Statistic = Callable[[Vector], float]


@dataclass(frozen=True)
class Intervals:
    """Of the candidate's metric, of the champion's, and of how much better the candidate is."""

    candidate: Interval | None
    champion: Interval | None = None
    improvement: Interval | None = None


def intervals(
    kind: TaskKind,
    metric: Metric,
    target: Vector,
    candidate: NDArray[np.float64],
    champion: NDArray[np.float64] | None,
    *,
    seed: int,
    level: float = LEVEL,
    resamples: int = RESAMPLES,
    rows: int = ROWS,
) -> Intervals:
    """Bootstrap a metric of one or two models on the same rows.

    Draws on which the metric is undefined (a class is missing) are left out; where that is more than a tenth of
    them, there is no interval.

    Args:
        target: (rows,) as `trainer.data.Dataset.target`.
        candidate: as `modelformat.Predictor.predict` returns it, as is champion.
        seed: the same seed gives the same intervals.
        level: of the improvement's interval; those of the metrics are of `LEVEL`.
        rows: most rows to draw from. Of more, the draws are of a subset of this size drawn without replacement, and
            deviations shrink by the square root of its share (Politis, Romano and Wolf, "Subsampling", 1999).
    """
    models = [("candidate", candidate)]
    if champion is not None:
        models.append(("champion", champion))
    # Both must have the metric on the rows as they are; what is not finite has no rank and no mean.
    full = {name: score_all(kind, target, prediction)[metric] for name, prediction in models}
    models = [(name, prediction) for name, prediction in models if full[name] is not None]
    if not models:
        return Intervals(None)
    generator = np.random.default_rng(seed)
    total = len(target)
    size = _size(kind, metric, total, candidate, rows)
    chosen: Any = slice(None) if size == total else np.sort(generator.choice(total, size, replace=False))
    shrink = math.sqrt(size / total)
    statistics = {name: statistic(kind, metric, target[chosen], prediction[chosen]) for name, prediction in models}
    centres = {name: one(np.ones(size)) for name, one in statistics.items()}
    drawn = {name: np.empty(resamples) for name in statistics}
    for index in range(resamples):
        draw = generator.integers(0, size, size, dtype=np.int32)
        weights = np.bincount(draw, minlength=size).astype(np.float64)
        for name, one in statistics.items():
            drawn[name][index] = one(weights)

    def bounds(values: Vector, centre: float, value: float, level: float = LEVEL) -> Interval | None:
        defined = values[np.isfinite(values)]
        if len(defined) < _MINIMUM_DEFINED * resamples or not math.isfinite(centre):
            return None
        tail = (1 - level) / 2
        low, high = value + shrink * (np.quantile(defined, [tail, 1 - tail]) - centre)
        return Interval(low=float(low), high=float(high), level=level, resamples=len(defined))

    own = {name: bounds(drawn[name], centres[name], full[name] or 0.0) for name in statistics}
    improvement = None
    if len(models) == 2:
        sign = -1.0 if metric in LOWER_IS_BETTER else 1.0
        improvement = bounds(
            sign * (drawn["candidate"] - drawn["champion"]),
            sign * (centres["candidate"] - centres["champion"]),
            sign * ((full["candidate"] or 0.0) - (full["champion"] or 0.0)),
            level,
        )
    return Intervals(own.get("candidate"), own.get("champion"), improvement)


def deviation(
    kind: TaskKind,
    metric: Metric,
    target: Vector,
    candidate: NDArray[np.float64],
    champion: NDArray[np.float64],
    *,
    seed: int,
    resamples: int = DEVIATION_RESAMPLES,
    rows: int = ROWS,
) -> float | None:
    """Return the standard error of the difference of two models' metrics on the same rows, in the metric's unit.

    It needs far fewer draws than the ends of an interval (Efron and Tibshirani, chapter 6), so there can be one for
    each of many categories.

    Args:
        target: as `intervals`, and so are the others.

    Returns:
        None where the metric is undefined on too many draws.
    """
    generator = np.random.default_rng(seed)
    total = len(target)
    size = _size(kind, metric, total, candidate, rows)
    chosen: Any = slice(None) if size == total else np.sort(generator.choice(total, size, replace=False))
    both = [statistic(kind, metric, target[chosen], prediction[chosen]) for prediction in (candidate, champion)]
    drawn = np.empty(resamples)
    for index in range(resamples):
        weights = np.bincount(generator.integers(0, size, size, dtype=np.int32), minlength=size).astype(np.float64)
        drawn[index] = both[0](weights) - both[1](weights)
    defined = drawn[np.isfinite(drawn)]
    if len(defined) < _MINIMUM_DEFINED * resamples:
        return None
    return float(math.sqrt(size / total) * defined.std(ddof=1))


def _size(kind: TaskKind, metric: Metric, total: int, prediction: NDArray[np.float64], rows: int) -> int:
    """Rows to draw from; a curve per class costs as many times more, so it has as many times fewer."""
    if kind == "multiclass" and metric == "roc_auc":
        rows = max(rows // 10, rows // prediction.shape[1])
    return min(total, rows)


def statistic(kind: TaskKind, metric: Metric, target: Vector, prediction: NDArray[np.float64]) -> Statistic:
    """Return a function from the rows' weights (rows,) to the metric of the rows repeated as often as they weigh.

    With weights of 1 it is the metric of `trainer.metrics`. NaN where that is undefined.
    """
    if kind == "binary":
        return _binary(metric, target, prediction)
    if kind == "multiclass":
        return _multiclass(metric, target, prediction)
    return _regression(metric, target, prediction)


_EPSILON = float(np.finfo(np.float64).eps)


def _binary(metric: Metric, target: Vector, score: Vector) -> Statistic:
    if metric == "roc_auc":
        return _roc_auc(target, score)
    if metric == "average_precision":
        return _average_precision(target, score)
    if metric == "log_loss":
        return _mean(-np.log(np.clip(np.where(target == 1, score, 1 - score), _EPSILON, 1 - _EPSILON)))
    if metric == "brier_score":
        return _mean((score - target) ** 2)
    if metric == "accuracy":
        return _mean(((score >= 0.5) == (target == 1)).astype(np.float64))
    raise ValueError(f"binary: no metric {metric!r}")


def _multiclass(metric: Metric, target: Vector, score: NDArray[np.float64]) -> Statistic:
    actual, predicted = target.astype(np.intp), score.argmax(axis=1)
    classes = score.shape[1]
    if metric == "log_loss":
        likely = score[np.arange(len(actual)), actual]
        return _mean(-np.log(np.clip(likely, _EPSILON, 1 - _EPSILON)))
    if metric == "accuracy":
        return _mean((actual == predicted).astype(np.float64))
    if metric == "macro_f1":
        cells = actual * classes + predicted

        def macro_f1(weights: Vector) -> float:
            matrix = np.bincount(cells, weights, classes * classes).reshape(classes, classes)
            both = matrix.sum(axis=0) + matrix.sum(axis=1)
            there = both > 0
            return float(np.mean(2 * matrix.diagonal()[there] / both[there])) if there.any() else math.nan

        return macro_f1
    if metric == "roc_auc":
        each = [_roc_auc((actual == position).astype(np.float64), score[:, position]) for position in range(classes)]
        return lambda weights: float(np.mean([one(weights) for one in each]))
    raise ValueError(f"multiclass: no metric {metric!r}")


def _regression(metric: Metric, target: Vector, score: Vector) -> Statistic:
    if metric == "mae":
        return _mean(np.abs(target - score))
    squares = (target - score) ** 2
    if metric == "rmse":
        mean = _mean(squares)
        return lambda weights: math.sqrt(mean(weights))
    if metric == "r2":
        centred = target - target.mean()  # else the difference of two large squares

        def r2(weights: Vector) -> float:
            total = float(weights.sum())
            spread = _dot(weights, centred**2) - _dot(weights, centred) ** 2 / total
            return 1 - _dot(weights, squares) / spread if spread > 0 else math.nan

        return r2
    raise ValueError(f"regression: no metric {metric!r}")


def _mean(values: Vector) -> Statistic:
    return lambda weights: _dot(weights, values) / float(weights.sum())


def _dot(left: Vector, right: Vector) -> float:
    """Scalar product without BLAS, whose threads cost more than they gain here and make the sum depend on the cores."""
    return float(np.einsum("i,i->", left, right))


def _roc_auc(target: Vector, score: Vector) -> Statistic:
    order = np.argsort(score, kind="stable")
    positive = target[order]
    starts = _starts(score[order])
    tied = len(starts) < len(order)

    def roc_auc(weights: Vector) -> float:
        there = weights[order]
        hits = there * positive
        misses = there - hits
        if tied:
            hits, misses = np.add.reduceat(hits, starts), np.add.reduceat(misses, starts)
        below = np.cumsum(misses)
        pairs = float(hits.sum() * below[-1])
        return _dot(hits, below - misses / 2) / pairs if pairs else math.nan

    return roc_auc


def _average_precision(target: Vector, score: Vector) -> Statistic:
    order = np.argsort(-score, kind="stable")
    positive = target[order]
    ends = np.append(_starts(score[order])[1:], len(order)) - 1

    def average_precision(weights: Vector) -> float:
        there = weights[order]
        found = np.cumsum(there * positive)[ends]
        if not found[-1]:
            return math.nan
        asked = np.cumsum(there)[ends]
        precision = found / np.maximum(asked, 1)  # where nothing was asked for, nothing was found
        return float(np.sum(np.diff(found, prepend=0.0) * precision) / found[-1])

    return average_precision


def _starts(ordered: Vector) -> NDArray[np.intp]:
    """Where each run of equal scores begins."""
    return np.append(0, np.flatnonzero(np.diff(ordered)) + 1)
