"""The table of all metrics, and their names."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from mlplatform.config.base import LOWER_IS_BETTER
from mlplatform.documents.evaluation import EvaluateResult

METRIC_NAMES: Mapping[str, str] = {
    "roc_auc": "ROC AUC",
    "average_precision": "Average precision",
    "log_loss": "Log loss",
    "brier_score": "Brier score",
    "accuracy": "Accuracy",
    "macro_f1": "Macro F1",
    "rmse": "RMSE",
    "mae": "MAE",
    "r2": "R²",
}


@dataclass(frozen=True)
class Metric:
    """A row of the table."""

    key: str
    name: str
    better: str
    candidate: float | None
    champion: float | None
    difference: float | None
    kind: str


def table(result: EvaluateResult) -> list[Metric]:
    """Return a row for each metric; a difference is good or bad, whichever way the metric goes."""
    names: dict[str, tuple[str, bool, float | None, float | None]] = {}
    theirs = result.champion.metrics if result.champion else {}
    for key, value in result.candidate.metrics.items():
        names[key] = (METRIC_NAMES.get(key, key), key in LOWER_IS_BETTER, value, theirs.get(key))
    if result.candidate.calibration_error is not None:
        other = result.champion.calibration_error if result.champion else None
        names["calibration_error"] = ("Calibration error", True, result.candidate.calibration_error, other)
    rows = []
    for key, (name, lower, ours, other) in names.items():
        difference = None if ours is None or other is None else ours - other
        kind = "" if not difference else "good" if (difference < 0) == lower else "bad"
        rows.append(Metric(key, name, "lower" if lower else "higher", ours, other, difference, kind))
    return rows
