"""scikit-learn estimators as ONNX graphs that give the estimator's own probabilities.

Only what the family ``sklearn`` trains, and exactly: a general converter (skl2onnx 1.20) fails on boosted
trees with today's protobuf, and rounds their thresholds to the nearest float32, which can send a row the
other way. Operators: https://onnx.ai/onnx/operators/
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    import onnx

INPUT = "features"
OUTPUT = "probability"


def logistic_regression(estimator: Any) -> onnx.ModelProto:
    """Convert a fitted binary LogisticRegression."""
    from onnx import helper, numpy_helper

    weights = numpy_helper.from_array(estimator.coef_.reshape(-1, 1).astype(np.float32), "weights")
    bias = numpy_helper.from_array(estimator.intercept_.reshape(1).astype(np.float32), "bias")
    nodes = [
        helper.make_node("Gemm", [INPUT, "weights", "bias"], ["margin"]),
        helper.make_node("Sigmoid", ["margin"], [OUTPUT]),
    ]
    return _model(nodes, estimator.n_features_in_, [weights, bias])


def boosted_trees(estimator: Any) -> onnx.ModelProto:
    """Convert a fitted binary HistGradientBoostingClassifier without categorical splits."""
    from onnx import helper

    trees = [stage[0].nodes for stage in estimator._predictors]
    nodes = np.concatenate(trees)
    tree_ids = np.repeat(np.arange(len(trees)), [len(tree) for tree in trees])
    node_ids = np.concatenate([np.arange(len(tree)) for tree in trees])
    leaf = nodes["is_leaf"].astype(bool)

    def inner(values: NDArray[Any]) -> list[int]:
        """Return an attribute of the nodes, zero at leaves (where scikit-learn leaves it undefined)."""
        zeroed: list[int] = np.where(leaf, 0, values).astype(np.int64).tolist()
        return zeroed

    ensemble = helper.make_node(
        "TreeEnsembleRegressor",
        [INPUT],
        ["margin"],
        domain="ai.onnx.ml",
        n_targets=1,
        aggregate_function="SUM",
        post_transform="NONE",
        base_values=[float(np.ravel(estimator._baseline_prediction)[0])],
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
        target_ids=[0] * int(leaf.sum()),
        target_weights=nodes["value"][leaf].tolist(),
    )
    return _model([ensemble, helper.make_node("Sigmoid", ["margin"], [OUTPUT])], estimator.n_features_in_, [])


def floor_float32(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the largest float32 not above each value.

    For every float32 ``x``, ``x <= value`` holds exactly where ``x <= floor_float32(value)`` does.
    """
    with np.errstate(over="ignore"):
        nearest = values.astype(np.float32)
    lower = np.nextafter(nearest, np.float32(-np.inf))
    return np.where(nearest.astype(np.float64) > values, lower, nearest).astype(np.float64)


def _model(nodes: list[Any], width: int, initializers: list[Any]) -> onnx.ModelProto:
    from onnx import TensorProto, checker, helper

    graph = helper.make_graph(
        nodes,
        "model",
        [helper.make_tensor_value_info(INPUT, TensorProto.FLOAT, [None, width])],
        [helper.make_tensor_value_info(OUTPUT, TensorProto.FLOAT, [None, 1])],
        initializers,
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
