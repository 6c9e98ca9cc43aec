from __future__ import annotations

import numpy as np
import onnxruntime
import pytest
from numpy.typing import NDArray
from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor

from trainer.families import onnx_export
from trainer.families.onnx_export import floor_float32


def run(model: onnx_export.onnx.ModelProto, inputs: NDArray[np.float32]) -> NDArray[np.float64]:
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    answer: NDArray[np.float64] = session.run(None, {"features": inputs})[0]
    return answer


def test_thresholds_are_rounded_down_to_what_float32_can_tell() -> None:
    values = np.random.default_rng(0).normal(0, 1e3, 10_000)
    rounded = floor_float32(values)
    assert (rounded <= values).all()
    assert (rounded == rounded.astype(np.float32)).all()
    assert (np.nextafter(rounded.astype(np.float32), np.float32(np.inf)) > values).all()
    assert floor_float32(np.array([0.5]))[0] == 0.5


def table(seed: int) -> NDArray[np.float32]:
    """Few distinct values a column, so that many rows lie exactly on a threshold's sides, and missing ones."""
    draw = np.random.default_rng(seed)
    values = draw.normal(size=(3000, 6)).round(2).astype(np.float32)
    values[draw.random(values.shape) < 0.1] = np.nan
    return values


@pytest.mark.parametrize("classes", [2, 3, 10])
def test_boosted_classes_are_exact(classes: int) -> None:
    inputs = table(classes)
    margins = np.nan_to_num(inputs[:, 0]) + np.nan_to_num(inputs[:, 1]) * np.isnan(inputs[:, 2])
    target = np.searchsorted(np.quantile(margins, np.linspace(0, 1, classes + 1)[1:-1]), margins)
    estimator = HistGradientBoostingClassifier(max_iter=30, learning_rate=0.3).fit(inputs, target)
    expected = estimator.predict_proba(inputs)
    activation: onnx_export.Activation = "two-classes" if classes == 2 else "softmax"
    answer = run(onnx_export.boosted_trees(estimator, activation), inputs)
    assert answer.shape == expected.shape
    # One row on the wrong side of one threshold would differ by far more than the rounding of the leaves.
    np.testing.assert_allclose(answer, expected, atol=1e-6)
    if classes == 2:
        one = run(onnx_export.boosted_trees(estimator, "sigmoid"), inputs)
        np.testing.assert_array_equal(one, answer[:, 1:])


@pytest.mark.parametrize("centre", [0.0, 1e9])
def test_boosted_numbers_are_exact_far_from_zero(centre: float) -> None:
    inputs = table(4)
    target = centre + np.nan_to_num(inputs[:, 0]) * 3 + np.isnan(inputs[:, 2])
    estimator = HistGradientBoostingRegressor(max_iter=30, learning_rate=0.3).fit(inputs, target)
    answer = run(onnx_export.boosted_trees(estimator, "none"), inputs)[:, 0]
    np.testing.assert_allclose(answer, estimator.predict(inputs), rtol=0, atol=1e-5)


def test_linear_is_computed_in_double_precision() -> None:
    draw = np.random.default_rng(1)
    inputs = draw.normal(size=(500, 4)).astype(np.float32)
    coefficients, intercepts = draw.normal(size=(3, 4)), np.array([1e9, 0.0, -3.0])
    answer = run(onnx_export.linear(coefficients, intercepts, "none"), inputs)
    np.testing.assert_allclose(answer, inputs.astype(np.float64) @ coefficients.T + intercepts, rtol=1e-15, atol=1e-12)
