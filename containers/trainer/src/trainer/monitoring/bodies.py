"""Captured bodies to columns and predictions.

What is captured was answered, so the server took it; here it is only read back, and what cannot be is one message.
"""

from __future__ import annotations

import csv
import json
import tempfile
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from trainer import sql

if TYPE_CHECKING:
    import duckdb

Columns = dict[str, Sequence[Any]]

LONGEST_VERSION = 18
"""Digits; what is longer is no version of MLflow's."""


class Malformed(ValueError):
    """A captured line or body cannot be read; the message says why, without quoting data."""


def media_type(content_type: str) -> str:
    """Return a content type without its parameters; JSON where there is none, as the server has it."""
    return content_type.partition(";")[0].strip().lower() or "application/json"


def columns(content_type: str, body: bytes, names: Sequence[str]) -> Columns:
    """Return the features of a request by name, each with a value per row, None where missing.

    Args:
        content_type: as it was observed.
        body: JSON in any shape that the server takes, JSON lines, CSV with a header line, or a Parquet file.
        names: the features.

    Raises:
        Malformed: it is of another type, is no such document, or lacks a feature.
    """
    kind = media_type(content_type)
    if kind == "application/json":
        found = _of_json(_json(body))
    elif kind in ("application/jsonlines", "application/x-ndjson"):
        found = _of_records([_json(line) for line in body.splitlines() if line.strip()])
    elif kind == "text/csv":
        found = _of_csv(body)
    elif kind in ("application/vnd.apache.parquet", "application/x-parquet"):
        found = _of_parquet(body, names)
    else:
        raise Malformed(f"requests of type {kind[:60]} are not read")
    if absent := [name for name in names if name not in found]:
        raise Malformed(f"the request has no feature {absent[0]!r}")
    rows = {len(found[name]) for name in names}
    if len(rows) != 1 or not min(rows):
        raise Malformed("the request's features are not of one length, or there is no row")
    for name in names:
        if any(isinstance(value, list | dict) for value in found[name]):
            raise Malformed(f"the request's feature {name!r} is neither numbers nor texts")
    return {name: found[name] for name in names}


def predictions(content_type: str, body: bytes) -> tuple[NDArray[np.float64], str | None]:
    """Return the predictions of an answer, (rows,) or (rows, classes), and the model version that it names.

    Raises:
        Malformed: it is neither a JSON nor a CSV answer of the server.
    """
    kind = media_type(content_type)
    version = None
    values: Any
    if kind == "application/json":
        content = _json(body)
        if not isinstance(content, Mapping) or not isinstance(content.get("predictions"), list):
            raise Malformed("the answer has no predictions")
        values = content["predictions"]
        model = content.get("model")
        named = str(model.get("version")) if isinstance(model, Mapping) else ""
        version = named if named.isascii() and named.isdigit() and len(named) <= LONGEST_VERSION else None
    elif kind == "text/csv":
        lines = [line.split(",") for line in _text(body).splitlines() if line.strip()]
        values = [line[0] if len(line) == 1 else line for line in lines]
    else:
        raise Malformed(f"answers of type {kind[:60]} are not read")
    try:
        numbers = np.asarray(values, dtype=np.float64)
    except (TypeError, ValueError, OverflowError):
        raise Malformed("the answer's predictions are not numbers") from None
    if numbers.ndim not in (1, 2) or not len(numbers):
        raise Malformed("the answer has no prediction per row")
    return numbers, version


def _text(body: bytes) -> str:
    try:
        return body.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise Malformed("the body is not UTF-8") from None


def _json(body: bytes) -> Any:
    try:
        return json.loads(body)
    except (ValueError, RecursionError):
        raise Malformed("the body is not JSON") from None


def _of_json(content: Any) -> Columns:
    if isinstance(content, Mapping):
        for shape in ("instances", "dataframe_records", "inputs"):
            value = content.get(shape)
            if isinstance(value, list):
                return _of_records(value)
            if isinstance(value, Mapping) and all(isinstance(one, list) for one in value.values()):
                return dict(value)
        split = content.get("dataframe_split", content)
        if isinstance(split, Mapping) and isinstance(split.get("columns"), list):
            names, data = split["columns"], split.get("data")
            if isinstance(data, list) and all(isinstance(row, list) and len(row) == len(names) for row in data):
                return dict(zip(map(str, names), zip(*data, strict=True), strict=True)) if data else {}
    raise Malformed("the request is in none of the JSON shapes that the server takes")


def _of_records(records: list[Any]) -> Columns:
    if not records or not all(isinstance(record, Mapping) for record in records):
        raise Malformed("the request's rows are not objects with features")
    names = records[0].keys()
    if any(record.keys() != names for record in records):
        raise Malformed("the request's rows do not have the same features")
    return {name: [record[name] for record in records] for name in names}


def _of_csv(body: bytes) -> Columns:
    try:
        lines = [line for line in csv.reader(_text(body).splitlines(keepends=True), strict=True) if line]
    except csv.Error:
        raise Malformed("the body is not CSV") from None
    if len(lines) < 2 or any(len(line) != len(lines[0]) for line in lines):
        raise Malformed("the CSV has no row, or rows of another length than its header")
    names, *data = lines
    return {
        name: [value or None for value in values] for name, values in zip(names, zip(*data, strict=True), strict=True)
    }


def _of_parquet(body: bytes, names: Sequence[str]) -> Columns:
    """Read with DuckDB, which reads files only; what is not a feature is not unpacked."""
    import duckdb

    connection = _duckdb()
    with tempfile.NamedTemporaryFile(suffix=".parquet") as file:
        file.write(body)
        file.flush()
        source = sql.files([Path(file.name)])
        try:
            there = {str(row[0]) for row in connection.execute(f"describe from {source}").fetchall()}
            wanted = [name for name in names if name in there]
            if not wanted:
                return {}
            rows = connection.execute(f"select {', '.join(map(sql.identifier, wanted))} from {source}").fetchall()
        except duckdb.Error:
            raise Malformed("the body is not a Parquet file") from None
    return dict(zip(wanted, zip(*rows, strict=True), strict=True)) if rows else dict.fromkeys(wanted, ())


@cache
def _duckdb() -> duckdb.DuckDBPyConnection:
    """Return one connection for all bodies: to open one takes longer than to read most of them."""
    return sql.connect(Path(tempfile.gettempdir()))
