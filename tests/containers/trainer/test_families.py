from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import modelformat
from mlplatform.config import Scalar
from mlplatform.steps import Refused
from modelformat import Predictor
from trainer.data import Dataset, Kind
from trainer.families import MODULES, load_family
from trainer.families.base import Task
from trainer.families.onnx_export import floor_float32
from trainer.metrics import roc_auc
from trainer.train import save_and_score

KINDS: dict[str, Kind] = {
    **{"weight": "number", "flat": "number", "empty": "number"},
    **{"depot": "category", "nothing": "category"},
}
TASK = Task(features=KINDS, target="late", metric="roc_auc", seed=3, threads=2, metadata={"dataset": "parcels"})
CASES: dict[str, tuple[str, dict[str, Scalar]]] = {
    "xgboost": ("xgboost", {"n_estimators": 30, "max_depth": 4, "subsample": 0.7, "colsample_bytree": 0.7}),
    "logistic_regression": ("sklearn", {"estimator": "logistic_regression", "C": 0.1}),
    "hist_gradient_boosting": ("sklearn", {"estimator": "hist_gradient_boosting", "max_iter": 40}),
}


def dataset(rows: int, seed: int) -> Dataset:
    draw = np.random.default_rng(seed)
    depot = draw.choice(np.array(["north", "south", "west", None], dtype=object), rows)
    weight = np.where(draw.random(rows) < 0.1, np.nan, draw.normal(50, 20, rows))
    chance = 1 / (1 + np.exp(-((depot == "west") * 2 + np.nan_to_num(weight, nan=90) / 30 - 2.5)))
    columns = {"weight": weight, "flat": np.full(rows, 3.0), "empty": np.full(rows, np.nan), "depot": depot}
    columns["nothing"] = np.full(rows, None, dtype=object)
    return Dataset(columns, (draw.random(rows) < chance).astype(np.float64))


TRAIN, VALIDATION = dataset(2000, 1), dataset(500, 2)


def fit(case: str, task: Task = TASK, **more: Scalar) -> Any:
    family, params = CASES[case]
    return load_family(family).fit(task, TRAIN, VALIDATION, {**params, **more})


@pytest.mark.parametrize("case", CASES)
def test_learns_and_what_is_saved_predicts_what_was_trained(case: str, tmp_path: Path) -> None:
    fitted = fit(case)
    metrics, digest = save_and_score(fitted, tmp_path / "model", VALIDATION)
    saved = Predictor.load(tmp_path / "model")
    predictions = saved.predict(VALIDATION.columns)
    assert saved.digest == digest == modelformat.digest(tmp_path / "model")
    assert metrics["roc_auc"] == roc_auc(VALIDATION.target, predictions) > 0.7
    encoded = modelformat.encode(fitted.features, VALIDATION.columns)
    if case == "xgboost":
        in_memory = fitted.booster.inplace_predict(encoded)
    else:
        in_memory = fitted.estimator.predict_proba(encoded)[:, 1]
    assert np.abs(predictions - in_memory).max() < 1e-6


@pytest.mark.parametrize("case", CASES)
def test_missing_and_unknown_values_are_predicted(case: str, tmp_path: Path) -> None:
    save_and_score(fit(case), tmp_path / "model", VALIDATION)
    columns = {
        "weight": [None, 1e9],
        "flat": [None, 3],
        "empty": [None, 1.5],
        "depot": [None, "the moon"],
        "nothing": [None, "x"],
    }
    answers = Predictor.load(tmp_path / "model").predict(columns)
    assert ((answers >= 0) & (answers <= 1)).all()


@pytest.mark.parametrize("case", CASES)
def test_the_same_seed_gives_the_same_files(case: str, tmp_path: Path) -> None:
    digests = [save_and_score(fit(case), tmp_path / name, VALIDATION)[1] for name in ("one", "two")]
    assert digests[0] == digests[1]


def test_another_seed_gives_another_model(tmp_path: Path) -> None:
    other = Task(**{**vars(TASK), "seed": 4})
    digests = [save_and_score(fit("xgboost", task), tmp_path / str(task.seed), VALIDATION)[1] for task in (TASK, other)]
    assert digests[0] != digests[1]


@pytest.mark.parametrize("case", CASES)
def test_the_transformation_is_fitted_on_train_only(case: str) -> None:
    family, params = CASES[case]
    odd = Dataset({**VALIDATION.columns, "depot": np.full(500, "validation only", dtype=object)}, VALIDATION.target)
    fitted: Any = load_family(family).fit(TASK, TRAIN, odd, params)
    assert fitted.features == fit(case).features


def test_early_stopping_keeps_the_best_trees() -> None:
    facts = fit("xgboost", n_estimators=400, early_stopping_rounds=5, learning_rate=0.5).facts
    assert facts["trees"] == facts["trees_trained"] - 5 < 100


@pytest.mark.parametrize("name", MODULES)
@pytest.mark.parametrize(
    ("params", "expected"),
    [({"no_such": 1}, "no_such"), ({"learning_rate": -1.0}, "learning_rate"), ({"learning_rate": "fast"}, "fast")],
)
def test_a_wrong_parameter_is_refused_by_name(name: str, params: dict[str, Scalar], expected: str) -> None:
    with pytest.raises(Refused, match=rf"families\.{name}.*{expected}") as caught:
        load_family(name).fit(TASK, TRAIN, VALIDATION, params)
    assert caught.value.kind == "bad-config"


def test_thresholds_are_rounded_down_to_what_float32_can_tell() -> None:
    values = np.random.default_rng(0).normal(0, 1e3, 10_000)
    rounded = floor_float32(values)
    assert (rounded <= values).all()
    assert (rounded == rounded.astype(np.float32)).all()
    assert (np.nextafter(rounded.astype(np.float32), np.float32(np.inf)) > values).all()
    assert floor_float32(np.array([0.5]))[0] == 0.5


@pytest.mark.parametrize(
    ("module", "never"),
    [
        ("trainer.validate", ["sklearn", "pandas", "mlflow", "xgboost", "pyarrow"]),
        ("trainer.prepare", ["sklearn", "pandas", "mlflow", "xgboost", "pyarrow"]),
        ("trainer.train", ["sklearn", "pandas"]),
        ("trainer.evaluate", ["sklearn", "pandas"]),
    ],
)
def test_a_step_does_not_import_what_it_does_not_need(module: str, never: list[str]) -> None:
    code = (
        f"import sys, {module}\n"
        "from trainer import tracking\n"
        "import modelformat\n"
        + ("tracking.import_mlflow(); modelformat.import_xgboost()\n" if "mlflow" not in never else "")
        + f"print([name for name in {never!r} if name in sys.modules])"
    )
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert answer.stdout.strip() == "[]"
