"""What the serving benchmark asks, and how it reads the answers."""

from __future__ import annotations

import json
from typing import Any

from benchmarks.serving_http import CSV, bodies, http_request, make_requests, predictions_of

NAMES = ["a", "b"]
ROWS: list[list[Any]] = [[1.5, "x"], [None, "y"]]


def test_bodies_of_one_row_and_of_many() -> None:
    record, csv = bodies(NAMES, ROWS[:1])
    assert json.loads(record) == {"dataframe_records": [{"a": 1.5, "b": "x"}]}
    assert csv == b"a,b\n1.5,x\n"
    table, csv = bodies(NAMES, ROWS)
    assert json.loads(table) == {"dataframe_split": {"columns": NAMES, "data": ROWS}}
    assert csv == b"a,b\n1.5,x\n,y\n"


def test_a_request_is_whole() -> None:
    request = http_request("/x", CSV, b"a\n", Authorization="me")
    head, _, body = request.partition(b"\r\n\r\n")
    assert head.startswith(b"POST /x HTTP/1.1\r\n")
    assert {b"Content-Length: 2", b"Authorization: me", b"Content-Type: text/csv"} <= set(head.split(b"\r\n"))
    assert body == b"a\n"


def test_what_cannot_take_csv_is_not_asked_for_it() -> None:
    assert set(make_requests(NAMES, ROWS, "JSON")) == {(1, "JSON"), (2, "JSON")}
    assert set(make_requests(NAMES, ROWS, "JSON", "CSV")) == {(n, k) for n in (1, 2) for k in ("JSON", "CSV")}


def test_predictions_in_an_object_or_alone() -> None:
    assert predictions_of(b'{"predictions": [0.5], "model": {}}') == predictions_of(b"[0.5]") == [0.5]
