from __future__ import annotations

from typing import Any

import pytest

from mlplatform.config import FamilyConfig, SearchRange
from mlplatform.search import generate_trials

FAMILY = FamilyConfig(
    params={"max_bin": 64},
    search={
        "depth": SearchRange(low=2, high=8, integer=True),
        "rate": SearchRange(low=0.001, high=1.0, scale="log"),
        "subsample": SearchRange(low=0.5, high=1.0),
        "booster": ["gbtree", "dart"],
    },
)


def test_the_first_trial_is_the_middle_of_the_space() -> None:
    (first,) = generate_trials(FAMILY, 1, seed=0)
    assert first.index == 0
    assert first.params == {
        "max_bin": 64,
        "depth": 5,
        "rate": pytest.approx(0.0316228),
        "subsample": 0.75,
        "booster": "gbtree",
    }


def test_trials_are_unique_numbered_and_inside_the_space() -> None:
    trials = generate_trials(FAMILY, 200, seed=3)
    assert [trial.index for trial in trials] == list(range(200))
    assert len({str(trial.params) for trial in trials}) == 200
    points: list[dict[str, Any]] = [dict(trial.params) for trial in trials]
    for point in points:
        assert point["max_bin"] == 64
        assert isinstance(point["depth"], int)
        assert 2 <= point["depth"] <= 8
        assert 0.001 <= point["rate"] <= 1.0
        assert 0.5 <= point["subsample"] <= 1.0
    assert {point["depth"] for point in points} == {2, 3, 4, 5, 6, 7, 8}
    assert 0.35 < sum(point["rate"] < 0.0316 for point in points) / 200 < 0.65, "uniform on a log scale"


def test_the_same_seed_gives_the_same_trials_and_more_of_them_add_to_the_end() -> None:
    assert generate_trials(FAMILY, 8, seed=1) == generate_trials(FAMILY, 8, seed=1)
    assert generate_trials(FAMILY, 8, seed=1) == generate_trials(FAMILY, 32, seed=1)[:8]
    assert generate_trials(FAMILY, 8, seed=1)[1:] != generate_trials(FAMILY, 8, seed=2)[1:]


def test_a_small_space_gives_each_of_its_points_once() -> None:
    family = FamilyConfig(search={"depth": SearchRange(low=1, high=3, integer=True), "flag": [True, 1]})
    trials = generate_trials(family, 100, seed=0)
    assert len(trials) == 6


def test_without_a_search_space_there_is_one_trial() -> None:
    (only,) = generate_trials(FamilyConfig(params={"max_depth": 3}), 5, seed=0)
    assert only.params == {"max_depth": 3}


def test_a_logarithmic_integer_reaches_both_ends() -> None:
    family = FamilyConfig(search={"leaves": SearchRange(low=1, high=4, integer=True, scale="log")})
    assert {trial.params["leaves"] for trial in generate_trials(family, 50, seed=0)} == {1, 2, 3, 4}


def test_no_trials_at_all_is_a_mistake() -> None:
    with pytest.raises(ValueError, match="trials: 0 is not allowed"):
        generate_trials(FAMILY, 0, seed=0)
