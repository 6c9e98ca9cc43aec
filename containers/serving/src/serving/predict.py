"""From a request's body to the answer's. A few rows take a fast path; what they answer is the same."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from operator import itemgetter
from typing import Any

import orjson

from modelformat import InputError, NumberFeature
from serving import payloads
from serving.columns import Columns
from serving.errors import bad
from serving.model import Model

# Up to here a row at a time is faster than all at once.
FEW_ROWS = 4
KNOWN_HEADERS = 32


class Answers:
    """Answers of a model. The fast path is for one thread only: the one of the event loop."""

    def __init__(self, model: Model, max_decoded_bytes: int) -> None:
        self._predictor = model.predictor
        self._encoder = model.predictor.encoder
        self._max_decoded_bytes = max_decoded_bytes
        self._classes = model.classes
        self._identity = orjson.Fragment(orjson.dumps(model.identity))
        self._one_row = model.one_row
        self._row_of = _values_of(self._encoder.names)
        # By a header, a line of CSV or a tuple of names: what puts a row's values in order.
        self._orders: dict[str | tuple[Any, ...], Callable[[Sequence[Any]], Sequence[Any]]] = {}
        self._is_number = [isinstance(feature, NumberFeature) for feature in self._encoder.features]

    def answer(self, body_type: str, answer_type: str, body: bytes, *, fast: bool) -> tuple[int, bytes]:
        """Return the number of rows and the body of the answer.

        Args:
            fast: this is the one thread that may take the fast path.

        Raises:
            RequestError: 400 or 413; see `payloads.parse`.
        """
        predictions = self._few(body_type, body) if fast and self._one_row is not None else None
        if predictions is None:
            columns = payloads.parse(body_type, body, self._encoder, self._max_decoded_bytes)
            predictions = self._many(columns)
        return len(predictions), payloads.render(answer_type, predictions, self._identity, self._classes)

    def _many(self, columns: Columns) -> list[Any]:
        try:
            return self._predictor.predict(columns).tolist()
        except InputError as error:
            raise bad(str(error)) from None

    def _few(self, body_type: str, body: bytes) -> list[Any] | None:
        """Return the predictions of a few ordinary rows, None where the slow path has to look."""
        if body_type == payloads.JSON:
            content = payloads.load_json(body)
            rows = self._json_rows(content)
            if rows is None:
                return self._many(payloads.from_json(content, self._encoder))  # not to be read twice
            return self._predict(rows) or self._many(payloads.from_json(content, self._encoder))
        if body_type == payloads.CSV:
            row = self._csv_row(body)
            return None if row is None else self._predict([row])
        return None

    def _predict(self, rows: Sequence[Sequence[Any]]) -> list[Any] | None:
        assert self._one_row is not None
        predictions: list[Any] = []
        for row in rows:
            prediction = self._one_row.predict(row)
            if prediction is None:
                return None
            predictions.append(prediction if self._classes is not None else prediction[0])
        return predictions

    def _json_rows(self, content: Any) -> list[Sequence[Any]] | None:
        if type(content) is not dict or len(content) != 1:
            return None
        rows = content.get("instances") or content.get("dataframe_records")
        if rows is None:
            return self._split_rows(content.get("dataframe_split"))
        if type(rows) is not list or len(rows) > FEW_ROWS:
            return None
        found = []
        for row in rows:
            # Every feature is in it and it has as many values: it has nothing else.
            if type(row) is not dict or len(row) != len(self._is_number):
                return None
            try:
                found.append(self._row_of(row))
            except KeyError:
                return None
        return found

    def _split_rows(self, split: Any) -> list[Sequence[Any]] | None:
        if type(split) is not dict or not split.keys() <= {"columns", "data", "index"}:
            return None
        names, rows = split.get("columns"), split.get("data")
        if type(names) is not list or type(rows) is not list or not 0 < len(rows) <= FEW_ROWS:
            return None
        try:
            in_order = self._order(tuple(names), names)
        except TypeError:  # not texts
            return None
        if in_order is None or any(type(row) is not list or len(row) != len(names) for row in rows):
            return None
        return [in_order(row) for row in rows]

    def _order(
        self, header: str | tuple[Any, ...], names: Sequence[str]
    ) -> Callable[[Sequence[Any]], Sequence[Any]] | None:
        """Return what puts the values below a header in the features' order, None if these are not the features."""
        found = self._orders.get(header)
        if found is None and len(self._orders) < KNOWN_HEADERS and sorted(names) == sorted(self._encoder.names):
            found = self._orders[header] = _values_at([names.index(name) for name in self._encoder.names])
        return found

    def _csv_row(self, body: bytes) -> Sequence[Any] | None:
        try:
            text = body.decode()
        except UnicodeDecodeError:
            return None
        if '"' in text or "\r" in text:
            return None
        header, _, line = text.partition("\n")
        line = line.removesuffix("\n")
        # Whatever else ends a line for the slow path is left to it.
        if not line or len(line.splitlines()) != 1:
            return None
        in_order = self._order(header, header.split(","))
        if in_order is None:
            return None
        values = line.split(",")
        if len(values) != len(self._is_number):
            return None
        try:
            pairs = zip(in_order(values), self._is_number, strict=True)
            return [(float(value) if number else value) if value else None for value, number in pairs]
        except ValueError:
            return None


def _values_of(names: Sequence[str]) -> Callable[[dict[str, Any]], Sequence[Any]]:
    if len(names) > 1:
        return itemgetter(*names)
    return lambda row: [row[names[0]]]


def _values_at(positions: Sequence[int]) -> Callable[[Sequence[Any]], Sequence[Any]]:
    if len(positions) > 1:
        return itemgetter(*positions)
    return lambda values: [values[positions[0]]]
