"""Metrics of binary classification, as scikit-learn defines them, without its two seconds of import."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

Vector = NDArray[np.float64]


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
    epsilon = float(np.finfo(np.float64).eps)
    likely = np.clip(np.where(target == 1, score, 1 - score), epsilon, 1 - epsilon)
    return float(-np.log(likely).mean())


def brier_score(target: Vector, score: Vector) -> float:
    """Mean squared difference between probability and outcome."""
    return float(np.mean((score - target) ** 2))


def accuracy(target: Vector, score: Vector) -> float:
    """Share of rows on the right side of one half."""
    return float(np.mean((score >= 0.5) == (target == 1)))


METRICS: dict[str, Callable[[Vector, Vector], float]] = {
    "roc_auc": roc_auc,
    "average_precision": average_precision,
    "log_loss": log_loss,
    "brier_score": brier_score,
    "accuracy": accuracy,
}


def score_all(target: Vector, score: Vector) -> dict[str, float | None]:
    """Compute every metric.

    Args:
        target: (rows,) of 0 and 1.
        score: (rows,) probabilities of 1.

    Returns:
        By name; None where a metric is undefined or a prediction is not finite.
    """
    if not len(target) or not np.isfinite(score).all():
        return dict.fromkeys(METRICS)
    values = {name: metric(target, score) for name, metric in METRICS.items()}
    return {name: value if math.isfinite(value) else None for name, value in values.items()}
