"""What is asked of every family and every kind of task."""

from __future__ import annotations

from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from parcel_tasks import (
    CASES,
    TASK_KINDS,
    TRAIN,
    VALIDATION,
    digest,
    fit,
    fit_to,
    load_spec,
    make_task,
    profile,
    save,
)

import modelformat
from mlplatform.config.base import METRICS, Scalar, TaskKind
from mlplatform.errors import NonRetryableError
from trainer.data import Dataset
from trainer.families import lightgbm, sklearn, xgboost
from trainer.metrics import score_all
from trainer.session import Diverged

ALL = pytest.mark.parametrize(("case", "kind"), [(case, kind) for case in CASES for kind in TASK_KINDS])


def in_memory(fitted: Any, encoded: NDArray[np.float32]) -> NDArray[np.float64]:
    """What the library itself answers."""
    answer: NDArray[np.float64]
    if hasattr(fitted, "coefficients"):
        margins = encoded.astype(np.float64) @ fitted.coefficients.T + fitted.intercepts
        if fitted.task.kind == "regression":
            return margins[:, 0]
        if fitted.task.kind == "binary":
            return 1 / (1 + np.exp(-margins[:, 0]))
        odds = np.exp(margins)
        return odds / odds.sum(axis=1, keepdims=True)
    if hasattr(fitted, "estimator"):
        if fitted.task.kind == "regression":
            answer = fitted.estimator.predict(encoded)
            return answer
        answer = fitted.estimator.predict_proba(encoded)
        return answer[:, 1] if fitted.task.kind == "binary" else answer
    if hasattr(fitted, "text"):
        answer = fitted.booster.predict(encoded)
        return answer
    answer = fitted.booster.inplace_predict(encoded)
    return answer


@ALL
def test_learns_and_what_is_saved_predicts_what_was_trained(case: str, kind: TaskKind, tmp_path: Path) -> None:
    fitted = fit(case, make_task(kind))
    saved = save(fitted, tmp_path / "model")
    data = VALIDATION[kind]
    predictions = saved.predict(data.columns)
    scores = score_all(kind, data.target, predictions)
    if kind == "regression":
        assert scores["r2"] is not None
        assert scores["r2"] > 0.7
    elif kind == "binary":
        assert scores["roc_auc"] is not None
        assert scores["roc_auc"] > 0.7
    else:
        shares = np.bincount(TRAIN[kind].target.astype(int)) / TRAIN[kind].rows
        baseline = score_all(kind, data.target, np.tile(shares, (data.rows, 1)))
        assert scores["log_loss"] is not None
        assert baseline["log_loss"] is not None
        assert scores["log_loss"] < 0.9 * baseline["log_loss"]
        np.testing.assert_allclose(predictions.sum(axis=1), 1, atol=1e-6)
    encoded = modelformat.encode(fitted.features, data.columns)
    # Of a number, what 32 bits of the part that the trees add can hold; XGBoost computes all of it in 32 bits.
    scale = 0.1 if case == "xgboost" else 1e-3
    tolerance = scale if kind == "regression" else 1e-6
    assert np.abs(predictions - in_memory(fitted, encoded)).max() < tolerance


@ALL
def test_missing_and_unknown_values_are_predicted(case: str, kind: TaskKind, tmp_path: Path) -> None:
    columns = {
        "weight": [None, 1e9],
        "flat": [None, 3],
        "empty": [None, 1.5],
        "depot": [None, "the moon"],
        "nothing": [None, "x"],
    }
    answers = save(fit(case, make_task(kind)), tmp_path / "model").predict(columns)
    assert np.isfinite(answers).all()
    if kind != "regression":
        assert ((answers >= 0) & (answers <= 1)).all()


@pytest.mark.parametrize("case", CASES)
def test_an_unknown_category_is_a_missing_one(case: str, tmp_path: Path) -> None:
    saved = save(fit(case, make_task("binary")), tmp_path / "model")
    rows = {name: values[:2].tolist() for name, values in VALIDATION["binary"].columns.items()}
    unknown, missing = (saved.predict(rows | {"depot": [value] * 2}) for value in ("the moon", None))
    np.testing.assert_array_equal(unknown, missing)
    assert (unknown != saved.predict(rows | {"depot": ["west"] * 2})).any()


@ALL
def test_the_same_seed_gives_the_same_files(case: str, kind: TaskKind, tmp_path: Path) -> None:
    task = make_task(kind)
    assert digest(fit(case, task), tmp_path / "one") == digest(fit(case, task), tmp_path / "two")


@pytest.mark.parametrize("case", ["xgboost", "lightgbm"])
def test_another_seed_gives_another_model(case: str, tmp_path: Path) -> None:
    digests = {digest(fit(case, make_task("binary", seed=seed)), tmp_path / str(seed)) for seed in (3, 4)}
    assert len(digests) == 2


@pytest.mark.parametrize("case", CASES)
def test_the_transformation_is_fitted_from_the_profile(case: str) -> None:
    task = make_task("binary")
    data = VALIDATION["binary"]
    odd = Dataset({**data.columns, "depot": np.full(data.rows, "validation only", dtype=object)}, data.target)
    assert fit_to(case, task, TRAIN["binary"], odd).features == fit(case, task).features


@ALL
def test_importance_is_shares_by_feature(case: str, kind: TaskKind) -> None:
    importance = fit(case, make_task(kind)).importance
    assert list(importance) == ["weight", "flat", "empty", "depot", "nothing"]
    assert sum(importance.values()) == pytest.approx(1)
    assert importance["flat"] == importance["empty"] == importance["nothing"] == 0
    assert min(importance["weight"], importance["depot"]) > 0.1


@pytest.mark.parametrize(
    ("name", "params"), [("xgboost", xgboost.Params), ("lightgbm", lightgbm.Params), ("sklearn", sklearn.Params)]
)
def test_the_catalogue_has_the_parameters_that_are_read(name: str, params: Any) -> None:
    assert [field.name for field in fields(params)] == list(load_spec(name).parameters)


# Of each parameter, a value that must give another model than the case's.
CHANGES: list[tuple[str, str, Scalar]] = [
    ("xgboost", "n_estimators", 5),
    ("xgboost", "max_depth", 1),
    ("xgboost", "learning_rate", 0.03),
    ("xgboost", "min_child_weight", 90.0),
    ("xgboost", "subsample", 1.0),
    ("xgboost", "colsample_bytree", 0.3),
    ("xgboost", "gamma", 5.0),
    ("xgboost", "reg_alpha", 9.0),
    ("xgboost", "reg_lambda", 90.0),
    ("xgboost", "max_bin", 4),
    ("xgboost", "scale_pos_weight", 3.0),
    ("lightgbm", "n_estimators", 5),
    ("lightgbm", "num_leaves", 3),
    ("lightgbm", "max_depth", 1),
    ("lightgbm", "learning_rate", 0.03),
    ("lightgbm", "min_child_samples", 200),
    ("lightgbm", "subsample", 0.4),
    ("lightgbm", "colsample_bytree", 1.0),
    ("lightgbm", "reg_alpha", 9.0),
    ("lightgbm", "reg_lambda", 90.0),
    ("lightgbm", "max_bin", 4),
    ("linear", "C", 0.001),
    ("linear", "max_iter", 1),
    ("hist_gradient_boosting", "learning_rate", 0.03),
    ("hist_gradient_boosting", "max_leaf_nodes", 3),
    ("hist_gradient_boosting", "min_samples_leaf", 200),
    ("hist_gradient_boosting", "l2_regularization", 90.0),
    ("hist_gradient_boosting", "max_iter", 5),
    ("hist_gradient_boosting", "n_iter_no_change", 1),
]


@pytest.mark.filterwarnings("ignore:lbfgs failed to converge")
@pytest.mark.parametrize(("case", "parameter", "value"), CHANGES)
def test_every_parameter_has_its_effect(case: str, parameter: str, value: Scalar, tmp_path: Path) -> None:
    task = make_task("binary")
    predictions = [
        save(fit(case, task, **more), tmp_path / name).predict(VALIDATION["binary"].columns)
        for name, more in (("as it is", {}), ("changed", {parameter: value}))
    ]
    assert np.abs(predictions[0] - predictions[1]).max() > 1e-4


def test_every_parameter_is_tried() -> None:
    tried = {(CASES[case][0], parameter) for case, parameter, _ in CHANGES}
    stopping = {("xgboost", "early_stopping_rounds"), ("lightgbm", "early_stopping_rounds"), ("sklearn", "estimator")}
    every = {(name, key) for name in ("xgboost", "lightgbm", "sklearn") for key in load_spec(name).parameters}
    assert tried | stopping == every


@ALL
def test_every_metric_of_the_task_can_be_watched(case: str, kind: TaskKind) -> None:
    for metric in METRICS[kind]:
        small = {"sklearn": {"max_iter": 100}}.get(CASES[case][0], {"n_estimators": 12})
        assert fit(case, make_task(kind, metric=metric), **small).importance


@pytest.mark.parametrize("case", CASES)
def test_two_classes_of_a_multiclass_task(case: str, tmp_path: Path) -> None:
    names = ["no", "yes"]
    task = make_task("multiclass", classes=names, profile=profile(TRAIN["binary"], names))
    fitted = fit_to(case, task, TRAIN["binary"], VALIDATION["binary"])
    saved = save(fitted, tmp_path / "model")
    data = VALIDATION["binary"]
    predictions = saved.predict(data.columns)
    assert predictions.shape == (data.rows, 2)
    np.testing.assert_allclose(predictions.sum(axis=1), 1, atol=1e-6)
    scores = score_all("multiclass", data.target, predictions)
    assert scores["roc_auc"] is not None
    assert scores["roc_auc"] > 0.7


@pytest.mark.parametrize("case", CASES)
def test_nothing_to_learn_still_gives_a_model(case: str, tmp_path: Path) -> None:
    task = make_task("binary")
    data = {**TRAIN["binary"].columns, "weight": np.full(2000, 7.0), "depot": np.full(2000, "west", dtype=object)}
    train = Dataset(data, TRAIN["binary"].target)
    validation = Dataset({name: values[:500] for name, values in data.items()}, VALIDATION["binary"].target)
    task = replace(task, profile=profile(train, ["0", "1"]), metric="log_loss")
    predictions = save(fit_to(case, task, train, validation), tmp_path / "model").predict(validation.columns)
    np.testing.assert_allclose(predictions, train.target.mean(), atol=0.02)


# --- What is refused, what diverges -------------------------------------------------------------


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize(
    ("kind", "where", "target", "message"),
    [
        ("binary", "train", lambda target: target * 0, "train split has no row where late is 1: nothing can be"),
        ("binary", "validation", lambda target: target * 0, "validation split has no row where late is 1: roc_auc"),
        ("multiclass", "train", lambda target: np.minimum(target, 1), "no row where late is lost"),
        ("regression", "train", lambda target: target * np.nan, "train split, row 0: late is nan"),
        ("regression", "train", lambda target: target * 1e40, "row 0: late is .*, not a finite number of 32 bits"),
        ("regression", "validation", lambda target: target[:0], "validation split has no rows"),
    ],
)
def test_data_that_cannot_be_trained_on_is_refused(
    case: str, kind: TaskKind, where: str, target: Any, message: str
) -> None:
    splits = {"train": TRAIN[kind], "validation": VALIDATION[kind]}
    changed = target(splits[where].target)
    columns = {name: values[: len(changed)] for name, values in splits[where].columns.items()}
    splits[where] = Dataset(columns, changed)
    with pytest.raises(NonRetryableError, match=message):
        fit_to(case, make_task(kind), splits["train"], splits["validation"])


def test_a_validation_split_of_one_class_will_do_where_the_metric_needs_no_other() -> None:
    one = Dataset(VALIDATION["binary"].columns, VALIDATION["binary"].target * 0)
    assert fit_to("xgboost", make_task("binary", metric="log_loss"), TRAIN["binary"], one).importance


def test_a_loss_that_is_no_number_ends_as_diverged() -> None:
    data = VALIDATION["regression"]
    huge = Dataset(data.columns, np.where(np.arange(data.rows) == 3, 1e38, data.target))
    with pytest.raises(Diverged, match=r"^round 0: rmse of the validation split is inf$"):
        fit_to("xgboost", make_task("regression"), TRAIN["regression"], huge)


@pytest.mark.parametrize("case", ["lightgbm", "linear", "hist_gradient_boosting"])
def test_the_others_cope_with_the_largest_numbers(case: str, tmp_path: Path) -> None:
    data = TRAIN["regression"]
    huge = Dataset(data.columns, (data.target - 1_000_000) * 1e36)
    predictions = save(fit_to(case, make_task("regression"), huge, huge), tmp_path / "model").predict(data.columns)
    assert score_all("regression", huge.target / 1e36, predictions / 1e36)["r2"] > 0.7  # type: ignore[operator]


def test_a_positive_class_is_of_binary_tasks_only() -> None:
    with pytest.raises(NonRetryableError, match="scale_pos_weight: a multiclass task") as caught:
        fit("xgboost", make_task("multiclass"), scale_pos_weight=2.0)
    assert caught.value.kind == "bad-config"
