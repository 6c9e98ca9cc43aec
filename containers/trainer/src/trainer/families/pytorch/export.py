"""The network as an ONNX graph: the same operations on the same weights. Operators: https://onnx.ai/onnx/operators/

Written by hand, since torch.onnx brings onnxscript along, and would write a graph of its own making for what is a
dozen operators. Dropout is not in it; missing and unknown categories (NaN) are handled inside.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from mlplatform.config.base import TaskKind
from trainer.families.pytorch.network import EPSILON, LIMIT, Shape

if TYPE_CHECKING:
    import onnx

INPUT = "features"
OUTPUT = "prediction"


class _Graph:
    """Nodes and constants as they come; a tensor's name is its own."""

    def __init__(self) -> None:
        self.nodes: list[Any] = []
        self.constants: list[Any] = []

    def constant(self, name: str, values: NDArray[Any]) -> str:
        from onnx import numpy_helper

        self.constants.append(numpy_helper.from_array(np.ascontiguousarray(values), name))
        return name

    def add(self, operator: str, inputs: list[str], output: str, **attributes: Any) -> str:
        from onnx import helper

        self.nodes.append(helper.make_node(operator, inputs, [output], **attributes))
        return output


def network(
    kind: TaskKind,
    shape: Shape,
    weights: Mapping[str, NDArray[np.float32]],
    width: int,
    target_scale: tuple[float, float],
) -> onnx.ModelProto:
    """Write a network.

    Args:
        weights: by name, see `network.Layout`.
        width: columns of the encoded matrix.
        target_scale: centre and scale of a regression's target.

    Returns:
        A graph from ``features`` float32 (rows, width), as `modelformat.Encoder` gives it, to ``prediction``: float32
        (rows,) or (rows, classes) of probabilities, or float64 (rows,) of numbers.
    """
    from onnx import TensorProto, helper

    graph = _Graph()
    units = _inputs(graph, shape, weights)
    gain = graph.constant("gain", np.ones(shape.width, dtype=np.float32))
    for layer in range(shape.layers):
        weight = graph.constant(f"weight.{layer}", weights[f"weight.{layer}"])
        bias, shift = (graph.constant(f"{name}.{layer}", weights[f"{name}.{layer}"][0]) for name in ("bias", "shift"))
        linear = graph.add("Gemm", [units, weight, bias], f"linear.{layer}")
        normed = graph.add("LayerNormalization", [linear, gain, shift], f"normed.{layer}", axis=-1, epsilon=EPSILON)
        units = graph.add("Relu", [normed], f"units.{layer}")
    answer = graph.add(
        "Gemm",
        [
            units,
            graph.constant("weight.out", weights["weight.out"]),
            graph.constant("bias.out", weights["bias.out"][0]),
        ],
        "answer",
    )
    _output(graph, kind, answer, target_scale)
    types = {"regression": TensorProto.DOUBLE}
    dimensions: list[int | str] = ["rows", shape.outputs] if kind == "multiclass" else ["rows"]
    return _model(
        graph,
        [helper.make_tensor_value_info(INPUT, TensorProto.FLOAT, ["rows", width])],
        [helper.make_tensor_value_info(OUTPUT, types.get(kind, TensorProto.FLOAT), dimensions)],
    )


def _inputs(graph: _Graph, shape: Shape, weights: Mapping[str, NDArray[np.float32]]) -> str:
    """Add what enters the first layer: numbers, then the embeddings table by table."""
    pieces: list[str] = []
    inputs = shape.inputs
    if inputs.numbers:
        positions = graph.constant("numbers.positions", np.array(inputs.numbers, dtype=np.int64))
        numbers = graph.add("Gather", [INPUT, positions], "numbers.all", axis=1)
        ends = [graph.constant(f"limit.{end}", np.array(end * LIMIT, dtype=np.float32)) for end in (-1, 1)]
        pieces.append(graph.add("Clip", [numbers, *ends], "numbers"))
    for group in shape.groups:
        name = f"embedding.{group.width}"
        columns = np.array([inputs.categories[feature] for feature in group.features], dtype=np.int64)
        codes = graph.add("Gather", [INPUT, graph.constant(f"{name}.positions", columns)], f"{name}.codes", axis=1)
        missing = graph.add("IsNaN", [codes], f"{name}.missing")
        # Row 0 of a feature is that of missing and unknown values.
        next_row = graph.add(
            "Add", [codes, graph.constant(f"{name}.one", np.array(1.0, dtype=np.float32))], f"{name}.next"
        )
        zero = graph.constant(f"{name}.zero", np.array(0.0, dtype=np.float32))
        known = graph.add("Where", [missing, zero, next_row], f"{name}.known")
        whole = graph.add("Cast", [known], f"{name}.whole", to=7)  # int64
        offsets = graph.constant(f"{name}.offsets", np.array(group.offsets, dtype=np.int64))
        rows = graph.add("Add", [whole, offsets], f"{name}.rows")
        found = graph.add("Gather", [graph.constant(name, weights[name]), rows], f"{name}.found", axis=0)
        flat = graph.constant(f"{name}.flat", np.array([-1, group.width * len(group.features)], dtype=np.int64))
        pieces.append(graph.add("Reshape", [found, flat], f"{name}.units"))
    return graph.add("Concat", pieces, "inputs", axis=1) if len(pieces) > 1 else pieces[0]


def _output(graph: _Graph, kind: TaskKind, answer: str, target_scale: tuple[float, float]) -> None:
    if kind == "multiclass":
        graph.add("Softmax", [answer], OUTPUT, axis=1)
        return
    flat = graph.add("Reshape", [answer, graph.constant("flat", np.array([-1], dtype=np.int64))], "flat.answer")
    if kind == "binary":
        graph.add("Sigmoid", [flat], OUTPUT)
        return
    # In float64: a target far from zero has more digits than float32 holds.
    centre, scale = target_scale
    exact = graph.add("Cast", [flat], "exact", to=11)  # float64
    scaled = graph.add("Mul", [exact, graph.constant("target.scale", np.array(scale))], "scaled")
    graph.add("Add", [scaled, graph.constant("target.centre", np.array(centre))], OUTPUT)


def _model(graph: _Graph, inputs: list[Any], outputs: list[Any]) -> onnx.ModelProto:
    from onnx import checker, helper

    # Fixed versions: what a model needs to run must not depend on the library that happened to write it.
    model = helper.make_model(
        helper.make_graph(graph.nodes, "model", inputs, outputs, graph.constants),
        opset_imports=[helper.make_opsetid("", 18)],
        ir_version=9,
        producer_name="trainer",
    )
    checker.check_model(model)
    return model
