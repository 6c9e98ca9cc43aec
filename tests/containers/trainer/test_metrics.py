from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from sklearn import metrics as reference

from mlplatform.config import base
from mlplatform.config.base import TaskKind
from trainer.metrics import METRICS, score_all

Array = NDArray[np.float64]


def softmax(margins: Array) -> Array:
    odds = np.exp(margins)
    return odds / odds.sum(axis=1, keepdims=True)


BINARY: dict[str, Any] = {
    "roc_auc": reference.roc_auc_score,
    "average_precision": reference.average_precision_score,
    "log_loss": lambda target, score: reference.log_loss(target, score, labels=[0, 1]),
    "brier_score": reference.brier_score_loss,
    "accuracy": lambda target, score: reference.accuracy_score(target, score >= 0.5),
}
MULTICLASS: dict[str, Any] = {
    "log_loss": lambda target, score: reference.log_loss(target, score, labels=range(score.shape[1])),
    "accuracy": lambda target, score: reference.accuracy_score(target, score.argmax(axis=1)),
    "macro_f1": lambda target, score: reference.f1_score(
        target, score.argmax(axis=1), average="macro", zero_division=0
    ),
    "roc_auc": lambda target, score: reference.roc_auc_score(
        target, score, multi_class="ovr", labels=range(score.shape[1])
    ),
}
REGRESSION: dict[str, Any] = {
    "rmse": reference.root_mean_squared_error,
    "mae": reference.mean_absolute_error,
    "r2": reference.r2_score,
}


def test_every_configurable_metric_is_computed() -> None:
    assert {kind: tuple(metrics) for kind, metrics in METRICS.items()} == dict(base.METRICS)


@pytest.mark.parametrize("name", METRICS["binary"])
@pytest.mark.parametrize("decimals", [1, 2, 17], ids=["many ties", "some ties", "no ties"])
@pytest.mark.parametrize("rows", [2, 3, 10, 1000])
def test_binary_agrees_with_scikit_learn(name: str, decimals: int, rows: int) -> None:
    draw = np.random.default_rng(rows * 100 + decimals)
    target = draw.integers(0, 2, rows).astype(np.float64)
    target[:2] = 0, 1
    score = np.clip(draw.normal(0.4 + 0.2 * target, 0.3), 0, 1).round(decimals)
    assert score_all("binary", target, score)[name] == pytest.approx(BINARY[name](target, score), rel=1e-12)


@pytest.mark.parametrize("name", METRICS["multiclass"])
@pytest.mark.parametrize("classes", [3, 7])
@pytest.mark.parametrize("ties", [True, False])
@pytest.mark.parametrize("rows", [7, 30, 1000])
def test_multiclass_agrees_with_scikit_learn(name: str, classes: int, ties: bool, rows: int) -> None:
    draw = np.random.default_rng(rows * 100 + classes)
    target = draw.integers(0, classes, rows).astype(np.float64)
    target[:classes] = np.arange(classes)
    margins = draw.normal(size=(rows, classes))
    margins[np.arange(rows), target.astype(int)] += 1
    score = softmax(margins.round(0) if ties else margins)
    expected = MULTICLASS[name](target, score)
    assert score_all("multiclass", target, score)[name] == pytest.approx(expected, rel=1e-12)


def test_macro_f1_leaves_out_classes_that_are_neither_there_nor_predicted() -> None:
    target, score = np.array([0.0, 0.0, 1.0, 1.0]), np.eye(5)[[0, 1, 1, 3]]
    assert score_all("multiclass", target, score)["macro_f1"] == pytest.approx(MULTICLASS["macro_f1"](target, score))


def test_a_class_that_does_not_occur_has_no_roc_auc() -> None:
    scores = score_all("multiclass", np.array([0.0, 1.0]), np.full((2, 3), 1 / 3))
    assert scores["roc_auc"] is None
    assert scores["accuracy"] == 0.5
    assert scores["log_loss"] == pytest.approx(np.log(3))


@pytest.mark.parametrize("name", METRICS["regression"])
@pytest.mark.parametrize("rows", [2, 10, 1000])
@pytest.mark.parametrize("scale", [1e-6, 1.0, 1e9])
def test_regression_agrees_with_scikit_learn(name: str, rows: int, scale: float) -> None:
    draw = np.random.default_rng(rows)
    target = draw.normal(5, 2, rows) * scale
    score = target + draw.normal(size=rows) * scale
    assert score_all("regression", target, score)[name] == pytest.approx(REGRESSION[name](target, score), rel=1e-9)


@pytest.mark.parametrize("error", [0.0, 1.0])
def test_r2_of_a_constant_target(error: float) -> None:
    target = np.full(4, 3.0)
    score = target + error
    assert score_all("regression", target, score)["r2"] == reference.r2_score(target, score)
    assert score_all("regression", target[:1], score[:1]) == {"rmse": error, "mae": error, "r2": None}


def test_an_error_too_large_for_a_number_is_none() -> None:
    scores = score_all("regression", np.array([0.0, 1.0]), np.full(2, 1e300))
    assert scores == {"rmse": None, "mae": 1e300, "r2": None}


def test_what_is_undefined_for_one_class_is_none() -> None:
    scores = score_all("binary", np.zeros(4), np.array([0.1, 0.2, 0.3, 0.9]))
    assert scores["roc_auc"] is None
    assert scores["average_precision"] is None
    assert scores["accuracy"] == 0.75


@pytest.mark.parametrize("bad", [np.nan, np.inf])
@pytest.mark.parametrize("kind", METRICS)
def test_predictions_that_are_not_finite_have_no_metric(kind: TaskKind, bad: float) -> None:
    prediction = np.array([0.5, bad])
    if kind == "multiclass":
        prediction = np.column_stack([prediction, 1 - prediction])
    assert set(score_all(kind, np.array([0.0, 1.0]), prediction).values()) == {None}


@pytest.mark.parametrize("kind", METRICS)
def test_no_rows_have_no_metric(kind: TaskKind) -> None:
    empty = np.zeros((0, 3)) if kind == "multiclass" else np.zeros(0)
    assert score_all(kind, np.zeros(0), empty) == dict.fromkeys(METRICS[kind])


@pytest.mark.parametrize(
    ("kind", "shape"), [("binary", (2, 1)), ("regression", (2, 1)), ("multiclass", (2,)), ("binary", (3,))]
)
def test_shapes_that_would_broadcast_are_refused(kind: TaskKind, shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=rf"{kind}: a target of shape \(2,\)"):
        score_all(kind, np.array([0.0, 1.0]), np.zeros(shape))


def test_certain_and_wrong_is_finite() -> None:
    binary = score_all("binary", np.array([0.0, 1.0]), np.array([1.0, 0.0]))
    several = score_all("multiclass", np.array([0.0, 1.0]), np.eye(3)[[1, 2]])
    assert binary["log_loss"] == several["log_loss"] == pytest.approx(36.04, abs=0.01)
