"""Whether predicted probabilities come true."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

BINS = 10

Vector = NDArray[np.float64]


@dataclass(frozen=True)
class Reliability:
    """Bins of rows with similar predictions, in their order; each array is (bins,)."""

    predicted: Vector
    """Mean probability."""
    observed: Vector
    """Share of positives."""
    rows: NDArray[np.int64]

    @property
    def error(self) -> float:
        """Mean distance of both, weighted by rows."""
        return float(np.abs(self.predicted - self.observed) @ self.rows / self.rows.sum())


def reliability(target: Vector, probability: Vector, bins: int = BINS) -> Reliability | None:
    """Bin rows by the quantiles of their prediction; equal predictions share a bin, so there may be fewer.

    As many rows in each bin make each point as sure as the others (Nixon et al., "Measuring Calibration in Deep
    Learning", 2019: the adaptive calibration error).

    Args:
        target: (rows,) of 0 and 1.
        probability: (rows,) of 1.

    Returns:
        None without rows, or where a prediction is not finite.
    """
    if not len(target) or not np.isfinite(probability).all():
        return None
    inner = np.unique(np.quantile(probability, np.linspace(0, 1, bins + 1)[1:-1]))
    place = np.searchsorted(inner, probability, side="left")
    rows = np.bincount(place, minlength=len(inner) + 1)
    there = rows > 0
    return Reliability(
        predicted=np.bincount(place, probability, len(rows))[there] / rows[there],
        observed=np.bincount(place, target, len(rows))[there] / rows[there],
        rows=rows[there],
    )


def calibration_error(target: Vector, probability: Vector) -> float | None:
    """Mean distance of predicted probability and observed share over the bins; see `reliability`."""
    found = reliability(target, probability)
    return None if found is None or not math.isfinite(found.error) else found.error
