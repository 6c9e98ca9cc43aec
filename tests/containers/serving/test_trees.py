"""XGBoost's trees as an ONNX graph give XGBoost's own answers, to the last bit."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from modelformat import Predictor, import_xgboost, predictor
from modelformat.one_row import OneRow, call_trees, call_xgboost
from modelformat.trees import UnknownTreesError, onnx_of

xgboost = import_xgboost()
TYPES = ["q", "q", "q", "c", "c"]


def table(rows: int, seed: int = 0) -> Any:
    draw = np.random.default_rng(seed)
    numbers = draw.normal(size=(rows, 3)) * [1, 1000, 1e-3]
    codes = draw.integers(0, [3, 40], (rows, 2))
    encoded = np.hstack([numbers, codes])
    encoded[draw.random(encoded.shape) < 0.1] = np.nan
    return encoded.astype(np.float32)


def target(encoded: Any, objective: str) -> Any:
    known = np.nan_to_num(encoded)
    number = known[:, 0] + known[:, 1] / 1000 + (known[:, 3] == 1) + (known[:, 4] % 7 == 2)
    if objective.startswith("reg"):
        return number * 1234.5 + 1e4
    return np.digitize(number, [0.2, 1.2]) if objective.startswith("multi") else (number > 0.7).astype(int)


def train(objective: str, rounds: int = 100, **settings: Any) -> Any:
    encoded = table(3000)
    data = xgboost.QuantileDMatrix(encoded, target(encoded, objective), feature_types=TYPES, enable_categorical=True)
    more = {"num_class": 3} if objective.startswith("multi") else {}
    params = {"objective": objective, "max_depth": 5, "eta": 0.3, "nthread": 1, **more, **settings}
    return xgboost.train(params, data, rounds)


def rows_at_the_thresholds(booster: Any) -> Any:
    """Return rows with each number where a tree splits it, and just beside."""
    rows = table(200, seed=1)
    trees = json.loads(bytes(booster.save_raw("json")))["learner"]["gradient_booster"]["model"]["trees"]
    at = 0
    for tree in trees:
        places = zip(tree["left_children"], tree["split_indices"], tree["split_conditions"], strict=True)
        for left, feature, value in places:
            if left >= 0 and TYPES[feature] == "q" and at < len(rows):
                beside = np.nextafter(np.float32(value), np.float32([-np.inf, np.inf][at % 2]))
                rows[at, feature] = value if at % 3 else beside
                at += 1
    assert at
    return rows


@pytest.mark.parametrize(
    ("objective", "settings"),
    [
        ("binary:logistic", {}),
        ("binary:logistic", {"base_score": 0.5}),
        ("binary:logistic", {"num_parallel_tree": 3, "subsample": 0.5}),
        ("binary:logistic", {"max_cat_to_onehot": 64}),
        ("binary:logistic", {"eta": 2.0}),  # margins where a probability is 0 or 1
        ("multi:softprob", {}),
        ("reg:squarederror", {}),
        ("reg:squarederror", {"max_depth": 0, "max_leaves": 40, "grow_policy": "lossguide"}),
    ],
)
def test_the_same_bits(objective: str, settings: dict[str, Any]) -> None:
    booster = train(objective, **settings)
    rows = np.vstack([rows_at_the_thresholds(booster), np.full((1, len(TYPES)), np.nan, dtype=np.float32)])
    expected = booster.inplace_predict(rows, validate_features=False).reshape(len(rows), -1).tolist()
    assert len({tuple(answer) for answer in expected}) > 10
    buffer = np.zeros((1, len(TYPES)), dtype=np.float32)
    call = call_trees(bytes(booster.save_raw("json")), buffer)
    found = []
    for row in rows:
        buffer[:] = row
        found.append(call())
    assert found == expected


@pytest.mark.parametrize(
    ("objective", "settings"),
    [("count:poisson", {}), ("multi:softprob", {"multi_strategy": "multi_output_tree"}), ("binary:hinge", {})],
)
def test_what_is_not_known_is_left_alone(objective: str, settings: dict[str, Any]) -> None:
    booster = train(objective, rounds=2, **settings)
    with pytest.raises(UnknownTreesError):
        onnx_of(bytes(booster.save_raw("json")), len(TYPES))


def test_the_fastest_way_that_answers_the_same_is_taken(xgboost_model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[str] = []
    off = 0.0

    def trees(model: bytes, buffer: Any) -> Any:
        made.append("trees")
        call = call_trees(model, buffer)
        return lambda: [number + off for number in call()]

    def direct(*arguments: Any) -> Any:
        made.append("direct")
        return call_xgboost(*arguments)

    monkeypatch.setattr(predictor, "call_trees", trees)
    monkeypatch.setattr(predictor, "call_xgboost", direct)
    for off, expected in ((0.0, ["trees"]), (1e-7, ["trees", "direct"])):  # noqa: B007  # read in `trees`
        made.clear()
        assert isinstance(Predictor.load(xgboost_model, threads=1).one_row(), OneRow)
        assert made == expected
    made.clear()
    monkeypatch.setattr(predictor, "MAX_FILE_BYTES", 1000)
    assert isinstance(Predictor.load(xgboost_model, threads=1).one_row(), OneRow)
    assert made == ["direct"]
