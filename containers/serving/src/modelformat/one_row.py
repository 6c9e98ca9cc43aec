"""One row at a time, without what an engine's Python wrapper does around it.

The answer is the same; what is left out is the wrapper's work for any number of rows: LightGBM spends 31 us on one row
through its wrapper and 8 us without, XGBoost 140 us and 40 us, and ONNX Runtime 6 us with XGBoost's trees
(`modelformat.trees`). Everything is laid out once: the row has one place in memory, and the call's arguments are made
when the model is loaded.
"""

from __future__ import annotations

import ctypes
import json
import math
import struct
from collections.abc import Callable, Sequence
from operator import itemgetter
from typing import Any

import numpy as np
from numpy.typing import NDArray

from modelformat.manifest import Feature, NumberFeature
from modelformat.onnx_session import open_session
from modelformat.trees import onnx_of

# Predicts the row in the buffer it was made with.
Call = Callable[[], list[float]]
_NUMBERS: frozenset[type] = frozenset({int, float, bool, type(None)})
_NAN = float("nan")


class OneRow:
    """Encodes and predicts single rows. Not thread-safe: there is one buffer.

    Args:
        single: a prediction is one number, the last that the engine answers (of two classes, the positive one).
    """

    def __init__(self, features: Sequence[Feature], buffer: NDArray[np.float32], call: Call, *, single: bool) -> None:
        self._single = single
        self._buffer = buffer
        self._call = call
        self._pack = struct.Struct(f"={buffer.size}f").pack_into
        numbers = [(index, feature) for index, feature in enumerate(features) if isinstance(feature, NumberFeature)]
        self._numbers = _picker([index for index, _ in numbers], len(features))
        self._imputations = [_NAN if feature.impute is None else feature.impute for _, feature in numbers]
        self._imputes = any(feature.impute is not None for _, feature in numbers)
        standards = [(feature.mean, feature.scale) for _, feature in numbers]
        self._standards = standards if any(standard != (0.0, 1.0) for standard in standards) else None
        # Encoded numbers first, then encoded categories; `_order` says which of them is where in the row.
        self._categories: list[tuple[int, dict[Any, Any]]] = []
        places: dict[int, list[int]] = {index: [place] for place, (index, _) in enumerate(numbers)}
        size = len(numbers)
        for index, feature in enumerate(features):
            if isinstance(feature, NumberFeature):
                continue
            codes: dict[Any, Any]
            if feature.encoding == "one-hot":
                count = len(feature.categories)
                codes = {name: [float(i == code) for i in range(count)] for code, name in enumerate(feature.categories)}
                codes[None] = [0.0] * count
            else:
                count = 1
                codes = {name: [float(code)] for code, name in enumerate(feature.categories)} | {None: [_NAN]}
            self._categories.append((index, codes))
            places[index] = list(range(size, size + count))
            size += count
        self._order = _picker([place for index in range(len(features)) for place in places[index]], size)

    def predict(self, values: Sequence[Any]) -> list[float] | None:
        """Predict one row.

        Args:
            values: in the order of the features; None is missing.

        Returns:
            one number, or one per class. None where `Predictor.predict` has to look: at a value that is not usual, or
            not allowed, so that there is one place that says what is wrong.
        """
        numbers: Sequence[Any] = self._numbers(values)
        if not _NUMBERS.issuperset(map(type, numbers)):
            return None
        try:
            if None in numbers or self._imputes:
                pairs = zip(numbers, self._imputations, strict=True)
                numbers = [other if value is None or value != value else value for value, other in pairs]
            if not math.isfinite(sum(numbers)) and any(map(math.isinf, numbers)):
                return None
            if self._standards is not None:
                numbers = [
                    (value - mean) / scale for value, (mean, scale) in zip(numbers, self._standards, strict=True)
                ]
            if self._categories:
                row = [*numbers]
                for index, codes in self._categories:
                    value = values[index]
                    found = codes.get(value)
                    if found is None:
                        if type(value) is not str:
                            return None
                        found = codes[None]
                    row += found
                numbers = row
            self._pack(self._buffer, 0, *self._order(numbers))
        except (OverflowError, TypeError):  # too large for 32 bits; not hashable
            return None
        answer = self._call()
        return answer[-1:] if self._single else answer


def _picker(positions: list[int], size: int) -> Callable[[Sequence[Any]], Sequence[Any]]:
    if positions == list(range(size)):
        return lambda values: values
    if len(positions) > 1:
        return itemgetter(*positions)
    return lambda values: [values[position] for position in positions]


def call_xgboost(xgboost: Any, booster: Any, buffer: NDArray[np.float32]) -> Call:
    """Return XGBoost's own prediction of the row in a buffer."""
    settings = {"type": 0, "training": False, "iteration_begin": 0, "iteration_end": 0, "strict_shape": False}
    config = json.dumps(settings | {"missing": _NAN, "cache_id": 0}).encode()
    interface = {"data": [buffer.ctypes.data, True], "shape": list(buffer.shape), "typestr": "<f4", "version": 3}
    row = json.dumps(interface | {"strides": None}).encode()
    shape, result = ctypes.POINTER(ctypes.c_uint64)(), ctypes.POINTER(ctypes.c_float)()
    dimensions = ctypes.c_uint64()
    by_reference = ctypes.byref(shape), ctypes.byref(dimensions), ctypes.byref(result)
    # A prototype of its own: the wrapper calls the same function with other types.
    prototype = ctypes.CFUNCTYPE(
        ctypes.c_int, ctypes.c_void_p, ctypes.c_char_p, ctypes.c_char_p, *[ctypes.c_void_p] * 4
    )
    function = prototype(("XGBoosterPredictFromDense", xgboost.core._LIB))
    handle = booster.handle

    def call() -> list[float]:
        if function(handle, row, config, None, *by_reference):
            raise RuntimeError("XGBoost could not predict a row")
        return result[: shape[1] if dimensions.value > 1 else 1]

    return call


def call_lightgbm(lightgbm: Any, booster: Any, buffer: NDArray[np.float32]) -> Call:
    """Return LightGBM's own prediction of the row in a buffer."""
    library, handle = lightgbm.basic._LIB, ctypes.c_void_p()
    # Arguments: normal prediction, all iterations, 32-bit floats (0).
    if library.LGBM_BoosterPredictForMatSingleRowFastInit(
        booster._handle, 0, 0, -1, 0, ctypes.c_int32(buffer.size), b"num_threads=1", ctypes.byref(handle)
    ):
        raise RuntimeError("LightGBM has no fast prediction for this model")
    result = (ctypes.c_double * booster.num_model_per_iteration())()
    length = ctypes.c_int64()
    prototype = ctypes.CFUNCTYPE(ctypes.c_int, *[ctypes.c_void_p] * 4)
    function = prototype(("LGBM_BoosterPredictForMatSingleRowFast", library))
    address, length_address = buffer.ctypes.data, ctypes.addressof(length)
    result_address = ctypes.addressof(result)

    def call() -> list[float]:
        if function(handle, address, length_address, result_address):
            raise RuntimeError("LightGBM could not predict a row")
        return result[:]

    # The row's and the result's memory, and the configuration, live as long as the call does.
    call.__dict__["keep"] = (buffer, length, booster)
    return call


def call_onnx(session: Any, feed: str, outputs: Sequence[str], buffer: NDArray[np.float32]) -> Call:
    """Return an ONNX graph's answer for the row in a buffer."""
    row = {feed: buffer}

    def call() -> list[float]:
        numbers: list[float] = session.run(outputs, row)[0].reshape(-1).tolist()
        return numbers

    return call


def call_trees(model: bytes, buffer: NDArray[np.float32]) -> Call:
    """Return the prediction of the row in a buffer by ONNX Runtime, of an XGBoost model (as its JSON)."""
    graph, finish = onnx_of(model, buffer.size)
    session = open_session(graph, 1)
    (margins,) = session.get_outputs()
    result = np.zeros(margins.shape, dtype=np.float32)
    # The addresses of both are told once; a call with arrays finds them out each time.
    binding, run = session.io_binding(), session.run_with_iobinding
    for bind, name, array in ((binding.bind_input, "row", buffer), (binding.bind_output, "margins", result)):
        bind(name, "cpu", 0, np.float32, array.shape, array.ctypes.data)

    def call() -> list[float]:
        run(binding)
        return finish(result[0].tolist())

    return call


def probe_rows(features: Sequence[Feature], rows: int = 64) -> list[list[Any]]:
    """Return rows that reach many parts of a model: numbers of all sizes, every category, missing values."""
    random = np.random.default_rng(0)
    columns: list[list[Any]] = []
    for feature in features:
        if isinstance(feature, NumberFeature):
            spread = feature.scale * 10.0 ** random.integers(-2, 5, rows)
            columns.append([*(feature.mean + spread * random.standard_normal(rows)).tolist()])
        else:
            names = [*feature.categories, "", None]
            columns.append([names[i] for i in random.integers(0, len(names), rows)])
    table = [list(row) for row in zip(*columns, strict=True)]
    for row in table[:: max(1, rows // 16)]:
        for position in np.flatnonzero(random.random(len(row)) < 0.5):
            row[position] = None
    table.append([None] * len(features))
    return table
