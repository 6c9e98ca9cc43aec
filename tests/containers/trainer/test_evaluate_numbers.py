"""What evaluation computes, against answers known otherwise."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from mlplatform.config.base import METRICS, Metric, TaskKind
from trainer.evaluation import curves
from trainer.evaluation.bootstrap import LEVEL, intervals, statistic
from trainer.evaluation.calibration import calibration_error, reliability
from trainer.evaluation.latency import median_ms
from trainer.evaluation.slices import slice_scores
from trainer.metrics import score_all

EVERY = [(kind, metric) for kind, metrics in METRICS.items() for metric in metrics]


def data(kind: TaskKind, rows: int, seed: int = 1, noise: float = 1.0) -> tuple[Any, Any]:
    """Targets and predictions that have something to do with each other, with ties."""
    draw = np.random.default_rng(seed)
    hidden = draw.normal(0, 1, rows)
    if kind == "regression":
        return hidden * 10 + 3, np.round(hidden * 10 + 3 + draw.normal(0, 5 * noise, rows), 1)
    if kind == "binary":
        target = (hidden > 0.5).astype(np.float64)
        return target, np.round(1 / (1 + np.exp(-(hidden + draw.normal(0, noise, rows)))), 2)
    target = np.digitize(hidden, [-0.7, 0.4]).astype(np.float64)
    logits = np.round(-((hidden[:, None] - [-1.3, 0, 1.2]) ** 2) + draw.normal(0, noise, (rows, 3)), 1)
    odds = np.exp(logits)
    return target, odds / odds.sum(axis=1, keepdims=True)


@pytest.mark.parametrize(("kind", "metric"), EVERY)
def test_a_weighted_metric_is_the_metric_of_rows_repeated(kind: TaskKind, metric: Metric) -> None:
    target, prediction = data(kind, 200)
    one = statistic(kind, metric, target, prediction)
    assert one(np.ones(200)) == pytest.approx(score_all(kind, target, prediction)[metric], rel=1e-12)
    weights = np.random.default_rng(5).integers(0, 4, 200)
    repeated = np.repeat(np.arange(200), weights)
    expected = score_all(kind, target[repeated], prediction[repeated])[metric]
    assert one(weights.astype(np.float64)) == pytest.approx(expected, rel=1e-12)


def test_of_a_mean_the_interval_is_that_of_the_normal_distribution() -> None:
    target, prediction = data("regression", 5_000)
    found = intervals("regression", "mae", target, prediction, None, seed=3).candidate
    assert found is not None
    errors = np.abs(target - prediction)
    half = 1.96 * errors.std() / math.sqrt(5_000)
    assert (found.low, found.high) == pytest.approx((errors.mean() - half, errors.mean() + half), abs=0.1 * half)
    assert (found.level, found.resamples) == (LEVEL, 1000)


def test_of_roc_auc_the_interval_is_that_of_delong() -> None:
    """The variance by DeLong, DeLong and Clarke-Pearson (1988), from its definition."""
    target, prediction = data("binary", 1_500)
    positive, negative = prediction[target == 1], prediction[target == 0]
    wins = (positive[:, None] > negative) + 0.5 * (positive[:, None] == negative)
    variance = wins.mean(axis=1).var(ddof=1) / len(positive) + wins.mean(axis=0).var(ddof=1) / len(negative)
    found = intervals("binary", "roc_auc", target, prediction, None, seed=3).candidate
    assert found is not None
    assert found.high - found.low == pytest.approx(2 * 1.96 * math.sqrt(variance), rel=0.1)
    assert (found.low + found.high) / 2 == pytest.approx(wins.mean(), abs=0.003)


def test_the_comparison_is_paired() -> None:
    """Two models with the same mistakes differ by a constant: that is certain, however unsure each one is."""
    target, prediction = data("regression", 500)
    worse = np.where(prediction > target, prediction + 1, prediction - 1)
    found = intervals("regression", "mae", target, prediction, worse, seed=3)
    assert found.candidate is not None
    assert found.improvement is not None
    assert found.candidate.high - found.candidate.low > 0.3
    assert (found.improvement.low, found.improvement.high) == pytest.approx((1, 1))


def test_improvement_is_positive_where_lower_is_better_too() -> None:
    target, good = data("binary", 2_000, noise=0.3)
    _, bad = data("binary", 2_000, noise=3)
    for metric in ("roc_auc", "log_loss"):
        found = intervals("binary", metric, target, good, bad, seed=1)
        assert found.improvement is not None
        assert found.improvement.low > 0


def test_an_interval_covers_the_truth_as_often_as_it_says() -> None:
    covered = 0
    for seed in range(200):
        target = np.random.default_rng(seed).normal(0, 1, 150)
        found = intervals("regression", "rmse", target, np.zeros(150), None, seed=seed, resamples=300).candidate
        assert found is not None
        covered += found.low <= 1 <= found.high
    assert 0.88 <= covered / 200 <= 0.98


def test_many_rows_are_thinned_out_and_the_interval_is_scaled() -> None:
    target, prediction = data("binary", 20_000)
    whole = intervals("binary", "roc_auc", target, prediction, None, seed=1).candidate
    thinned = intervals("binary", "roc_auc", target, prediction, None, seed=1, rows=4_000).candidate
    assert whole is not None
    assert thinned is not None
    assert thinned.high - thinned.low == pytest.approx(whole.high - whole.low, rel=0.15)
    assert thinned.low == pytest.approx(whole.low, abs=0.002)


def test_the_same_seed_gives_the_same_interval() -> None:
    target, prediction = data("binary", 300)
    first, again, other = (intervals("binary", "roc_auc", target, prediction, None, seed=s) for s in (1, 1, 2))
    assert first == again != other


def test_what_cannot_be_scored_has_no_interval() -> None:
    target, prediction = data("binary", 100)
    broken = prediction.copy()
    broken[3] = np.nan
    found = intervals("binary", "roc_auc", target, broken, prediction, seed=1)
    assert (found.candidate, found.improvement) == (None, None)
    assert found.champion is not None
    assert intervals("binary", "roc_auc", np.ones(100), prediction, prediction, seed=1).improvement is None
    empty = np.empty(0)
    assert intervals("binary", "roc_auc", empty, empty, empty, seed=1).candidate is None
    # One positive row is missing from a third of the draws: too often to leave them out.
    alone = np.zeros(100)
    alone[0] = 1
    assert intervals("binary", "roc_auc", alone, prediction, None, seed=1).candidate is None


def test_a_hundred_thousand_rows_take_seconds() -> None:
    target, prediction = data("binary", 100_000)
    _, other = data("binary", 100_000, noise=2)
    started = time.process_time()
    intervals("binary", "roc_auc", target, prediction, other, seed=1, resamples=100)
    assert time.process_time() - started < 2


def test_calibration_error_of_known_probabilities() -> None:
    # Ten levels, each 0.1 too high.
    probability = np.repeat(np.arange(1, 11) / 10, 100)
    target = np.concatenate([np.arange(100) < 10 * level for level in range(10)]).astype(np.float64)
    assert calibration_error(target, probability) == pytest.approx(0.1)
    found = reliability(target, probability)
    assert found is not None
    np.testing.assert_allclose(found.predicted, np.arange(1, 11) / 10)
    np.testing.assert_allclose(found.observed, np.arange(10) / 10)
    assert found.rows.tolist() == [100] * 10


def test_calibration_of_few_or_equal_or_no_predictions() -> None:
    assert calibration_error(np.array([0.0, 1.0]), np.array([0.5, 0.5])) == 0
    assert calibration_error(np.array([1.0]), np.array([0.25])) == 0.75
    assert calibration_error(np.empty(0), np.empty(0)) is None
    assert calibration_error(np.array([1.0, 0.0]), np.array([0.5, np.nan])) is None


def test_slices_are_scored_on_their_own_rows() -> None:
    target, prediction = data("binary", 300)
    place = np.array((["a"] * 150) + (["b"] * 100) + ([None] * 49) + ["c"], dtype=object)
    other = np.array(["x", "y"] * 150, dtype=object)
    found = slice_scores("binary", "roc_auc", target, prediction, 1 - prediction, {"place": place, "other": other}, 40)
    assert [(one.feature, one.category, one.rows) for one in found] == [
        ("place", "a", 150),
        ("place", "b", 100),
        ("place", None, 49),
        ("other", "x", 150),
        ("other", "y", 150),
    ]
    assert found[0].candidate == score_all("binary", target[:150], prediction[:150])["roc_auc"]
    assert found[0].champion == pytest.approx(1 - found[0].candidate)
    assert found[4].candidate == score_all("binary", target[1::2], prediction[1::2])["roc_auc"]


def test_slices_without_enough_rows_or_metric() -> None:
    target, prediction = np.zeros(60), np.linspace(0, 1, 60)
    place = np.array(["a"] * 60, dtype=object)
    (only,) = slice_scores("binary", "roc_auc", target, prediction, None, {"place": place})
    assert (only.rows, only.candidate, only.champion) == (60, None, None)
    assert slice_scores("binary", "roc_auc", target, prediction, None, {"place": place}, 61) == []
    assert slice_scores("binary", "roc_auc", target, prediction, None, {}) == []
    nothing = np.empty(0)
    assert slice_scores("binary", "roc_auc", nothing, nothing, None, {"place": nothing.astype(object)}) == []


def test_the_median_is_taken_after_a_warm_up() -> None:
    ticks = iter(np.cumsum([0, 0.001, 0, 0.5, 0, 0.001, 0, 0.001, 0, 0.003]).tolist())
    calls: list[int] = []
    assert median_ms(lambda: calls.append(1), lambda: next(ticks)) == pytest.approx(1)
    assert len(calls) == 3 + 5


def area(curve: Callable[[Any, Any], tuple[Any, Any]], target: Any, prediction: Any) -> float:
    x, y = curve(target, prediction)
    return float(np.trapezoid(y, x))


def test_curves_are_small_and_keep_their_area() -> None:
    target, prediction = data("binary", 50_000)
    prediction = prediction + np.random.default_rng(1).random(50_000) * 1e-3  # all distinct
    x, y = curves.roc_curve(target, prediction)
    assert len(x) <= curves.POINTS
    assert (x[0], y[0], x[-1], y[-1]) == (0, 0, 1, 1)
    metrics = score_all("binary", target, prediction)
    assert area(curves.roc_curve, target, prediction) == pytest.approx(metrics["roc_auc"], abs=1e-3)
    recall, precision = curves.precision_recall_curve(target, prediction)
    assert len(recall) <= curves.POINTS
    assert recall[-1] == 1
    assert precision[-1] == target.mean()
    assert area(curves.precision_recall_curve, target, prediction) == pytest.approx(
        metrics["average_precision"], abs=5e-3
    )


def test_roc_curve_of_ties_by_hand() -> None:
    x, y = curves.roc_curve(np.array([1.0, 0, 1, 0]), np.array([0.9, 0.5, 0.5, 0.1]))
    assert (x.tolist(), y.tolist()) == ([0, 0, 0.5, 1], [0, 0.5, 1, 1])


def test_class_scores_by_hand() -> None:
    matrix = curves.confusion(np.array([0.0, 0, 1, 1, 1]), np.array([0, 1, 1, 1, 0]), 3)
    assert matrix.tolist() == [[1, 1, 0], [1, 2, 0], [0, 0, 0]]
    first, second, absent = curves.class_scores(matrix)
    assert (first.rows, first.precision, first.recall, first.f1) == (2, 0.5, 0.5, 0.5)
    assert (second.precision, second.recall) == (pytest.approx(2 / 3), pytest.approx(2 / 3))
    assert (absent.rows, absent.precision, absent.recall, absent.f1) == (0, None, None, None)


def test_rare_classes_are_lumped_and_no_row_is_lost() -> None:
    matrix = np.arange(25).reshape(5, 5)
    lumped, kept, others = curves.lump(matrix, 3)
    assert (kept, others) == ([3, 4], True)
    assert lumped.tolist() == [[18, 19, 48], [23, 24, 63], [24, 27, 54]]
    assert lumped.sum() == matrix.sum()
    same, kept, others = curves.lump(matrix, 5)
    assert (same is matrix, kept, others) == (True, [0, 1, 2, 3, 4], False)


def test_deciles_by_hand() -> None:
    target = np.arange(100.0)
    parts = curves.deciles(target, target + np.where(target < 50, 2, -1))
    assert [part.rows for part in parts] == [10] * 10
    assert (parts[0].low, parts[0].high, parts[0].mean_absolute_error, parts[0].bias) == (0, 9, 2, 2)
    assert (parts[9].mean_absolute_error, parts[9].bias) == (1, -1)
    assert len(curves.deciles(np.ones(5), np.ones(5))) == 1


def test_ranges_are_never_empty_and_outliers_count_at_the_edge() -> None:
    assert curves.span(np.zeros(3)) == (-0.5, 0.5)
    low, high = curves.span(np.append(np.linspace(0, 1, 10_000), 1e9))
    assert (low, high) == pytest.approx((0, 1), abs=0.03)
    assert curves.shares(np.array([-9.0, 0.1, 9, 9]), np.array([0.0, 0.5, 1])).tolist() == [0.5, 0.5]
    cells = curves.density(np.array([-5.0, 0.2]), np.array([7.0, 0.9]), np.array([0.0, 0.5, 1]))
    assert cells.tolist() == [[0, 2], [0, 0]]
