"""scikit-learn estimators as ONNX graphs that give the estimator's own answers.

Only what the family ``sklearn`` trains, and exactly: a general converter (skl2onnx 1.20) fails on boosted
trees with today's protobuf, and rounds their thresholds to the nearest float32, which can send a row the
other way. Operators: https://onnx.ai/onnx/operators/
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    import onnx

INPUT = "features"
OUTPUT = "prediction"

Activation = Literal["none", "sigmoid", "two-classes", "softmax"]
"""What makes an answer of margins: numbers (rows, 1) as they are, probabilities (rows, 1) of the second of two classes,
probabilities (rows, 2) of both, or probabilities (rows, classes)."""


def linear(coefficients: NDArray[Any], intercepts: NDArray[Any], activation: Activation) -> onnx.ModelProto:
    """Convert a linear model, computed in double precision.

    Args:
        coefficients: (margins, columns).
        intercepts: (margins,).
    """
    from onnx import TensorProto, helper, numpy_helper

    weights = numpy_helper.from_array(np.ascontiguousarray(coefficients.T, dtype=np.float64), "weights")
    bias = numpy_helper.from_array(np.asarray(intercepts, dtype=np.float64), "bias")
    nodes = [
        helper.make_node("Cast", [INPUT], ["exact"], to=TensorProto.DOUBLE),
        helper.make_node("Gemm", ["exact", "weights", "bias"], ["margin"]),
    ]
    return _model(nodes, coefficients.shape[1], [weights, bias], activation)


def boosted_trees(estimator: Any, activation: Activation) -> onnx.ModelProto:
    """Convert a fitted HistGradientBoostingClassifier or -Regressor without categorical splits."""
    from onnx import TensorProto, helper, numpy_helper

    trees = [tree.nodes for stage in estimator._predictors for tree in stage]
    margins = len(estimator._predictors[0])
    nodes = np.concatenate(trees)
    sizes = [len(tree) for tree in trees]
    tree_ids = np.repeat(np.arange(len(trees)), sizes)
    node_ids = np.concatenate([np.arange(size) for size in sizes])
    leaf = nodes["is_leaf"].astype(bool)

    def inner(values: NDArray[Any]) -> list[int]:
        """Return an attribute of the nodes, zero at leaves (where scikit-learn leaves it undefined)."""
        zeroed: list[int] = np.where(leaf, 0, values).astype(np.int64).tolist()
        return zeroed

    ensemble = helper.make_node(
        "TreeEnsembleRegressor",
        [INPUT],
        ["sums"],
        domain="ai.onnx.ml",
        n_targets=margins,
        aggregate_function="SUM",
        post_transform="NONE",
        nodes_treeids=tree_ids.tolist(),
        nodes_nodeids=node_ids.tolist(),
        nodes_modes=np.where(leaf, "LEAF", "BRANCH_LEQ").tolist(),
        nodes_featureids=inner(nodes["feature_idx"]),
        nodes_values=np.where(leaf, 0.0, floor_float32(nodes["num_threshold"])).tolist(),
        nodes_truenodeids=inner(nodes["left"]),
        nodes_falsenodeids=inner(nodes["right"]),
        nodes_missing_value_tracks_true=inner(nodes["missing_go_to_left"]),
        target_treeids=tree_ids[leaf].tolist(),
        target_nodeids=node_ids[leaf].tolist(),
        target_ids=(tree_ids[leaf] % margins).tolist(),
        target_weights=nodes["value"][leaf].tolist(),
    )
    # Added in double precision: a target far from 0 would leave few of 32 bits to what the trees say.
    baseline = numpy_helper.from_array(estimator._baseline_prediction.reshape(1, -1).astype(np.float64), "baseline")
    steps = [
        ensemble,
        helper.make_node("Cast", ["sums"], ["exact"], to=TensorProto.DOUBLE),
        helper.make_node("Add", ["exact", "baseline"], ["margin"]),
    ]
    return _model(steps, estimator.n_features_in_, [baseline], activation)


def floor_float32(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the largest float32 not above each value.

    For every float32 ``x``, ``x <= value`` holds exactly where ``x <= floor_float32(value)`` does.
    """
    with np.errstate(over="ignore"):
        nearest = values.astype(np.float32)
    lower = np.nextafter(nearest, np.float32(-np.inf))
    return np.where(nearest.astype(np.float64) > values, lower, nearest).astype(np.float64)


def _activate(activation: Activation) -> tuple[list[Any], list[Any]]:
    """Return the nodes from ``margin`` to the output, and their constants."""
    from onnx import helper, numpy_helper

    if activation == "none":
        return [helper.make_node("Identity", ["margin"], [OUTPUT])], []
    if activation == "sigmoid":
        return [helper.make_node("Sigmoid", ["margin"], [OUTPUT])], []
    if activation == "softmax":
        return [helper.make_node("Softmax", ["margin"], [OUTPUT], axis=1)], []
    nodes = [
        helper.make_node("Sigmoid", ["margin"], ["second"]),
        helper.make_node("Sub", ["one", "second"], ["first"]),
        helper.make_node("Concat", ["first", "second"], [OUTPUT], axis=1),
    ]
    return nodes, [numpy_helper.from_array(np.ones((1, 1)), "one")]


def _model(nodes: list[Any], width: int, constants: list[Any], activation: Activation) -> onnx.ModelProto:
    from onnx import TensorProto, checker, helper

    last, more = _activate(activation)
    graph = helper.make_graph(
        [*nodes, *last],
        "model",
        [helper.make_tensor_value_info(INPUT, TensorProto.FLOAT, [None, width])],
        [helper.make_tensor_value_info(OUTPUT, TensorProto.DOUBLE, [None, None])],
        [*constants, *more],
    )
    # Fixed versions: what a model needs to run must not depend on the library that happened to write it.
    model = helper.make_model(
        graph,
        opset_imports=[helper.make_opsetid("", 18), helper.make_opsetid("ai.onnx.ml", 3)],
        ir_version=9,
        producer_name="trainer",
    )
    checker.check_model(model)
    return model
