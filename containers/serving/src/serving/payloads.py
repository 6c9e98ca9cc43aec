"""Request bodies to columns, predictions to response bodies. Pure functions."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from typing import Any

import orjson

from modelformat import Encoder, NumberFeature
from modelformat.transform import describe
from serving.columns import Columns, check_names, unknown
from serving.errors import RequestError, bad

JSON = "application/json"
JSON_LINES = "application/jsonlines"
CSV = "text/csv"
PARQUET = "application/vnd.apache.parquet"
ARROW = "application/vnd.apache.arrow.stream"
_BODY_TYPES = {kind: kind for kind in (JSON, JSON_LINES, CSV, PARQUET, ARROW)} | {
    "application/x-ndjson": JSON_LINES,
    "application/x-parquet": PARQUET,
}
_SHAPES = (
    'expected {"instances": [{…}, …]}, {"columns": […], "data": [[…], …]}, {"dataframe_split": {…}}, '
    '{"dataframe_records": [{…}, …]} or {"inputs": {"feature": […], …}}'
)


def body_type(content_type: str | None) -> str:
    """Return the media type of a request body: one of the five.

    Raises:
        RequestError: 415.
    """
    if not content_type or content_type == JSON:
        return JSON
    media_type, _, parameters = content_type.partition(";")
    media_type = media_type.strip().lower()
    name, _, charset = parameters.strip().lower().partition("=")
    if name == "charset" and charset.strip("\"'") not in ("utf-8", "utf8", "us-ascii"):
        raise RequestError(415, "unsupported-media-type", f"charset {charset!r} is not supported; send UTF-8")
    known = _BODY_TYPES.get(media_type)
    if known is None:
        supported = ", ".join((JSON, JSON_LINES, CSV, PARQUET, ARROW))
        message = f"content type {media_type[:100]!r} is not supported; send one of {supported}"
        raise RequestError(415, "unsupported-media-type", message)
    return known


def answer_type(accept: str | None) -> str:
    """Return the media type of the answer by the Accept header: JSON if it is welcome, or CSV.

    Raises:
        RequestError: 406.
    """
    if not accept or accept in ("*/*", JSON):
        return JSON
    best, best_quality = "", 0.0
    for item in accept.split(","):
        media_type, *parameters = (part.strip().lower() for part in item.split(";"))
        quality = 1.0
        for parameter in parameters:
            if parameter.startswith("q="):
                try:
                    quality = float(parameter[2:])
                except ValueError:
                    quality = 0.0
        found = {JSON: JSON, CSV: CSV, "*/*": JSON, "application/*": JSON, "text/*": CSV}.get(media_type)
        if found and quality > best_quality:
            best, best_quality = found, quality
    if not best:
        raise RequestError(406, "not-acceptable", f"cannot answer with {accept[:100]!r}; accept {JSON} or {CSV}")
    return best


def parse(media_type: str, body: bytes, encoder: Encoder, max_decoded_bytes: int) -> Columns:
    """Return the columns of a request body, each feature of the model exactly once.

    Raises:
        RequestError: 400, naming row (from 0) and column; 413, a columnar body that would be too large in memory.
    """
    if media_type == JSON:
        return from_json(load_json(body), encoder)
    if media_type == CSV:
        return _parse_csv(body, encoder)
    if media_type == JSON_LINES:
        return _parse_json_lines(body, encoder)
    from serving import columnar  # brings pyarrow, which most servers never need

    read = columnar.read_parquet if media_type == PARQUET else columnar.read_arrow
    return read(body, encoder, max_decoded_bytes)


def load_json(body: bytes) -> Any:
    """Return a JSON body's content.

    Raises:
        RequestError: 400.
    """
    try:
        return orjson.loads(body)
    except orjson.JSONDecodeError as error:
        hint = "; a missing value is null in JSON, not NaN" if b"NaN" in body else ""
        raise bad(f"the body is not valid JSON at character {error.pos}{hint}") from None


def from_json(content: Any, encoder: Encoder) -> Columns:
    """Return the columns of any of the JSON shapes.

    Raises:
        RequestError: 400.
    """
    if isinstance(content, dict):
        if len(content) == 1:
            ((shape, value),) = content.items()
            if shape in ("instances", "dataframe_records") or (shape == "inputs" and isinstance(value, list)):
                return _from_instances(value, encoder, shape)
            if shape == "inputs":
                return _from_inputs(value, encoder)
            if shape == "dataframe_split" and isinstance(value, dict):
                content = value
        if "columns" in content and "data" in content and content.keys() <= {"columns", "data", "index"}:
            return _from_split(content["columns"], content["data"], encoder)
    raise bad(_SHAPES)


def _parse_json_lines(body: bytes, encoder: Encoder) -> Columns:
    rows = []
    for line in body.splitlines():
        if line.strip():
            try:
                rows.append(orjson.loads(line))
            except orjson.JSONDecodeError as error:
                raise bad(f"row {len(rows)}: not valid JSON at character {error.pos}") from None
    if not rows:
        raise bad("the body is empty; expected an object with the features by name in each line")
    return _from_instances(rows, encoder, "the body")


def _from_inputs(inputs: Any, encoder: Encoder) -> Columns:
    if not isinstance(inputs, dict):
        raise bad("inputs: expected the features by name with a list of values each, or a list of rows")
    check_names(list(inputs), encoder)
    for name, values in inputs.items():
        if type(values) is not list:
            raise bad(f"column {name!r}: expected a list of values, got {describe(values)}")
    rows = len(inputs[encoder.names[0]])
    if not rows:
        raise bad("inputs: expected at least one row")
    for name, values in inputs.items():
        if len(values) != rows:
            raise bad(f"column {name!r}: {len(values)} values where {encoder.names[0]!r} has {rows}")
    return inputs


def _from_instances(instances: Any, encoder: Encoder, shape: str) -> Columns:
    if not isinstance(instances, list) or not instances:
        raise bad(f"{shape}: expected a list with at least one row")
    if set(map(type, instances)) != {dict}:
        row, value = next((row, value) for row, value in enumerate(instances) if type(value) is not dict)
        raise bad(f"row {row}: expected an object with the features by name, got {describe(value)}")
    columns: Columns = {}
    for name in encoder.names:
        try:
            columns[name] = [row[name] for row in instances]
        except KeyError:
            row = next(row for row, values in enumerate(instances) if name not in values)
            raise bad(f"row {row}, column {name!r}: missing; send null for a value that is not known") from None
    # Every feature is in every row, so a row of the right length has nothing else.
    expected = len(encoder.names)
    for row, values in enumerate(instances):
        if len(values) != expected:
            raise bad(f"row {row}, column {unknown(values, encoder)}: not a feature of this model")
    return columns


def _from_split(names: Any, data: Any, encoder: Encoder) -> Columns:
    if not isinstance(names, list) or set(map(type, names)) != {str}:
        raise bad("columns: expected a list of feature names")
    if not isinstance(data, list) or not data:
        raise bad("data: expected a list with at least one row")
    check_names(names, encoder)
    for row, values in enumerate(data):
        if type(values) is not list:
            raise bad(f"row {row}: expected a list of values, got {describe(values)}")
        if len(values) != len(names):
            raise bad(f"row {row}: {len(values)} values for {len(names)} columns")
    return dict(zip(names, zip(*data, strict=True), strict=True))


def _parse_csv(body: bytes, encoder: Encoder) -> Columns:
    try:
        text = body.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise bad(f"the body is not valid UTF-8 at byte {error.start}") from None
    try:
        lines = [line for line in csv.reader(text.splitlines(keepends=True), strict=True) if line]
    except csv.Error as error:
        raise bad(f"the body is not valid CSV: {error}") from None
    if not lines:
        raise bad("the body is empty; expected a header line and at least one row")
    names, *data = lines
    check_names(names, encoder)
    if not data:
        raise bad("expected at least one row below the header line")
    for row, line in enumerate(data):
        if len(line) != len(names):
            raise bad(f"row {row}: {len(line)} values for {len(names)} columns")
    columns: Columns = dict(zip(names, zip(*data, strict=True), strict=True))
    for feature in encoder.features:
        values = columns[feature.name]
        if isinstance(feature, NumberFeature):
            columns[feature.name] = _csv_numbers(values, feature.name)
        else:
            columns[feature.name] = [value or None for value in values]
    return columns


def _csv_numbers(values: Sequence[str], name: str) -> Sequence[float | None]:
    try:
        return [float(value) if value else None for value in values]
    except ValueError:
        for row, value in enumerate(values):
            try:
                float(value or "nan")
            except ValueError:
                raise bad(f"row {row}, column {name!r}: expected a number or nothing, got {describe(value)}") from None
        raise


def render(
    media_type: str, predictions: Sequence[Any], identity: orjson.Fragment, classes: Sequence[str] | None = None
) -> bytes:
    """Return the response body: predictions with the model's identity (JSON), or one prediction a line (CSV).

    Args:
        predictions: a number per row, or a list of probabilities per row.
        identity: what a JSON answer says of the model.
        classes: names of the probabilities, in order, where a prediction has several numbers.
    """
    if media_type == CSV:
        if classes is None:
            return "".join(f"{value!r}\n" for value in predictions).encode()
        return "".join(f"{','.join(map(repr, row))}\n" for row in predictions).encode()
    answer: dict[str, Any] = {"predictions": predictions, "model": identity}
    if classes is not None:
        answer["classes"] = classes
    return orjson.dumps(answer)
