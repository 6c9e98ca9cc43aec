"""How far a column's distribution has moved, by the population stability index (PSI). Pure; no Airflow import.

PSI sums ``(current share - reference share) * ln(current share / reference share)`` over bins: it is 0 for the same
distribution and has no upper limit. Below 0.1 is commonly called no change, above 0.25 a significant one (N. Siddiqi,
*Credit Risk Scorecards*, 2006). Bins come from the reference's profile, so that the reference itself need not be read
again; missing values are a bin of their own, so a column that stops being filled has drifted too.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from mlplatform.documents.profiles import BINS, CategoryProfile, ColumnProfile, NumberProfile

MISSING = "missing"
OTHER = "other values"
LEAST_SHARE = 0.05
"""Bins of numbers with fewer of the reference's rows are compared together with their neighbours."""
LEAST_CATEGORY = 0.01
"""Categories with fewer of the reference's rows are compared together with all other ones."""
SMOOTHING = 0.5
"""Added to the count of each bin: an empty bin has no logarithm, and a single row must not make it infinite."""


@dataclass(frozen=True)
class NumberBins:
    """Bins of equal width over the reference's range; whatever lies outside is in the first or the last.

    A reference with one value only has three bins: below it, it, above it.

    Attributes:
        minimum, maximum: finite ends of the reference's range.
        reference: rows of the reference in each bin; the last bin has those without a number.
    """

    minimum: float
    maximum: float
    reference: list[int]

    @property
    def constant(self) -> bool:
        """Whether the reference has one value only."""
        return self.minimum == self.maximum

    @property
    def names(self) -> list[str]:
        """What to call each bin."""
        if self.constant:
            return [f"below {self.minimum:g}", f"{self.minimum:g}", f"above {self.minimum:g}", MISSING]
        return [*(self._between(index, index + 1) for index in range(len(self.reference) - 1)), MISSING]

    @property
    def groups(self) -> list[tuple[str, list[int]]]:
        """Neighbouring bins that are compared as one, with their name, as each alone has too few rows of the reference.

        Chance alone moves the PSI by about one over the rows of each bin, so many bins of few rows are mostly noise.
        """
        if self.constant:
            return [(name, [index]) for index, name in enumerate(self.names)]
        numbers = self.reference[:-1]
        wanted = sum(numbers) * LEAST_SHARE
        starts, rows = [0], 0
        for index, count in enumerate(numbers):
            # A bin of many rows stays alone: with its neighbours it would hide that they fill up.
            if index > starts[-1] and max(rows, count) >= wanted:
                starts.append(index)
                rows = 0
            rows += count
        ends = [*starts[1:], len(numbers)]
        named = [(self._between(start, end), list(range(start, end))) for start, end in zip(starts, ends, strict=True)]
        return [*named, (MISSING, [len(numbers)])]

    def _between(self, start: int, end: int) -> str:
        """Name the bins from one to before another."""
        count = len(self.reference) - 1
        low, high = (self.minimum + (self.maximum - self.minimum) / count * edge for edge in (start, end))
        if (start, end) == (0, count):
            return "any number"
        if start == 0:
            return f"below {high:.4g}"
        return f"{low:.4g} and above" if end == count else f"{low:.4g} to {high:.4g}"


@dataclass(frozen=True)
class CategoryBins:
    """A bin for each of the reference's most frequent values; all others, new ones too, share one.

    Attributes:
        values: the most frequent first.
        reference: rows of the reference in each bin; the last two are all other values and none.
    """

    values: list[str]
    reference: list[int]

    @property
    def names(self) -> list[str]:
        """What to call each bin."""
        return [*self.values, OTHER, MISSING]

    @property
    def groups(self) -> list[tuple[str, list[int]]]:
        """Bins as they are compared, with their names: those of rare values with the one of all others."""
        rows = sum(self.reference[:-1])
        rare = [index for index, _ in enumerate(self.values) if self.reference[index] < rows * LEAST_CATEGORY]
        kept = [(name, [index]) for index, name in enumerate(self.values) if index not in rare]
        return [*kept, (OTHER, [*rare, len(self.values)]), (MISSING, [len(self.values) + 1])]


Bins = NumberBins | CategoryBins


def bins_of(profile: ColumnProfile, rows: int) -> Bins:
    """Return the bins that a reference's profile defines.

    Args:
        profile: of the column.
        rows: of the reference's table; values that the profile does not list are counted as other ones.
    """
    if isinstance(profile, CategoryProfile):
        ranked = sorted(profile.counts.items(), key=lambda item: (-item[1], item[0]))[: BINS - 1]
        counts = [count for _, count in ranked]
        others = max(0, rows - profile.missing - sum(counts))
        return CategoryBins([value for value, _ in ranked], [*counts, others, profile.missing])
    if profile.minimum == profile.maximum:
        return NumberBins(profile.minimum, profile.maximum, [0, sum(profile.histogram), 0, profile.missing])
    return NumberBins(profile.minimum, profile.maximum, [*profile.histogram, profile.missing])


def comparable(profile: ColumnProfile, rows: int) -> bool:
    """Tell whether a reference's column has any value to compare with."""
    if isinstance(profile, NumberProfile):
        return sum(profile.histogram) > 0
    return rows > profile.missing


def contributions(reference: Sequence[int], current: Sequence[int]) -> list[float]:
    """Return what each bin adds to the PSI.

    Args:
        reference, current: rows in each bin, at least one each.

    Raises:
        ValueError: the bins are not the same in number, a count is negative, or there is no row.
    """
    if len(reference) != len(current):
        raise ValueError(f"the reference has {len(reference)} bins, the current data {len(current)}")
    if min(*reference, *current, 0) < 0 or not sum(reference) or not sum(current):
        raise ValueError("each side needs at least one row, and no bin fewer than none")
    # A bin that neither side has anything in says nothing, and must not take a part of the shares.
    used = sum(1 for before, now in zip(reference, current, strict=True) if before or now)
    before_total, now_total = sum(reference) + SMOOTHING * used, sum(current) + SMOOTHING * used
    parts = []
    for before, now in zip(reference, current, strict=True):
        if not before and not now:
            parts.append(0.0)
            continue
        before_share, now_share = (before + SMOOTHING) / before_total, (now + SMOOTHING) / now_total
        parts.append((now_share - before_share) * math.log(now_share / before_share))
    return parts


def population_stability_index(reference: Sequence[int], current: Sequence[int]) -> float:
    """Return the PSI of two distributions over the same bins; see `contributions`."""
    return sum(contributions(reference, current))


@dataclass(frozen=True)
class Change:
    """How far a column has moved.

    Attributes:
        psi: over groups of the bins.
        name: of the group that moved most.
        before, now: its shares of the reference's and of the current rows.
    """

    psi: float
    name: str
    before: float
    now: float


def compare(bins: Bins, current: Sequence[int]) -> Change:
    """Compare current rows with a reference.

    Args:
        current: rows in each bin of `bins`; at least one.
    """
    groups = bins.groups
    before, now = ([sum(counts[i] for i in members) for _, members in groups] for counts in (bins.reference, current))
    parts = contributions(before, now)
    most = max(range(len(parts)), key=lambda index: parts[index])
    return Change(sum(parts), groups[most][0], before[most] / sum(before), now[most] / sum(now))
