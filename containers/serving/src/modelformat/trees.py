"""An XGBoost model's trees as an ONNX graph, for one row at a time: ONNX Runtime takes a sixth of XGBoost's time.

Only the trees go into the graph, as one node; what comes after their sum is done here, in the same steps and with
the same 32-bit numbers as XGBoost does it, so that the answers are the same bits. `Predictor.one_row` tries that.

The few messages of ONNX's format that are needed are written here: the library that writes all of them would be
20 MB more in the image.
"""

from __future__ import annotations

import ctypes
import json
import struct
from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any

Numbers = list[float]
Finish = Callable[[Numbers], Numbers]
_LESS, _EQUAL, _LEAF = b"BRANCH_LT", b"BRANCH_EQ", b"LEAF"
# While they are translated, larger models would need hundreds of megabytes.
MAX_FILE_BYTES = 4 * 1024 * 1024
MAX_NODES = 250_000


class UnknownTreesError(ValueError):
    """The model has something that is not translated."""


def onnx_of(model: bytes, width: int) -> tuple[bytes, Finish]:
    """Return an XGBoost model's ONNX graph and what makes predictions of its answer.

    Args:
        model: as XGBoost writes it as JSON.
        width: number of encoded columns.

    Raises:
        UnknownTreesError: not only trees, or of a kind or for an objective that is not known here.
    """
    learner = json.loads(model)["learner"]
    booster, parameters = learner["gradient_booster"], learner["learner_model_param"]
    if booster["name"] != "gbtree" or int(parameters["num_target"]) != 1:
        raise UnknownTreesError(f"booster {booster['name']} of {parameters['num_target']} targets")
    objective = learner["objective"]["name"]
    if objective not in _FINISH:
        raise UnknownTreesError(f"objective {objective}")
    targets = max(1, int(parameters["num_class"]))
    base = [float(text) for text in parameters["base_score"].strip("[]").split(",")]
    if objective == "binary:logistic":
        log = _of_c("logf")
        base = [-log(_float32(1 / _float32(score)) - 1) for score in base]
    base = base * targets if len(base) == 1 else base
    nodes = _Nodes()
    for target, score in enumerate(base):  # first, because XGBoost begins its sum with them
        nodes.add_leaf(target, score)
    for tree, target in zip(booster["model"]["trees"], booster["model"]["tree_info"], strict=True):
        nodes.add(tree, target)
    return _model(nodes.attributes(targets), width, targets), _FINISH[objective]()


class _Nodes:
    """Nodes of all trees, in ONNX's lists."""

    def __init__(self) -> None:
        self._trees = 0
        self._lists: dict[str, list[Any]] = {name: [] for name in _NODE_LISTS}
        self._leaves: dict[str, list[Any]] = {name: [] for name in _LEAF_LISTS}

    def add_leaf(self, target: int, weight: float) -> None:
        """Add a tree that always answers the same."""
        self._node(0, _LEAF)
        self._leaf(0, target, weight)
        self._trees += 1

    def add(self, tree: dict[str, Any], target: int) -> None:
        """Add a tree of XGBoost's JSON; categories become a chain of comparisons with one."""
        if int(tree["tree_param"]["size_leaf_vector"]) > 1:
            raise UnknownTreesError("trees with several targets")
        lefts, rights, values = tree["left_children"], tree["right_children"], tree["split_conditions"]
        segments = zip(tree["categories_nodes"], tree["categories_segments"], tree["categories_sizes"], strict=True)
        categories = {node: tree["categories"][begin : begin + size] for node, begin, size in segments}
        extra = len(lefts)
        for node, (left, right, feature, value) in enumerate(
            zip(lefts, rights, tree["split_indices"], values, strict=True)
        ):
            if left < 0:
                self._node(node, _LEAF)
                self._leaf(node, target, value)
            elif node not in categories:
                self._node(node, _LESS, feature, value, left, right, tree["default_left"][node])
            else:
                chain = [node, *range(extra, extra + len(categories[node]) - 1), left]
                extra += len(categories[node]) - 1
                for (place, following), category in zip(pairwise(chain), categories[node], strict=True):
                    self._node(place, _EQUAL, feature, category, right, following, not tree["default_left"][node])
        self._trees += 1
        if len(self._lists["nodes_modes"]) > MAX_NODES:
            raise UnknownTreesError(f"more than {MAX_NODES} nodes")

    def _node(
        self, node: int, mode: bytes, feature: int = 0, value: float = 0.0, true: int = 0, false: int = 0,
        missing: bool = False,
    ) -> None:  # fmt: skip
        row = (self._trees, node, mode, feature, value, true, false, int(missing))
        for name, item in zip(_NODE_LISTS, row, strict=True):
            self._lists[name].append(item)

    def _leaf(self, node: int, target: int, weight: float) -> None:
        for name, item in zip(_LEAF_LISTS, (self._trees, node, target, weight), strict=True):
            self._leaves[name].append(item)

    def attributes(self, targets: int) -> dict[str, Any]:
        """Return the attributes of the ONNX node."""
        return {**self._lists, **self._leaves, "n_targets": targets, "post_transform": b"NONE"}


_NODE_LISTS = ("nodes_treeids", "nodes_nodeids", "nodes_modes", "nodes_featureids", "nodes_values",
               "nodes_truenodeids", "nodes_falsenodeids", "nodes_missing_value_tracks_true")  # fmt: skip
_LEAF_LISTS = ("target_treeids", "target_nodeids", "target_ids", "target_weights")
_FLOATS = ("nodes_values", "target_weights")


_FLOAT = struct.Struct("f")


def _float32(value: float) -> float:
    number: float = _FLOAT.unpack(_FLOAT.pack(value))[0]
    return number


def _of_c(name: str) -> Callable[[float], float]:
    # The functions that XGBoost calls; the last bit of another library's answer may be another.
    function = getattr(ctypes.CDLL(None), name)
    function.argtypes, function.restype = (ctypes.c_float,), ctypes.c_float
    found: Callable[[float], float] = function
    return found


def _logistic() -> Finish:
    exp = _of_c("expf")
    return lambda margins: [_float32(1 / _float32(1 + exp(min(-margin, 88.7)))) for margin in margins]


def _softmax() -> Finish:
    exp = _of_c("expf")

    def finish(margins: Numbers) -> Numbers:
        most = max(margins)
        powers = [exp(margin - most) for margin in margins]
        total = _float32(sum(powers))
        return [_float32(power / total) for power in powers]

    return finish


_FINISH: dict[str, Callable[[], Finish]] = {
    "binary:logistic": _logistic,
    "multi:softprob": _softmax,
    "reg:squarederror": lambda: lambda margins: margins,
}


# Protocol buffers, as far as ONNX's messages need them. The numbers are those of onnx.proto.


def _varint(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*out, value])


def _field(number: int, value: int | bytes) -> bytes:
    if isinstance(value, int):
        return _varint(number << 3) + _varint(value)
    return _varint(number << 3 | 2) + _varint(len(value)) + value


def _attribute(name: str, value: Any) -> bytes:
    if isinstance(value, int):
        content, kind = _field(3, value), 2
    elif isinstance(value, bytes):
        content, kind = _field(4, value), 3
    elif name in _FLOATS:
        content, kind = _field(7, struct.pack(f"<{len(value)}f", *value)), 6
    elif name == "nodes_modes":
        content, kind = b"".join(_field(9, item) for item in value), 8
    else:
        content, kind = _field(8, b"".join(map(_varint, value))), 7
    return _field(1, name.encode()) + content + _field(20, kind)


def _matrix(name: bytes, columns: int) -> bytes:
    shape = _field(1, _field(1, 1)) + _field(1, _field(1, columns))
    return _field(1, name) + _field(2, _field(1, _field(1, 1) + _field(2, shape)))  # 1: 32-bit floats


def _model(attributes: dict[str, Any], width: int, targets: int) -> bytes:
    node = _field(1, b"row") + _field(2, b"margins") + _field(4, b"TreeEnsembleRegressor")
    node += b"".join(_field(5, _attribute(name, value)) for name, value in attributes.items())
    node += _field(7, b"ai.onnx.ml")
    graph = _field(1, node) + _field(2, b"trees")
    graph += _field(11, _matrix(b"row", width)) + _field(12, _matrix(b"margins", targets))
    operators: Sequence[tuple[bytes, int]] = ((b"", 17), (b"ai.onnx.ml", 3))
    versions = b"".join(_field(8, _field(1, domain) + _field(2, version)) for domain, version in operators)
    return _field(1, 8) + _field(7, graph) + versions
