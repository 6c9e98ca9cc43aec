"""Requests and answers of the serving benchmark, byte by byte."""

from __future__ import annotations

import http.client
import json
import socket
from collections.abc import Sequence
from typing import Any

JSON, CSV = "application/json", "text/csv"
Requests = dict[tuple[int, str], bytes]
"""Whole HTTP requests, by number of rows and format."""


def http_request(path: str, kind: str, body: bytes, **headers: str) -> bytes:
    """Return a whole request."""
    more = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
    head = (
        f"POST {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: {kind}\r\n{more}Content-Length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body


def exchange(port: int, request: bytes) -> tuple[int, bytes]:
    """Send a whole request on a connection of its own; return status and body."""
    with socket.create_connection(("127.0.0.1", port), timeout=30) as connection:
        connection.sendall(request)
        answer = http.client.HTTPResponse(connection)
        try:
            answer.begin()
            return answer.status, answer.read()
        except http.client.HTTPException as error:
            raise OSError(f"not an HTTP answer: {error!r}") from None


def bodies(names: Sequence[str], rows: Sequence[Sequence[Any]]) -> tuple[bytes, bytes]:
    """Return rows as JSON (one as a record, more as a table) and as CSV."""
    if len(rows) == 1:
        content: Any = {"dataframe_records": [dict(zip(names, rows[0], strict=True))]}
    else:
        content = {"dataframe_split": {"columns": list(names), "data": rows}}
    lines = [",".join(names), *(",".join("" if value is None else str(value) for value in row) for row in rows)]
    return json.dumps(content, separators=(",", ":")).encode(), ("\n".join(lines) + "\n").encode()


def make_requests(names: Sequence[str], rows: Sequence[Sequence[Any]], *formats: str) -> Requests:
    """Return the requests for one row and for all."""
    requests: Requests = {}
    for part in (rows[:1], rows):
        as_json, as_csv = bodies(names, part)
        if "JSON" in formats:
            requests[len(part), "JSON"] = http_request("/invocations", JSON, as_json)
        if "CSV" in formats:
            requests[len(part), "CSV"] = http_request("/invocations", CSV, as_csv)
    return requests


def predictions_of(body: bytes) -> list[float]:
    """Return the predictions of any contender's JSON answer."""
    content = json.loads(body)
    return list(content["predictions"] if isinstance(content, dict) else content)
