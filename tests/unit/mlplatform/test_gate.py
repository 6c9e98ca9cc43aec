"""The gate must hold in every case where a worse or unknown model could slip through."""

from __future__ import annotations

import math

import pytest

from mlplatform.config import Policy
from mlplatform.gate import decide
from mlplatform.results import Score

POLICY = Policy(minimum_quality=0.6, minimum_improvement=0.01)


def score(version: str, value: float | None, metric: str = "roc_auc") -> Score:
    return Score(model_version=version, run_id=f"run-{version}", metrics={metric: value})


@pytest.mark.parametrize(
    ("candidate", "champion", "outcome"),
    [
        pytest.param(0.75, 0.70, "promote", id="wins"),
        pytest.param(0.70, 0.75, "reject", id="loses"),
        pytest.param(0.57 + 0.06, 0.56 + 0.06, "promote", id="wins-by-exactly-the-minimum"),
        pytest.param(0.705, 0.70, "reject", id="wins-by-too-little"),
        pytest.param(0.70, 0.70, "reject", id="tie-with-improvement-required"),
        pytest.param(0.59, 0.50, "reject", id="better-than-the-champion-but-not-good-enough"),
        pytest.param(0.60, None, "promote", id="first-and-just-good-enough"),
        pytest.param(0.599, None, "reject", id="first-and-not-good-enough"),
    ],
)
def test_decides(candidate: float, champion: float | None, outcome: str) -> None:
    decision = decide(score("2", candidate), score("1", champion) if champion else None, POLICY, "roc_auc")
    assert decision.outcome == outcome
    assert decision.reasons
    assert decision.candidate_version == "2"


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, None])
@pytest.mark.parametrize("metric", ["roc_auc", "log_loss"])
@pytest.mark.parametrize("first", [True, False])
def test_a_candidate_without_a_finite_metric_never_passes(value: float | None, metric: str, first: bool) -> None:
    lenient = Policy(minimum_quality=1e9 if metric == "log_loss" else -1e9, minimum_improvement=-1e9)
    champion = None if first else score("1", 0.5, metric)
    decision = decide(score("2", value, metric), champion, lenient, metric)
    assert decision.outcome == "reject"
    assert f"no valid {metric}" in decision.reasons[0]


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, None])
def test_a_champion_that_cannot_be_scored_blocks_promotion(value: float | None) -> None:
    decision = decide(score("2", 0.9), score("1", value), POLICY, "roc_auc")
    assert decision.outcome == "reject"
    assert "the champion, version 1, has no valid roc_auc" in decision.reasons[0]


def test_a_metric_that_was_not_computed_is_missing() -> None:
    decision = decide(score("2", 0.9, "accuracy"), None, POLICY, "roc_auc")
    assert decision.outcome == "reject"
    assert "missing" in decision.reasons[0]


@pytest.mark.parametrize(("candidate", "outcome"), [(0.30, "promote"), (0.40, "reject"), (0.395, "reject")])
def test_lower_is_better_for_a_loss(candidate: float, outcome: str) -> None:
    policy = Policy(minimum_quality=0.5, minimum_improvement=0.01)
    decision = decide(score("2", candidate, "log_loss"), score("1", 0.4, "log_loss"), policy, "log_loss")
    assert decision.outcome == outcome
    assert decision.improvement == pytest.approx(0.4 - candidate)


@pytest.mark.parametrize("metric", ["rmse", "mae"])
@pytest.mark.parametrize(("candidate", "outcome"), [(1.9, "promote"), (2.1, "reject"), (2.0, "reject")])
def test_lower_is_better_for_an_error(candidate: float, outcome: str, metric: str) -> None:
    policy = Policy(minimum_quality=5.0, minimum_improvement=0.05)
    decision = decide(score("2", candidate, metric), score("1", 2.0, metric), policy, metric)
    assert decision.outcome == outcome
    assert f"{metric} is {abs(2.0 - candidate):.4f} {'worse' if candidate > 2 else 'better'}" in decision.reasons[-1]


@pytest.mark.parametrize(("candidate", "outcome"), [(-0.2, "reject"), (0.4, "promote"), (0.3, "reject")])
def test_r2_may_be_below_zero_and_higher_is_better(candidate: float, outcome: str) -> None:
    policy = Policy(minimum_quality=0.0, minimum_improvement=0.05)
    assert decide(score("2", candidate, "r2"), score("1", 0.3, "r2"), policy, "r2").outcome == outcome


def test_a_loss_above_the_limit_is_not_good_enough() -> None:
    policy = Policy(minimum_quality=0.5)
    assert decide(score("1", 0.51, "log_loss"), None, policy, "log_loss").outcome == "reject"


def test_a_tie_is_enough_where_no_improvement_is_required() -> None:
    policy = Policy(minimum_quality=0.6)
    assert decide(score("2", 0.7), score("1", 0.7), policy, "roc_auc").outcome == "promote"
    assert decide(score("2", 0.6999), score("1", 0.7), policy, "roc_auc").outcome == "reject"


def test_a_negative_improvement_allows_a_small_loss_only() -> None:
    policy = Policy(minimum_quality=0.6, minimum_improvement=-0.01)
    assert decide(score("2", 0.695), score("1", 0.7), policy, "roc_auc").outcome == "promote"
    assert decide(score("2", 0.68), score("1", 0.7), policy, "roc_auc").outcome == "reject"


@pytest.mark.parametrize("threshold", [math.nan, math.inf, -math.inf])
def test_nothing_passes_a_policy_that_is_not_a_number(threshold: float) -> None:
    for policy in (
        Policy(minimum_quality=threshold),
        Policy(minimum_quality=0.0, minimum_improvement=threshold),
    ):
        assert decide(score("2", 0.9), score("1", 0.1), policy, "roc_auc").outcome == "reject"
        assert decide(score("2", 0.9), None, policy, "roc_auc").outcome == "reject"


def test_all_reasons_against_are_given() -> None:
    decision = decide(score("2", 0.5), score("1", 0.7), POLICY, "roc_auc")
    assert len(decision.reasons) == 2
    assert "0.5000" in decision.reasons[0]
    assert "0.2000 worse" in decision.reasons[1]
    assert "version 1" in decision.reasons[1]
