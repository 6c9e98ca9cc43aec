from __future__ import annotations

import numpy as np
import pytest
from sklearn import metrics as reference

from trainer.metrics import METRICS, score_all

EXPECTED = {
    "roc_auc": reference.roc_auc_score,
    "average_precision": reference.average_precision_score,
    "log_loss": lambda target, score: reference.log_loss(target, score, labels=[0, 1]),
    "brier_score": reference.brier_score_loss,
    "accuracy": lambda target, score: reference.accuracy_score(target, score >= 0.5),
}


@pytest.mark.parametrize("name", METRICS)
@pytest.mark.parametrize("decimals", [1, 2, 17], ids=["many ties", "some ties", "no ties"])
@pytest.mark.parametrize("rows", [2, 3, 10, 1000])
def test_agrees_with_scikit_learn(name: str, decimals: int, rows: int) -> None:
    draw = np.random.default_rng(rows * 100 + decimals)
    target = draw.integers(0, 2, rows).astype(np.float64)
    target[:2] = 0, 1
    score = np.clip(draw.normal(0.4 + 0.2 * target, 0.3), 0, 1).round(decimals)
    assert METRICS[name](target, score) == pytest.approx(EXPECTED[name](target, score), rel=1e-12)


def test_what_is_undefined_for_one_class_is_none() -> None:
    scores = score_all(np.zeros(4), np.array([0.1, 0.2, 0.3, 0.9]))
    assert scores["roc_auc"] is None
    assert scores["average_precision"] is None
    assert scores["accuracy"] == 0.75


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_predictions_that_are_not_finite_have_no_metric(bad: float) -> None:
    assert set(score_all(np.array([0.0, 1.0]), np.array([0.5, bad])).values()) == {None}


def test_no_rows_have_no_metric() -> None:
    assert set(score_all(np.zeros(0), np.zeros(0)).values()) == {None}


def test_certain_and_wrong_is_finite() -> None:
    assert score_all(np.array([0.0, 1.0]), np.array([1.0, 0.0]))["log_loss"] == pytest.approx(36.04, abs=0.01)
