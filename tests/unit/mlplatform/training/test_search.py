from __future__ import annotations

import math
from typing import Any

import pytest

from mlplatform.config.base import Scalar
from mlplatform.config.family import SearchRange, SearchSpace
from mlplatform.documents.run import Trial
from mlplatform.errors import ConfigError
from mlplatform.training.search import check_grid, generate_trials, packs

FIXED: dict[str, Scalar] = {"max_bin": 64}
SPACE: SearchSpace = {
    "depth": SearchRange(low=2, high=8, integer=True),
    "rate": SearchRange(low=0.001, high=1.0, scale="log"),
    "subsample": SearchRange(low=0.5, high=1.0),
    "booster": ["gbtree", "dart"],
}
MIDDLE = {"max_bin": 64, "depth": 5, "rate": pytest.approx(0.0316228), "subsample": 0.75, "booster": "gbtree"}


def drawn(count: int, seed: int, space: SearchSpace = SPACE) -> list[Trial]:
    return generate_trials(FIXED, space, "random", count, seed)


def grid(space: SearchSpace, count: int = 100) -> list[Trial]:
    return generate_trials({}, space, "grid", count, seed=0)


@pytest.mark.parametrize("method", ["random", "bayesian"])
def test_the_first_trial_is_the_middle_of_the_space(method: Any) -> None:
    (first,) = generate_trials(FIXED, SPACE, method, 1, seed=0)
    assert first.index == 0
    assert first.params == MIDDLE


def test_trials_are_unique_numbered_and_inside_the_space() -> None:
    trials = drawn(200, seed=3)
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
    assert drawn(8, seed=1) == drawn(8, seed=1)
    assert drawn(8, seed=1) == drawn(32, seed=1)[:8]
    assert drawn(8, seed=1)[1:] != drawn(8, seed=2)[1:]


def test_a_small_space_gives_each_of_its_points_once() -> None:
    assert len(drawn(100, 0, {"depth": SearchRange(low=1, high=3, integer=True), "flag": [True, 1]})) == 6


@pytest.mark.parametrize("method", ["grid", "random", "bayesian"])
def test_without_a_search_space_there_is_one_trial(method: Any) -> None:
    (only,) = generate_trials({"max_depth": 3}, {}, method, 5, seed=0)
    assert only.params == {"max_depth": 3}


def test_a_logarithmic_integer_reaches_both_ends() -> None:
    space: SearchSpace = {"leaves": SearchRange(low=1, high=4, integer=True, scale="log")}
    assert {trial.params["leaves"] for trial in drawn(50, 0, space)} == {1, 2, 3, 4}


@pytest.mark.parametrize("method", ["grid", "random", "bayesian"])
def test_no_trials_at_all_is_a_mistake(method: Any) -> None:
    with pytest.raises(ValueError, match="trials: 0 is not allowed"):
        generate_trials(FIXED, SPACE, method, 0, seed=0)


def test_a_bayesian_search_leaves_all_but_the_first_trial_to_the_study() -> None:
    first, *others = generate_trials(FIXED, SPACE, "bayesian", 4, seed=0)
    assert first.params == MIDDLE
    assert [trial.index for trial in others] == [1, 2, 3]
    assert all(trial.params == FIXED for trial in others)


def test_a_grid_has_every_combination_once() -> None:
    trials = grid({"rate": SearchRange(low=0.01, high=1.0, scale="log"), "booster": ["gbtree", "dart"]})
    assert [trial.index for trial in trials] == list(range(6))
    points = [(trial.params["booster"], trial.params["rate"]) for trial in trials]
    assert points == [(booster, rate) for booster in ("gbtree", "dart") for rate in (0.01, 0.1, 1.0)]


@pytest.mark.parametrize(
    ("space", "values"),
    [
        (SearchRange(low=0.0, high=1.0), [0.0, 0.5, 1.0]),
        (SearchRange(low=0.0, high=1.0, points=2), [0.0, 1.0]),
        (SearchRange(low=1, high=1000, scale="log", integer=True, points=4), [1, 10, 100, 1000]),
        (SearchRange(low=1, high=2, integer=True, points=5), [1, 2]),
        (SearchRange(low=0.1, high=0.7, points=7), [0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7]),
        ([True, 1, "x"], [True, 1, "x"]),
    ],
)
def test_the_values_of_a_range_in_a_grid(space: Any, values: list[Any]) -> None:
    found = [trial.params["x"] for trial in grid({"x": space})]
    assert found == values
    assert [type(value) for value in found] == [type(value) for value in values]


def test_a_grid_ignores_the_seed_and_has_no_more_trials_than_points() -> None:
    space: SearchSpace = {"depth": SearchRange(low=1, high=3, integer=True)}
    assert len(grid(space, 100)) == 3
    assert generate_trials({}, space, "grid", 3, seed=1) == generate_trials({}, space, "grid", 3, seed=2)


def test_a_grid_larger_than_what_was_asked_for_is_refused_with_its_size() -> None:
    with pytest.raises(ConfigError) as refused:
        check_grid("config/models/parcels.yaml: families.xgboost.search", SPACE, 53)
    assert str(refused.value) == (
        "config/models/parcels.yaml: families.xgboost.search: its grid has 54 points "
        "(booster 2 x depth 3 x rate 3 x subsample 3), more than trials (53); ask for 54 trials, search fewer "
        "parameters or values, or take another search"
    )
    assert len(grid(SPACE, 54)) == 54
    with pytest.raises(ConfigError, match="54 points"):
        grid(SPACE, 53)


def test_trials_are_divided_among_pods_in_order() -> None:
    trials = drawn(7, seed=0)
    divided = packs(trials, 3)
    assert [[trial.index for trial in pack] for pack in divided] == [[0, 1, 2], [3, 4, 5], [6]]
    assert [len(pack) for pack in packs(trials, 1)] == [1] * 7
    assert math.prod(len(pack) for pack in packs(trials, 64)) == 7
