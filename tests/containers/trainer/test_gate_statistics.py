"""The gate with the intervals that the evaluation computes: how often it errs, counted on simulated models.

A row is an example whose true probability is known, so that it is known which of two models is better.
"""

from __future__ import annotations

import math
from datetime import UTC, datetime
from typing import Any

import numpy as np
import pytest

from mlplatform.config.policy import Policy
from mlplatform.documents.decisions import Decision
from mlplatform.documents.evaluation import EvaluateResult, Improvement, Latency, Score
from mlplatform.documents.results import ValidateResult
from mlplatform.promotion.gate import decide
from trainer.evaluation.bootstrap import deviation, intervals
from trainer.evaluation.slices import slice_scores
from trainer.metrics import score_all

NOW = datetime(2026, 1, 1, tzinfo=UTC)
TRIALS = 200
ROWS = 300
RESAMPLES = 200
VALID = ValidateResult(
    run_key="key", started_at=NOW, finished_at=NOW, files=[], report_uri="s3://data/r", profile_uri="s3://data/p"
)


def models(draw: np.random.Generator, rows: int, candidate: float, champion: float) -> tuple[Any, Any, Any]:
    """Return targets and two models' probabilities: the truth, seen through noise of that size on the logit."""
    logit = draw.normal(0, 1.5, rows)
    target = (draw.random(rows) < 1 / (1 + np.exp(-logit))).astype(np.float64)
    seen = [1 / (1 + np.exp(-(logit + draw.normal(0, noise, rows)))) for noise in (candidate, champion)]
    return target, seen[0], seen[1]


def judged(target: Any, ours: Any, theirs: Any, metric: Any, policy: Policy, seed: int, slices: Any = ()) -> Decision:
    values = [score_all("binary", target, one)[metric] or 0.0 for one in (ours, theirs)]
    interval = None
    if policy.comparison.judged_on == "interval":
        level = policy.comparison.level
        found = intervals("binary", metric, target, ours, theirs, seed=seed, level=level, resamples=RESAMPLES)
        interval = found.improvement
    better = values[0] - values[1] if metric == "roc_auc" else values[1] - values[0]
    own, other = (
        Score(
            model_version=version,
            run_id="run",
            metrics={metric: value},
            calibration_error=0.0,
            latency=Latency(single_ms=1, batch_ms=1),
            model_bytes=1,
        )
        for version, value in zip("21", values, strict=True)
    )
    evaluation = EvaluateResult(
        run_key="key",
        started_at=NOW,
        finished_at=NOW,
        candidate=own,
        champion=other,
        rows=len(target),
        improvement=Improvement(metric=metric, value=better, interval=interval),
        slices=list(slices),
        test_uris=[],
        test_digest="rows",
        evaluation_digest="digest",
        examples_uri="s3://data/e",
        report_uri="s3://data/r",
    )
    return decide(evaluation, VALID, policy, "binary", metric)


def policy(metric: str, **comparison: Any) -> Policy:
    return Policy.model_validate(
        {"minimum_quality": 10 if metric == "log_loss" else 0.0, "approval": "automatic", "comparison": comparison}
    )


def share(metric: Any, by: Policy, candidate: float, champion: float, trials: int = TRIALS) -> float:
    """Return how often a candidate is promoted."""
    draw = np.random.default_rng(17)
    outcomes = [
        judged(*models(draw, ROWS, candidate, champion), metric, by, seed).outcome == "promote"
        for seed in range(trials)
    ]
    return float(np.mean(outcomes))


def at_most(probability: float) -> float:
    """What a share counted in the trials stays below where that is the truth, but for once in a thousand."""
    return probability + 3.1 * math.sqrt(probability * (1 - probability) / TRIALS)


@pytest.mark.parametrize(("metric", "level"), [("roc_auc", 0.8), ("log_loss", 0.8), ("log_loss", 0.95)])
def test_two_models_that_are_as_good_are_seldom_taken_for_an_improvement(metric: str, level: float) -> None:
    """The interval is two-sided, so that half of what it leaves out is an improvement that is none."""
    wrong = share(metric, policy(metric, level=level), candidate=1.0, champion=1.0)
    assert 0 < wrong <= at_most((1 - level) / 2)


def test_a_point_estimate_would_take_half_of_them_for_one() -> None:
    assert share("log_loss", policy("log_loss", judged_on="point"), 1.0, 1.0) > 0.4


@pytest.mark.parametrize("metric", ["roc_auc", "log_loss"])
def test_what_is_far_better_is_promoted_and_what_is_far_worse_is_not(metric: str) -> None:
    assert share(metric, policy(metric), candidate=0.3, champion=2.0, trials=40) > 0.9
    assert share(metric, policy(metric), candidate=2.0, champion=0.3, trials=40) == 0
    tolerant = policy(metric, kind="non-inferiority", margin=0.02)
    assert share(metric, tolerant, candidate=2.0, champion=0.3, trials=40) < 0.1


def test_a_model_worse_by_exactly_the_margin_seldom_passes_as_not_inferior() -> None:
    """The margin is the true difference, counted on very many rows."""
    target, ours, theirs = models(np.random.default_rng(3), 1_000_000, 1.5, 0.7)
    ours_truly, theirs_truly = (score_all("binary", target, one)["log_loss"] or 0 for one in (ours, theirs))
    margin = ours_truly - theirs_truly
    assert margin > 0.05
    by = policy("log_loss", kind="non-inferiority", margin=margin)
    assert share("log_loss", by, candidate=1.5, champion=0.7) <= at_most(0.025)


@pytest.mark.parametrize("metric", ["roc_auc", "log_loss"])
def test_the_interval_of_the_improvement_covers_the_truth_as_often_as_it_says(metric: Any) -> None:
    target, ours, theirs = models(np.random.default_rng(3), 1_000_000, 0.5, 1.2)
    truth = abs((score_all("binary", target, ours)[metric] or 0) - (score_all("binary", target, theirs)[metric] or 0))
    draw = np.random.default_rng(5)
    covered = 0
    for seed in range(TRIALS):
        found = intervals(
            "binary", metric, *models(draw, ROWS, 0.5, 1.2), seed=seed, resamples=RESAMPLES, level=0.9
        ).improvement
        assert found is not None
        assert found.level == 0.9
        covered += found.low <= truth <= found.high
    assert 0.9 - 0.07 < covered / TRIALS < 0.9 + 0.07


def test_a_standard_error_is_the_deviation_over_many_test_sets() -> None:
    draw = np.random.default_rng(11)
    stated, differences = [], []
    for seed in range(TRIALS):
        target, ours, theirs = models(draw, ROWS, 0.5, 1.2)
        own, other = (score_all("binary", target, one)["roc_auc"] or 0 for one in (ours, theirs))
        differences.append(own - other)
        stated.append(deviation("binary", "roc_auc", target, ours, theirs, seed=seed))
    assert np.mean(stated) == pytest.approx(np.std(differences), rel=0.12)  # type: ignore[arg-type]


def test_a_standard_error_that_cannot_be_estimated_is_none() -> None:
    target = np.zeros(60)
    target[0] = 1
    prediction = np.linspace(0, 1, 60)
    assert deviation("binary", "roc_auc", target, prediction, 1 - prediction, seed=1) is None
    assert deviation("binary", "log_loss", target, prediction, prediction, seed=1) == 0


def test_a_model_as_good_is_seldom_blocked_by_one_of_many_categories() -> None:
    """Five categories, and the level holds for all of them together."""
    draw = np.random.default_rng(23)
    by = policy("log_loss", kind="non-inferiority", judged_on="point")
    blocked = unadjusted = 0
    for seed in range(TRIALS):
        target, ours, theirs = models(draw, 5 * 100, 1.0, 1.0)
        place = np.array([f"place-{row % 5}" for row in range(len(target))], dtype=object)
        slices = slice_scores("binary", "log_loss", target, ours, theirs, {"place": place}, seed=seed)
        assert len(slices) == 5
        found = judged(target, ours, theirs, "log_loss", by, seed, slices).guards
        blocked += any(guard.name.startswith("slice ") and not guard.passed for guard in found)
        worst = max((one.candidate - one.champion) / one.deviation for one in slices)  # type: ignore[operator]
        unadjusted += worst > 1.645
    assert blocked / TRIALS <= at_most(0.05)
    assert unadjusted / TRIALS > 0.12, "without the adjustment a false alarm is common"
