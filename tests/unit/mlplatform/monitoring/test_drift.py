from __future__ import annotations

import math

import pytest

from mlplatform.documents.profiles import BINS, CategoryProfile, NumberProfile
from mlplatform.monitoring.drift import (
    MISSING,
    OTHER,
    CategoryBins,
    NumberBins,
    bins_of,
    comparable,
    compare,
    contributions,
    population_stability_index,
)


def number(histogram: list[int], low: float = 0.0, high: float = 10.0, missing: int = 0) -> NumberProfile:
    return NumberProfile(missing=missing, mean=1.0, deviation=1.0, minimum=low, maximum=high, histogram=histogram)


def test_the_same_distribution_has_not_moved_however_many_rows() -> None:
    assert population_stability_index([10, 20, 30], [10, 20, 30]) == 0
    assert population_stability_index([1000, 2000, 3000], [100_000, 200_000, 300_000]) < 1e-5


def test_a_known_value() -> None:
    # (0.6 - 0.5) ln(0.6 / 0.5) + (0.4 - 0.5) ln(0.4 / 0.5), with so many rows that the smoothing is nothing
    expected = 0.1 * math.log(0.6 / 0.5) - 0.1 * math.log(0.4 / 0.5)
    assert population_stability_index([5_000_000, 5_000_000], [6_000_000, 4_000_000]) == pytest.approx(expected)


def test_it_is_the_same_in_both_directions() -> None:
    one, other = [10, 200, 30], [100, 20, 30]
    assert population_stability_index(one, other) == pytest.approx(population_stability_index(other, one))


def test_an_empty_bin_gives_a_finite_number_that_grows_with_what_left_it() -> None:
    slight, total = population_stability_index([99, 1], [100, 0]), population_stability_index([50, 50], [100, 0])
    assert slight < 0.1
    assert 0.25 < total < math.inf


def test_a_bin_that_is_empty_on_both_sides_changes_nothing() -> None:
    assert population_stability_index([5, 5, 0, 0], [3, 7, 0, 0]) == population_stability_index([5, 5], [3, 7])
    assert contributions([5, 0], [3, 0])[1] == 0


@pytest.mark.parametrize(
    ("reference", "current", "message"),
    [
        ([1, 2], [1, 2, 3], "2 bins, the current data 3"),
        ([0, 0], [1, 2], "at least one row"),
        ([1, 2], [0, 0], "at least one row"),
        ([1, 2], [3, -1], "fewer than none"),
    ],
)
def test_what_cannot_be_compared_is_refused(reference: list[int], current: list[int], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        population_stability_index(reference, current)


def test_numbers_have_a_bin_for_missing_ones_and_outer_bins_that_are_open() -> None:
    bins = bins_of(number([5] * BINS, missing=7), 107)
    assert isinstance(bins, NumberBins)
    assert bins.reference == [5] * BINS + [7]
    assert len(bins.names) == BINS + 1
    assert (bins.names[0], bins.names[-2], bins.names[-1]) == ("below 0.5", "9.5 and above", MISSING)
    assert bins.names[1] == "0.5 to 1"


def test_one_value_only_has_bins_below_and_above_it() -> None:
    bins = bins_of(number([0] * (BINS - 1) + [9], 4.0, 4.0, missing=1), 10)
    assert bins.reference == [0, 9, 0, 1]
    assert bins.names == ["below 4", "4", "above 4", MISSING]


def test_rare_and_unlisted_categories_share_a_bin() -> None:
    counts = {f"v{index:02d}": 100 - index for index in range(30)}
    listed = sum(counts.values())
    bins = bins_of(CategoryProfile(missing=3, counts=counts), listed + 3 + 11)
    assert isinstance(bins, CategoryBins)
    assert bins.values == [f"v{index:02d}" for index in range(BINS - 1)]
    assert bins.names[-2:] == [OTHER, MISSING]
    assert sum(bins.reference) == listed + 3 + 11
    assert bins.reference[-1] == 3


def test_a_column_without_any_value_cannot_be_compared_with() -> None:
    assert not comparable(number([0] * BINS, 0, 0, missing=10), 10)
    assert not comparable(CategoryProfile(missing=10, counts={}), 10)
    assert comparable(number([1] * BINS), BINS)
    assert comparable(CategoryProfile(missing=9, counts={"a": 1}), 10)


def test_the_bin_that_moved_most_is_named_with_its_shares() -> None:
    bins = CategoryBins(["a", "b", "c"], [50, 45, 5, 0, 0])
    change = compare(bins, [40, 20, 40, 0, 0])
    assert (change.name, change.before, change.now) == ("c", 0.05, 0.4)
    assert change.psi == pytest.approx(population_stability_index([50, 45, 5], [40, 20, 40]))


def test_bins_of_few_rows_are_compared_with_their_neighbours() -> None:
    bins = bins_of(number([100, 1, 1, 1] + [0] * 12 + [30, 60, 2, 5], missing=4), 204)
    assert [name for name, _ in bins.groups] == [
        "below 0.5",
        "0.5 to 8",
        "8 to 8.5",
        "8.5 to 9",
        "9 and above",
        MISSING,
    ]
    assert sorted(index for _, members in bins.groups for index in members) == list(range(BINS + 1))
    few = [100, 3, 0, 0] + [0] * 12 + [30, 60, 5, 2, 4]
    assert compare(bins, few).psi == 0


def test_a_bin_of_nearly_all_rows_does_not_hide_the_others() -> None:
    bins = bins_of(number([1] + [0] * (BINS - 2) + [99]), 100)
    assert [name for name, _ in bins.groups] == ["below 9.5", "9.5 and above", MISSING]
    change = compare(bins, [0, 50] + [0] * (BINS - 3) + [50, 0])
    assert (change.name, change.before, change.now) == ("below 9.5", 0.01, 0.5)
    assert change.psi > 1


def test_rare_categories_are_compared_with_all_others() -> None:
    bins = bins_of(CategoryProfile(missing=0, counts={"a": 990, "b": 9, "c": 1}), 1000)
    assert bins.groups == [("a", [0]), (OTHER, [1, 2, 3]), (MISSING, [4])]
    assert compare(bins, [990, 0, 0, 10, 0]).psi == 0


def test_chance_alone_stays_far_below_the_limit() -> None:
    """Samples of one distribution, of the fewest rows that are compared: nearly none looks like a shift."""
    import random

    draw = random.Random(1)

    def histogram() -> list[int]:
        bins = [0] * BINS
        for _ in range(200):
            bins[min(BINS - 1, max(0, int(draw.gauss(10, 3))))] += 1
        return bins

    found = sorted(compare(bins_of(number(histogram()), 200), [*histogram(), 0]).psi for _ in range(200))
    assert found[-4] < 0.25
    assert found[100] < 0.1
