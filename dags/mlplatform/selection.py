"""Which trial of a search is the best one. No Airflow import."""

from __future__ import annotations

import math
from collections.abc import Sequence

from mlplatform.config import LOWER_IS_BETTER
from mlplatform.results import TrainResult
from mlplatform.steps import Refused


def select_best(
    results: Sequence[TrainResult | None], reasons: Sequence[str | None], metric: str, minimum_share: float
) -> TrainResult:
    """Return the trial with the best validation metric; the earliest of equals.

    A trial counts as successful when it has a result whose metric is a finite number: NaN never wins.

    Args:
        results: one per trial, None for a trial that failed.
        reasons: why each trial failed, None where it did not or nothing is known.
        metric: name of the metric to compare.
        minimum_share: share of trials that must be successful, above 0 to 1.

    Raises:
        Refused: no trial, or too few, succeeded; the message says why each of the first ones failed.
    """
    scored = [(result.metrics[metric], result) for result in results if result is not None and _usable(result, metric)]
    if not scored or len(scored) < minimum_share * len(results):
        failures = [
            f"trial {index}: {_why(result, reason, metric)}"
            for index, (result, reason) in enumerate(zip(results, reasons, strict=True))
            if result is None or not _usable(result, metric)
        ]
        more = f"; and {len(failures) - 5} more" if len(failures) > 5 else ""
        raise Refused(
            f"{len(scored)} of {len(results)} trials succeeded, {minimum_share:.0%} are needed "
            f"(training.minimum_successful_share); nothing is registered or deployed. {'; '.join(failures[:5])}{more}"
        )
    sign = -1 if metric in LOWER_IS_BETTER else 1
    return max(scored, key=lambda pair: (sign * (pair[0] or 0.0), -pair[1].trial))[1]


def _usable(result: TrainResult, metric: str) -> bool:
    value = result.metrics.get(metric)
    return value is not None and math.isfinite(value)


def _why(result: TrainResult | None, reason: str | None, metric: str) -> str:
    if result is None:
        return reason or "no result; see the log of its task"
    return f"{metric} is {result.metrics.get(metric)}"
