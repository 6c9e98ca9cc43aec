"""The metric within each category: an average hides whom a model fails."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mlplatform.config.base import Metric, TaskKind
from mlplatform.config.policy import MINIMUM_SLICE_ROWS
from mlplatform.documents.evaluation import SliceScore
from trainer.evaluation.bootstrap import deviation
from trainer.metrics import score_all

MAXIMUM_CATEGORIES = 100
"""Of each feature; the largest ones."""


def slice_scores(
    kind: TaskKind,
    metric: Metric,
    target: NDArray[np.float64],
    candidate: NDArray[np.float64],
    champion: NDArray[np.float64] | None,
    columns: Mapping[str, NDArray[Any]],
    minimum_rows: int = MINIMUM_SLICE_ROWS,
    *,
    seed: int = 0,
) -> list[SliceScore]:
    """Score each category that has enough rows.

    Args:
        columns: the features to slice by, each (rows,) of texts, None where missing.
        seed: of the draws that tell how much of a difference is chance.

    Returns:
        Feature by feature, in the order given, the largest categories first; a metric is None where it is undefined
        on the category's rows.
    """

    def scored(name: str, category: str | None, rows: NDArray[np.intp]) -> SliceScore:
        ours, theirs = candidate[rows], None if champion is None else champion[rows]
        own = score_all(kind, target[rows], ours)[metric]
        other = None if theirs is None else score_all(kind, target[rows], theirs)[metric]
        spread = None
        if theirs is not None and own is not None and other is not None:
            spread = deviation(kind, metric, target[rows], ours, theirs, seed=seed)
        return SliceScore(
            feature=name, category=category, rows=len(rows), candidate=own, champion=other, deviation=spread
        )

    return [
        scored(name, category, rows)
        for name, values in columns.items()
        for category, rows in _categories(values.tolist(), minimum_rows)
    ]


def _categories(values: Sequence[str | None], minimum_rows: int) -> list[tuple[str | None, NDArray[np.intp]]]:
    """Return the categories with enough rows, and which rows those are."""
    codes: dict[str | None, int] = {}
    position = np.fromiter((codes.setdefault(value, len(codes)) for value in values), dtype=np.intp, count=len(values))
    counts = np.bincount(position, minlength=len(codes))
    parts = np.split(np.argsort(position, kind="stable"), np.cumsum(counts)[:-1])
    large = [(category, parts[code]) for category, code in codes.items() if counts[code] >= minimum_rows]
    large.sort(key=lambda one: (-len(one[1]), one[0] is None, one[0] or ""))
    return large[:MAXIMUM_CATEGORIES]
