"""Metrics of the three kinds of task, as scikit-learn defines them, without its two seconds of import."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mlplatform.config.base import TaskKind

Vector = NDArray[np.float64]
Matrix = NDArray[np.float64]
Score = Callable[[Any, Any], float]

_EPSILON = float(np.finfo(np.float64).eps)


# --- Binary: target (rows,) of 0 and 1, score (rows,) the probability of 1 ----------------------


def roc_auc(target: Vector, score: Vector) -> float:
    """Area under the ROC curve: the Mann-Whitney statistic, ties counted half. NaN with one class only."""
    positives = float(target.sum())
    negatives = len(target) - positives
    if not positives or not negatives:
        return math.nan
    _, inverse, counts = np.unique(score, return_inverse=True, return_counts=True)
    ranks = (np.cumsum(counts) - (counts - 1) / 2)[inverse]
    return float((ranks[target == 1].sum() - positives * (positives + 1) / 2) / (positives * negatives))


def average_precision(target: Vector, score: Vector) -> float:
    """Sum of precision times gain in recall over the distinct thresholds. NaN without positives."""
    positives = float(target.sum())
    if not positives:
        return math.nan
    order = np.argsort(-score, kind="stable")
    hits = np.cumsum(target[order])
    last_of_tie = np.append(np.flatnonzero(np.diff(score[order])), len(score) - 1)
    found = hits[last_of_tie]
    precision = found / (last_of_tie + 1)
    return float(np.sum(np.diff(found, prepend=0.0) * precision) / positives)


def log_loss(target: Vector, score: Vector) -> float:
    """Mean negative log-likelihood in nats; probabilities are kept one rounding error away from 0 and 1."""
    likely = np.clip(np.where(target == 1, score, 1 - score), _EPSILON, 1 - _EPSILON)
    return float(-np.log(likely).mean())


def brier_score(target: Vector, score: Vector) -> float:
    """Mean squared difference between probability and outcome."""
    return float(np.mean((score - target) ** 2))


def accuracy(target: Vector, score: Vector) -> float:
    """Share of rows on the right side of one half."""
    return float(np.mean((score >= 0.5) == (target == 1)))


# --- Multiclass: target (rows,) of class positions, score (rows, classes) of probabilities ------


def multiclass_log_loss(target: Vector, score: Matrix) -> float:
    """Mean negative log-likelihood in nats of the class that it was; clipped as `log_loss`."""
    likely = score[np.arange(len(target)), target.astype(np.intp)]
    return float(-np.log(np.clip(likely, _EPSILON, 1 - _EPSILON)).mean())


def multiclass_accuracy(target: Vector, score: Matrix) -> float:
    """Share of rows whose likeliest class (the first of equally likely ones) is theirs."""
    return float(np.mean(score.argmax(axis=1) == target))


def macro_f1(target: Vector, score: Matrix) -> float:
    """Mean F1 of the classes that occur in the target or are predicted; each class counts the same."""
    classes = score.shape[1]
    actual, predicted = target.astype(np.intp), score.argmax(axis=1)
    hits = np.bincount(actual[actual == predicted], minlength=classes)
    both = np.bincount(actual, minlength=classes) + np.bincount(predicted, minlength=classes)
    there = both > 0
    return float(np.mean(2 * hits[there] / both[there]))


def one_vs_rest_roc_auc(target: Vector, score: Matrix) -> float:
    """Mean over the classes of `roc_auc` of that class against all others. NaN when a class does not occur."""
    each = [roc_auc((target == position).astype(np.float64), score[:, position]) for position in range(score.shape[1])]
    return float(np.mean(each))


# --- Regression: target (rows,), score (rows,) of numbers ---------------------------------------


def rmse(target: Vector, score: Vector) -> float:
    """Root of the mean squared error, in the target's unit."""
    return math.sqrt(float(np.mean((target - score) ** 2)))


def mae(target: Vector, score: Vector) -> float:
    """Mean absolute error, in the target's unit."""
    return float(np.mean(np.abs(target - score)))


def r2(target: Vector, score: Vector) -> float:
    """Coefficient of determination: the share of the variance that is explained. NaN with fewer than two rows.

    Of a target that does not vary: 1 when every prediction is exact, else 0.
    """
    if len(target) < 2:
        return math.nan
    residual = float(np.sum((target - score) ** 2))
    total = float(np.sum((target - target.mean()) ** 2))
    if not total:
        return 0.0 if residual else 1.0
    return 1 - residual / total


METRICS: Mapping[TaskKind, Mapping[str, Score]] = {
    "binary": {
        "roc_auc": roc_auc,
        "average_precision": average_precision,
        "log_loss": log_loss,
        "brier_score": brier_score,
        "accuracy": accuracy,
    },
    "multiclass": {
        "log_loss": multiclass_log_loss,
        "accuracy": multiclass_accuracy,
        "macro_f1": macro_f1,
        "roc_auc": one_vs_rest_roc_auc,
    },
    "regression": {"rmse": rmse, "mae": mae, "r2": r2},
}
"""By task and by name, those of `mlplatform.config.base.METRICS`."""


def score_all(kind: TaskKind, target: NDArray[Any], prediction: NDArray[Any]) -> dict[str, float | None]:
    """Compute every metric of a kind of task.

    Args:
        target: (rows,) as `trainer.data.Dataset.target`.
        prediction: as `modelformat.Predictor.predict`: (rows,) of probabilities of 1, (rows, classes) of
            probabilities, or (rows,) of numbers.

    Returns:
        By name; None where a metric is undefined or not finite, all None where a prediction is not finite.

    Raises:
        ValueError: the shapes do not fit each other and the kind.
    """
    target, prediction = np.asarray(target, dtype=np.float64), np.asarray(prediction, dtype=np.float64)
    dimensions = 2 if kind == "multiclass" else 1
    if target.ndim != 1 or prediction.ndim != dimensions or len(prediction) != len(target):
        raise ValueError(f"{kind}: a target of shape {target.shape} and a prediction of shape {prediction.shape}")
    metrics = METRICS[kind]
    if not len(target) or not np.isfinite(prediction).all():
        return dict.fromkeys(metrics)
    with np.errstate(over="ignore"):  # an infinite error is None, below
        values = {name: metric(target, prediction) for name, metric in metrics.items()}
    return {name: value if math.isfinite(value) else None for name, value in values.items()}
