"""The real process: start, refuse to start, serve, drain."""

from __future__ import annotations

import json
import shutil
import socket
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest
from helpers import ROW, Server, as_instances, some_columns

from modelformat import digest

Start = Callable[..., Server]


def test_serves_and_stops(start: Start, xgboost_model: Path, sklearn_model: Path, logistic: dict[str, Any]) -> None:
    server = start(xgboost_model, MODEL_VERSION="3", MODEL_DIGEST=digest(xgboost_model))
    large = {"instances": as_instances(some_columns(8000))}  # large enough for the thread
    assert len(json.dumps(large)) > 256 * 1024
    with httpx.Client(base_url=server.url, timeout=30) as client:
        one = client.post("/invocations", json={"instances": [ROW]}).json()
        assert one["model"] == {"version": "3", "digest": digest(xgboost_model)}
        many = client.post("/invocations", json=large).json()["predictions"]
        assert len(many) == 8000
        first = client.post("/invocations", json={"instances": large["instances"][:1]}).json()["predictions"]
        assert first == many[:1]
    assert server.stop() == 0
    events = [line["event"] for line in server.lines()]
    assert events[0] == "model-loaded"
    assert events[-1] == "stopped"

    server = start(sklearn_model)
    answer = httpx.post(f"{server.url}/invocations", json={"instances": logistic["rows"]}).json()
    assert answer["predictions"] == pytest.approx(logistic["predictions"], abs=1e-6)
    assert server.stop() == 0


def test_waits_for_a_first_model(start: Start, tmp_path: Path) -> None:
    server = start(tmp_path / "none")
    assert httpx.get(f"{server.url}/ping").status_code == 200
    answer = httpx.post(f"{server.url}/invocations", json={"instances": [ROW]})
    assert (answer.status_code, answer.json()["error"]["message"]) == (503, "no model deployed yet")
    assert server.stop() == 0


def broken_file(directory: Path) -> dict[str, str]:
    (directory / "model.ubj").write_bytes(b"broken")
    return {}


def no_manifest(directory: Path) -> dict[str, str]:
    (directory / "manifest.json").unlink()
    return {}


def other_digest(directory: Path) -> dict[str, str]:
    return {"MODEL_DIGEST": "0" * 64, "MODEL_VERSION": "3"}


def nothing_there(directory: Path) -> dict[str, str]:
    shutil.rmtree(directory)
    return {"MODEL_VERSION": "3"}


def wrong_setting(directory: Path) -> dict[str, str]:
    return {"SERVING_MAX_BODY_BYTES": "6 MB"}


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (broken_file, "not an XGBoost model"),
        (no_manifest, "manifest.json: no such file"),
        (other_digest, "not the files of version 3"),
        (nothing_there, "empty, but version 3 should be here"),
        (wrong_setting, "SERVING_MAX_BODY_BYTES='6 MB'"),
    ],
)
def test_a_broken_model_ends_the_process(
    damage: Callable[[Path], dict[str, str]], message: str, start: Start, xgboost_model: Path, tmp_path: Path
) -> None:
    model = tmp_path / "model"
    shutil.copytree(xgboost_model, model)
    server = start(model, ready=False, **damage(model))
    assert server.process.wait(20) == 1
    (line,) = server.lines()
    assert line["event"] == "startup-failed"
    assert message in line["message"]


def test_a_taken_port_ends_the_process(start: Start, xgboost_model: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        server = start(xgboost_model, ready=False, SAGEMAKER_BIND_TO_PORT=str(taken.getsockname()[1]))
        assert server.process.wait(20) != 0


def test_sigterm_answers_what_is_in_progress(start: Start, xgboost_model: Path) -> None:
    server = start(xgboost_model)
    host, port = server.url.removeprefix("http://").split(":")
    body = json.dumps({"instances": [ROW]}).encode()
    head = f"POST /invocations HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body)}\r\n\r\n"
    with socket.create_connection((host, int(port)), timeout=10) as connection:
        connection.sendall(head.encode() + body[:10])  # the request has begun, its body is on its way
        time.sleep(0.3)
        stopping = threading.Thread(target=server.stop)
        stopping.start()
        time.sleep(0.5)
        with pytest.raises(httpx.TransportError):
            httpx.get(f"{server.url}/ping")  # nothing new is taken
        connection.sendall(body[10:])
        answer = connection.recv(65536)
    stopping.join(10)
    assert answer.startswith(b"HTTP/1.1 200")
    assert server.process.returncode == 0


def test_a_client_that_goes_away_harms_nobody(start: Start, xgboost_model: Path) -> None:
    server = start(xgboost_model)
    host, port = server.url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port))) as connection:
        connection.sendall(b"POST /invocations HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\n{")
    time.sleep(0.2)
    assert httpx.post(f"{server.url}/invocations", json={"instances": [ROW]}).status_code == 200
    assert server.stop() == 0
    assert "client-gone" in [line.get("code") for line in server.lines()]


def test_an_oversized_body_is_refused_before_it_is_read(start: Start, xgboost_model: Path) -> None:
    server = start(xgboost_model)
    host, port = server.url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), timeout=10) as connection:
        connection.sendall(b"POST /invocations HTTP/1.1\r\nHost: x\r\nContent-Length: 7000000000\r\n\r\n")
        assert connection.recv(65536).startswith(b"HTTP/1.1 413")
