"""From named columns to the matrix a model takes: the one transformation of training, evaluation and serving."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from modelformat.manifest import CategoryFeature, Feature, NumberFeature

Column = Sequence[Any] | NDArray[Any]

_NAN = float("nan")
_NUMBERS: frozenset[type] = frozenset({int, float, bool, type(None)})


class InputError(ValueError):
    """A value cannot be encoded; the message names row (from 0) and column."""

    def __init__(self, problem: str, *, column: str, row: int | None = None) -> None:
        where = f"column {column!r}" if row is None else f"row {row}, column {column!r}"
        super().__init__(f"{where}: {problem}")
        self.column = column
        self.row = row


def describe(value: Any) -> str:
    """Name a value's type and, shortened, the value."""
    kinds: dict[type, str] = {str: "text", list: "a list", dict: "an object", bool: "a boolean"}
    text = repr(value)
    return f"{kinds.get(type(value), type(value).__name__)} {text if len(text) <= 40 else text[:37] + '...'}"


def width(features: Sequence[Feature]) -> int:
    """Return the number of encoded columns."""
    return sum(_width(feature) for feature in features)


def feature_types(features: Sequence[Feature]) -> list[str]:
    """Return XGBoost's type of each encoded column: ``c`` for category codes, ``q`` for anything else."""
    types: list[str] = []
    for feature in features:
        coded = isinstance(feature, CategoryFeature) and feature.encoding == "code"
        types += ["c" if coded else "q"] * _width(feature)
    return types


def encode(features: Sequence[Feature], columns: Mapping[str, Column]) -> NDArray[np.float32]:
    """Encode columns by name; see `Encoder`."""
    return Encoder(features).encode(columns)


def _width(feature: NumberFeature | CategoryFeature) -> int:
    if isinstance(feature, CategoryFeature) and feature.encoding == "one-hot":
        return len(feature.categories)
    return 1


class Encoder:
    """Encodes columns by name into a float32 matrix (rows, width), features in their order.

    * number: a missing value (None, NaN) becomes ``impute`` or stays NaN; then ``(x - mean) / scale``, in float64.
    * category as code: its position in ``categories``; NaN when missing or unknown.
    * category one-hot: a column per category; all zeros when missing or unknown.
    """

    def __init__(self, features: Sequence[Feature]) -> None:
        self.features = list(features)
        self.names = [feature.name for feature in features]
        self.width = width(features)
        self._numbers: list[NumberFeature] = []
        self._categories: list[tuple[CategoryFeature, int, dict[Any, float]]] = []
        positions: list[int] = []
        position = 0
        for feature in features:
            if isinstance(feature, NumberFeature):
                self._numbers.append(feature)
                positions.append(position)
            else:
                codes: dict[Any, float] = {name: float(code) for code, name in enumerate(feature.categories)}
                self._categories.append((feature, position, codes))
            position += _width(feature)
        self._positions = np.array(positions, dtype=np.intp)
        # A slice is written ten times faster than a list of positions:
        contiguous = positions == list(range(len(positions)))
        self._target: Any = slice(0, len(positions)) if contiguous else self._positions
        self._impute = np.array([_NAN if n.impute is None else n.impute for n in self._numbers])
        self._imputes = bool(np.isfinite(self._impute).any())
        self._mean = np.array([n.mean for n in self._numbers])
        self._scale = np.array([n.scale for n in self._numbers])
        self._standardises = bool((self._mean != 0).any() or (self._scale != 1).any())

    def encode(self, columns: Mapping[str, Column]) -> NDArray[np.float32]:
        """Encode columns: sequences or one-dimensional arrays of one length, by feature name.

        Raises:
            InputError: a column is missing, has another length than the first, or holds a value of the wrong type.
        """
        for name in self.names:
            if name not in columns:
                raise InputError("missing", column=name)
        rows = len(columns[self.names[0]])
        for name in self.names:
            if len(columns[name]) != rows:
                raise InputError(f"{len(columns[name])} values where {self.names[0]!r} has {rows}", column=name)
        encoded = np.empty((rows, self.width), dtype=np.float32)
        if self._numbers:
            self._encode_numbers(columns, rows, encoded)
        for feature, position, codes in self._categories:
            _encode_category(feature, position, codes, columns[feature.name], encoded)
        return encoded

    def _encode_numbers(self, columns: Mapping[str, Column], rows: int, encoded: NDArray[np.float32]) -> None:
        # Column-major: each column is filled in one go.
        block = np.empty((rows, len(self._numbers)), dtype=np.float64, order="F")
        for index, feature in enumerate(self._numbers):
            block[:, index] = _numbers(columns[feature.name], feature.name)
        if self._imputes:
            np.copyto(block, self._impute, where=np.isnan(block))
        if self._standardises:
            block -= self._mean
            block /= self._scale
        with np.errstate(over="ignore"):  # reported below, with row and column
            encoded[:, self._target] = block
        infinite = np.isinf(encoded[:, self._target])
        if infinite.any():
            row, index = (int(found[0]) for found in np.nonzero(infinite))
            raise InputError("not a finite number of 32 bits", column=self._numbers[index].name, row=row)


def _numbers(values: Column, name: str) -> Column:
    """Return values that numpy turns into float64 (None into NaN) without reading numbers out of text."""
    if isinstance(values, np.ndarray):
        if values.ndim == 1 and values.dtype.kind in "biuf":
            return values
        values = values.tolist()
    if not _NUMBERS.issuperset(map(type, values)):
        for row, value in enumerate(values):
            if type(value) not in _NUMBERS and not isinstance(value, int | float | np.number | np.bool_):
                raise InputError(f"expected a number or null, got {describe(value)}", column=name, row=row)
    return values


def _encode_category(
    feature: CategoryFeature, position: int, known: dict[Any, float], values: Column, encoded: NDArray[np.float32]
) -> None:
    if isinstance(values, np.ndarray):
        values = values.tolist()
    codes: list[float | None]
    try:
        codes = list(map(known.get, values))
    except TypeError:  # a list or an object cannot be looked up
        codes = [None] * len(values)
    if None in codes:
        # What was not found must be missing or an unseen text. A number here is a mistake, not a new category.
        for row, code in enumerate(codes):
            if code is None and not _is_text_or_missing(values[row]):
                problem = f"expected text or null, got {describe(values[row])}"
                raise InputError(problem, column=feature.name, row=row)
    if feature.encoding == "code":
        encoded[:, position] = codes  # None becomes NaN
        return
    span = encoded[:, position : position + len(feature.categories)]
    span[:] = 0.0
    array = np.array(codes, dtype=np.float64)
    rows = np.flatnonzero(~np.isnan(array))
    span[rows, array[rows].astype(np.intp)] = 1.0


def _is_text_or_missing(value: Any) -> bool:
    return value is None or isinstance(value, str) or (isinstance(value, float) and math.isnan(value))
