"""The fast path of HTTP answers what the slow path answers."""

from __future__ import annotations

import http.client
import json
import socket
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from helpers import ROW, Server

Start = Callable[..., Server]
GOOD = json.dumps({"instances": [ROW]}).encode()
BAD = json.dumps({"instances": [ROW | {"wind": "x"}]}).encode()
TYPE = b"Content-Type: application/json"


@pytest.fixture(scope="module")
def server(start_for_module: Start, xgboost_model: Path) -> Server:
    return start_for_module(xgboost_model, SERVING_WORKERS="1", MODEL_VERSION="3", SERVING_MAX_BODY_BYTES="2000")


@pytest.fixture
def connection(server: Server) -> Iterator[socket.socket]:
    host, _, port = server.url.removeprefix("http://").partition(":")
    with socket.create_connection((host, int(port)), timeout=10) as connection:
        yield connection


def request(body: bytes, *headers: bytes, path: bytes = b"/invocations", version: bytes = b"1.1") -> bytes:
    head = [b"POST %s HTTP/%s" % (path, version), b"Host: x", b"Content-Length: %d" % len(body), *headers]
    return b"\r\n".join([*head, b"", body])


def answer(connection: socket.socket) -> tuple[int, dict[str, str], Any]:
    found = http.client.HTTPResponse(connection, method="POST")
    found.begin()
    body = found.read()
    headers = {name.lower(): value for name, value in found.getheaders()}
    return found.status, headers, json.loads(body) if "json" in headers["content-type"] else body.decode()


def both(connection: socket.socket, body: bytes, *headers: bytes) -> tuple[Any, Any]:
    """Ask the same in one piece, and in pieces that are no whole request."""
    one = request(body, *headers, b"X-Request-Id: 7")
    connection.sendall(one)
    fast = answer(connection)
    for piece in (one[:20], one[20:-5], one[-5:]):
        connection.sendall(piece)
        time.sleep(0.05)
    return fast, answer(connection)


@pytest.mark.parametrize(
    ("body", "headers", "status"),
    [
        (GOOD, (TYPE,), 200),
        (GOOD, (TYPE, b"Accept: text/csv"), 200),
        (b"distance,carrier,wind\n1,UA,\n", (b"Content-Type: text/csv; charset=utf-8",), 200),
        (BAD, (TYPE,), 400),
        (b"", (TYPE,), 400),
        (GOOD, (TYPE, b"Accept: image/png"), 406),
        (GOOD, (b"Content-Type: text/plain",), 415),
        (GOOD, (b"Content-Type: application/json; charset=latin-1",), 415),
        (b"PAR1", (b"Content-Type: application/x-parquet",), 400),
    ],
)
def test_both_ways_answer_the_same(
    connection: socket.socket, body: bytes, headers: tuple[bytes, ...], status: int
) -> None:
    fast, slow = both(connection, body, *headers)
    assert fast[0] == status
    for one in (fast, slow):
        one[1].pop("date")
    assert fast == slow


def test_requests_sent_together_are_answered_in_order(connection: socket.socket) -> None:
    page = request(b"", path=b"/nothing")
    connection.sendall(b"".join([request(GOOD), page, request(BAD), request(GOOD), page]))
    with connection.makefile("rb") as file:
        found = []
        while len(found) < 5:
            head = []
            while (line := file.readline()) != b"\r\n":
                assert line, found
                head.append(line.lower())
            found.append(head[0].split()[1])
            (length,) = [int(line.partition(b":")[2]) for line in head if line.startswith(b"content-length:")]
            file.read(length)
    assert found == [b"200", b"404", b"400", b"200", b"404"]


def test_a_request_and_the_beginning_of_the_next(connection: socket.socket) -> None:
    second = request(BAD)
    connection.sendall(request(GOOD) + second[:-3])
    assert answer(connection)[0] == 200
    connection.sendall(second[-3:])
    assert answer(connection)[0] == 400


@pytest.mark.parametrize("headers", [(b"Connection: close",), ()])
def test_a_connection_is_closed_for_who_asks(connection: socket.socket, headers: tuple[bytes, ...]) -> None:
    connection.sendall(request(GOOD, *headers, version=b"1.1" if headers else b"1.0"))
    received = b""
    while piece := connection.recv(65536):
        received += piece
    assert received.startswith(b"HTTP/1.1 200 OK\r\n")
    assert b"\r\nconnection: close\r\n" in received


def test_a_body_is_asked_for_where_the_client_waits(connection: socket.socket) -> None:
    whole = request(GOOD, b"Expect: 100-continue")
    connection.sendall(whole[: -len(GOOD)])
    assert connection.recv(65536) == b"HTTP/1.1 100 Continue\r\n\r\n"
    connection.sendall(GOOD)
    assert answer(connection)[0] == 200


def test_a_body_in_chunks(connection: socket.socket) -> None:
    head = b"POST /invocations HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
    connection.sendall(head + b"%x\r\n%s\r\n0\r\n\r\n" % (len(GOOD), GOOD))
    assert answer(connection)[0] == 200


def test_too_large_ends_the_connection(connection: socket.socket) -> None:
    connection.sendall(request(b" " * 2001))
    status, headers, body = answer(connection)
    assert (status, headers["connection"], body["error"]["code"]) == (413, "close", "too-large")
    assert connection.recv(1) == b""


def test_what_is_not_http_is_refused_and_the_next_is_served(server: Server, connection: socket.socket) -> None:
    connection.sendall(b"POST /invocations HTTP/1.1\r\nHost: x\r\nContent-Length: x\r\n\r\n")
    assert connection.recv(65536).startswith(b"HTTP/1.1 400 ")
    host, _, port = server.url.removeprefix("http://").partition(":")
    with socket.create_connection((host, int(port)), timeout=10) as other:
        other.sendall(request(GOOD))
        assert answer(other)[0] == 200
