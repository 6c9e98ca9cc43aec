"""Captured lines and bodies: what the server takes is read, and whatever else there may be is one message."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from helpers import parquet

from trainer.monitoring import bodies, capture
from trainer.monitoring.bodies import Malformed

NAMES = ["weight", "depot"]
EXPECTED: dict[str, list[Any]] = {"weight": [1.5, None], "depot": ["north", None]}
RECORDS = [{"weight": 1.5, "depot": "north"}, {"weight": None, "depot": None}]
SPLIT = {"columns": ["depot", "weight"], "data": [["north", 1.5], [None, None]]}


@pytest.mark.parametrize(
    "content",
    [
        {"instances": RECORDS},
        {"dataframe_records": RECORDS},
        {"inputs": RECORDS},
        {"inputs": EXPECTED},
        {"dataframe_split": SPLIT},
        SPLIT,
    ],
)
@pytest.mark.parametrize("kind", ["application/json", "Application/JSON; charset=utf-8", ""])
def test_every_shape_of_json_is_read(content: Any, kind: str) -> None:
    found = bodies.columns(kind, json.dumps(content).encode(), NAMES)
    assert {name: list(values) for name, values in found.items()} == EXPECTED


def test_json_lines_csv_and_parquet_are_read() -> None:
    lines = "\n\n".join(map(json.dumps, RECORDS)).encode()
    assert bodies.columns("application/x-ndjson", lines, NAMES) == EXPECTED
    found = bodies.columns("text/csv", b"\xef\xbb\xbfdepot,weight\r\nnorth,1.5\r\n,\r\n", NAMES)
    assert found == {"weight": ["1.5", None], "depot": ["north", None]}
    types = {"depot": pa.dictionary(pa.int8(), pa.string())}
    for kind in ("application/vnd.apache.parquet", "application/x-parquet"):
        found = bodies.columns(kind, parquet({**EXPECTED, "other": [1, 2]}, types), NAMES)
        assert {name: list(values) for name, values in found.items()} == EXPECTED


@pytest.mark.parametrize(
    ("kind", "body", "message"),
    [
        ("application/json", b"{", "not JSON"),
        ("application/json", b"\xff", "not JSON"),
        ("application/json", b"[" * 100_000, "not JSON"),
        ("application/json", b"[]", "none of the JSON shapes"),
        ("application/json", b'{"instances": []}', "not objects"),
        ("application/json", b'{"instances": [1]}', "not objects"),
        ("application/json", b'{"instances": [{"weight": 1, "depot": "n"}, {"weight": 1}]}', "same features"),
        ("application/json", b'{"instances": [{"weight": 1}]}', "no feature 'depot'"),
        ("application/json", b'{"instances": [{"weight": 1, "depot": ["n"]}]}', "'depot' is neither"),
        ("application/json", b'{"inputs": {"weight": [1], "depot": []}}', "one length"),
        ("application/json", b'{"inputs": {"weight": [], "depot": []}}', "no row"),
        ("application/json", b'{"columns": ["weight", "depot"], "data": [[1]]}', "none of the JSON shapes"),
        ("text/csv", b"weight,depot\n", "no row"),
        ("text/csv", b"weight,depot\n1\n", "another length"),
        ("text/csv", b'weight,depot\n1,"n\n', "not CSV"),
        ("text/csv", b"\xff\xfe", "not UTF-8"),
        ("application/x-parquet", b"", "not a Parquet file"),
        ("application/x-parquet", b"PAR1PAR1", "not a Parquet file"),
        ("application/x-parquet", parquet({"other": [1]}), "no feature 'weight'"),
        ("application/x-parquet", parquet({"weight": [], "depot": []}), "no row"),
        ("application/vnd.apache.arrow.stream", b"", "arrow.stream are not read"),
    ],
)
def test_a_request_that_cannot_be_read_is_one_message(kind: str, body: bytes, message: str) -> None:
    with pytest.raises(Malformed, match=message):
        bodies.columns(kind, body, NAMES)


@pytest.mark.parametrize(
    ("body", "shape", "version"),
    [
        ({"predictions": [0.5, 1], "model": {"version": "12"}}, (2,), "12"),
        ({"predictions": [[0.5, 0.2, 0.3]], "model": {"version": 7}}, (1, 3), "7"),
        ({"predictions": [1], "model": {"version": "²"}}, (1,), None),
        ({"predictions": [1], "model": {"version": "9" * 5000}}, (1,), None),
        ({"predictions": [1], "model": "7"}, (1,), None),
        ({"predictions": [1]}, (1,), None),
    ],
)
def test_an_answer_has_predictions_and_may_name_its_version(body: Any, shape: Any, version: str | None) -> None:
    found, named = bodies.predictions("application/json", json.dumps(body).encode())
    assert (found.shape, named) == (shape, version)


def test_an_answer_in_csv_names_no_version() -> None:
    found, named = bodies.predictions("text/csv", b"0.25,0.75\n0.5,0.5\n")
    assert named is None
    np.testing.assert_array_equal(found, [[0.25, 0.75], [0.5, 0.5]])


@pytest.mark.parametrize(
    ("kind", "body"),
    [
        ("application/json", b'{"predictions": []}'),
        ("application/json", b'{"predictions": 5}'),
        ("application/json", b'{"predictions": [[1], [1, 2]]}'),
        ("application/json", b'{"predictions": ["high"]}'),
        ("application/json", b'{"predictions": [1' + b"0" * 400 + b"]}"),
        ("application/json", b"null"),
        ("text/csv", b""),
        ("text/csv", b"a,b\n"),
        ("text/html", b"<p>1</p>"),
    ],
)
def test_an_answer_that_cannot_be_read_is_malformed(kind: str, body: bytes) -> None:
    with pytest.raises(Malformed):
        bodies.predictions(kind, body)


def captured(**event: Any) -> dict[str, Any]:
    half = {"observedContentType": "application/json", "data": "{}", "encoding": "JSON"}
    return {
        "captureData": {"endpointInput": dict(half), "endpointOutput": dict(half)},
        "eventMetadata": {"inferenceTime": "2026-05-04T12:30:00Z", "inferenceId": "a", **event},
    }


def test_a_line_is_an_exchange_in_utc() -> None:
    found = capture.parse(json.dumps(captured(inferenceTime="2026-05-04T14:30:00+02:00")).encode(), "primary")
    assert (found.at, found.inference_id, found.variant) == (datetime(2026, 5, 4, 12, 30, tzinfo=UTC), "a", "primary")
    without = capture.parse(json.dumps(captured(inferenceId=None)).encode(), "primary")
    assert without.inference_id is None


@pytest.mark.parametrize(
    "event",
    [
        {"inferenceTime": "yesterday"},
        {"inferenceTime": 5},
        {"inferenceTime": None},
        {"inferenceTime": "0001-01-01T00:00:00+05:00"},
        {"inferenceId": "half a character: \ud800"},
    ],
)
def test_a_line_with_an_impossible_event_is_malformed(event: dict[str, Any]) -> None:
    with pytest.raises(Malformed, match="is not a captured request"):
        capture.parse(json.dumps(captured(**event)).encode(), "primary")


@pytest.mark.parametrize(
    ("key", "value"), [("data", 5), ("data", None), ("data", "\ud800"), ("data", "%%%"), ("observedContentType", ["x"])]
)
def test_a_line_with_an_impossible_body_never_stops_anything(key: str, value: Any) -> None:
    content = captured()
    content["captureData"]["endpointInput"] |= {key: value, **({"encoding": "BASE64"} if value == "%%%" else {})}
    with pytest.raises(Malformed):
        read(json.dumps(content).encode())


def read(line: bytes) -> bodies.Columns:
    found = capture.parse(line, "primary")
    return bodies.columns(found.request.content_type, found.request.body, NAMES)
