"""Rows of one model version, counted in the bins of what they are compared with: as much memory for any number."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mlplatform.documents.monitoring import Drifted
from mlplatform.monitoring.drift import Bins, CategoryBins, NumberBins, compare
from modelformat import CategoryFeature
from trainer.monitoring.bodies import Columns
from trainer.monitoring.reference import Reference, classes_of


@dataclass(frozen=True)
class Shares:
    """Of the bins that either side has rows in: their names, and the share of the rows in each, before and now."""

    names: list[str]
    before: list[float]
    now: list[float]


class Tally:
    """Requests and rows of a version so far.

    Attributes:
        variants: rows by the endpoint's variant that answered.
    """

    def __init__(self, reference: Reference) -> None:
        self.reference = reference
        self.rows = 0
        self.variants: Counter[str] = Counter()
        self._sum, self._finite = 0.0, 0
        self._features = {name: np.zeros(len(bins.reference), np.int64) for name, bins in reference.bins.items()}
        self._predicted = np.zeros(len(reference.predicted.reference), np.int64)
        self._known = {
            feature.name: frozenset(feature.categories)
            for feature in reference.manifest.features
            if isinstance(feature, CategoryFeature)
        }
        self._unknown = dict.fromkeys(self._known, 0)

    def add(self, variant: str, columns: Columns, predictions: NDArray[np.float64]) -> None:
        """Count a request.

        Args:
            variant: that answered it.
            columns: the version's features, each (rows,).
            predictions: (rows,) or (rows, classes).
        """
        self.rows += len(predictions)
        self.variants[variant] += len(predictions)
        for name, bins in self.reference.bins.items():
            self._features[name] += count(columns[name], bins)
        for name, known in self._known.items():
            self._unknown[name] += sum(value is not None and value not in known for value in columns[name])
        answered: Sequence[Any] = predictions.tolist()
        if predictions.ndim == 2:
            answered = classes_of(predictions, self.reference.manifest)
        else:
            there = predictions[np.isfinite(predictions)]
            self._sum, self._finite = self._sum + float(there.sum()), self._finite + len(there)
        self._predicted += count(answered, self.reference.predicted)

    @property
    def mean(self) -> float | None:
        """Of the predictions, where they are numbers; None of classes."""
        return self._sum / self._finite if self._finite else None

    def features(self) -> dict[str, Drifted]:
        """Return how far each feature has moved; empty without any row."""
        if not self.rows:
            return {}
        return {
            name: drifted(bins, self._features[name], self._unknown[name] / self.rows if name in self._known else None)
            for name, bins in self.reference.bins.items()
        }

    def prediction(self) -> Drifted | None:
        """Return how far the prediction has moved."""
        return drifted(self.reference.predicted, self._predicted) if self.rows else None

    def shares(self, feature: str | None) -> Shares:
        """Return where the rows of a feature are, or of the prediction (None); at least one must have been counted."""
        bins = self.reference.predicted if feature is None else self.reference.bins[feature]
        current = self._predicted if feature is None else self._features[feature]
        before, now = (
            [sum(int(counts[index]) for index in members) for _, members in bins.groups]
            for counts in (bins.reference, current)
        )
        used = [index for index in range(len(before)) if before[index] or now[index]]
        return Shares(
            names=[bins.groups[index][0] for index in used],
            before=[before[index] / sum(before) for index in used],
            now=[now[index] / sum(now) for index in used],
        )


def count(values: Sequence[Any], bins: Bins) -> NDArray[np.int64]:
    """Return the rows in each bin, as `trainer.validation.profiling` counts them in SQL."""
    counts = np.zeros(len(bins.reference), np.int64)
    if isinstance(bins, CategoryBins):
        places = {value: index for index, value in enumerate(bins.values)}
        other = len(bins.values)
        np.add.at(counts, [other + 1 if v is None else places.get(v, other) for v in values], 1)
        return counts
    numbers = np.array([_number(value) for value in values])
    there = numbers[np.isfinite(numbers)]
    counts[-1] = len(numbers) - len(there)
    counts[:-1] = np.bincount(_places(there, bins), minlength=len(counts) - 1)
    return counts


def _places(numbers: NDArray[np.float64], bins: NumberBins) -> NDArray[np.int64]:
    if bins.constant:
        return np.sign(numbers - bins.minimum).astype(np.int64) + 1
    inner = len(bins.reference) - 1
    share = (numbers - bins.minimum) / (bins.maximum - bins.minimum)
    return np.clip(np.floor(share * inner), 0, inner - 1).astype(np.int64)


def _number(value: Any) -> float:
    try:
        return math.nan if value is None else float(value)
    except (TypeError, ValueError, OverflowError):
        return math.nan


def drifted(bins: Bins, counts: NDArray[np.int64], unknown: float | None = None) -> Drifted:
    """Compare counted rows, at least one, with the reference."""
    current = [int(number) for number in counts]
    change = compare(bins, current)
    used = sum(1 for _, members in bins.groups if any(bins.reference[index] or current[index] for index in members))
    return Drifted(
        psi=change.psi,
        bins=used,
        most=change.name,
        before=change.before,
        now=change.now,
        missing=current[-1] / sum(current),
        unknown=unknown,
    )
