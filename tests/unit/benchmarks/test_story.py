"""The arithmetic of the story's benchmark."""

from __future__ import annotations

import pytest

from benchmarks.story import Interval, union_seconds


@pytest.mark.parametrize(
    ("intervals", "seconds"),
    [
        ([], 0),
        ([(0, 1), (2, 4)], 3),
        ([(0, 3), (1, 2)], 3),
        ([(1, 3), (0, 2)], 3),
        ([(0, 1), (1, 2)], 2),
    ],
    ids=["none", "apart", "one within another", "overlapping, unsorted", "touching"],
)
def test_overlapping_times_count_once(intervals: list[Interval], seconds: float) -> None:
    assert union_seconds(intervals) == seconds
