"""The section on slices: the metric within each category of a feature."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from mlplatform.config.base import LOWER_IS_BETTER
from mlplatform.documents.evaluation import SliceScore
from trainer.reports import count, decimal, label, plots
from trainer.reports.evaluation.inputs import Evaluation, Vector
from trainer.reports.evaluation.metrics import METRIC_NAMES
from trainer.reports.plots import Plot, Series

_SLICES = 20


@dataclass(frozen=True)
class Slice:
    """A feature and the scores within its categories."""

    feature: str
    plot: Plot | None
    scores: list[SliceScore]


def sections(evaluation: Evaluation) -> list[Slice]:
    """Return the slices, feature by feature."""
    result, metric = evaluation.result, evaluation.config.model.metric
    by_feature: dict[str, list[SliceScore]] = {}
    for one in result.slices:
        by_feature.setdefault(one.feature, []).append(one)
    compared = evaluation.champion is not None
    found = []
    for feature, scores in by_feature.items():
        shown = [one for one in scores if one.candidate is not None or one.champion is not None][:_SLICES]
        plot = None
        if shown:
            series = [Series("Candidate", _values(one.candidate for one in shown), np.zeros(len(shown)))]
            if compared:
                theirs = _values(one.champion for one in shown)
                series.append(Series("Champion", theirs, np.zeros(len(shown)), "champion"))
            overall = result.candidate.metrics.get(metric)
            better = "lower" if metric in LOWER_IS_BETTER else "higher"
            caption = f"{METRIC_NAMES[metric]} within each category, largest first; {better} is better."
            if overall is not None:
                caption += f" Dotted: the candidate over all rows, {decimal(overall)}."
            if len(scores) > len(shown):
                caption += f" {len(shown)} of {len(scores)} categories; all are in the table."
            plot = plots.dots(
                f"By {label(feature)}",
                caption,
                [_category(one) for one in shown],
                series,
                METRIC_NAMES[metric],
                [count(one.rows) for one in shown],
                "rows",
                overall,
            )
        found.append(Slice(label(feature), plot, scores))
    return found


def _values(values: Any) -> Vector:
    return np.array([np.nan if value is None else value for value in values])


def _category(score: SliceScore) -> str:
    """Name a slice for people."""
    return "(missing)" if score.category is None else label(score.category)
