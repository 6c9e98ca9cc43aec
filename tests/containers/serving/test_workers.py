"""Several real workers: killed, drained under load, sharing one model, steady in memory."""

from __future__ import annotations

import http.client
import json
import os
import signal
import threading
import time
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest
from helpers import ROW, Server, as_instances, some_columns

from serving.metrics import proportional_bytes

Start = Callable[..., Server]
SECONDS = float(os.environ.get("SERVING_LOAD_SECONDS", "8"))
BODY = json.dumps({"instances": [ROW]})


def workers(server: Server) -> list[int]:
    children = Path(f"/proc/{server.process.pid}/task/{server.process.pid}/children").read_text()
    return [int(process) for process in children.split()]


class Load:
    """Clients that keep their connections, and open new ones where the server says so, until it takes none."""

    def __init__(self, server: Server, clients: int, body: str = BODY) -> None:
        self.host, _, port = server.url.removeprefix("http://").partition(":")
        self.port, self.body = int(port), body
        self.answered, self.failed = 0, list[str]()
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=self._run) for _ in range(clients)]
        for thread in self._threads:
            thread.start()

    def _run(self) -> None:
        connection: http.client.HTTPConnection | None = None
        while not self._stop.is_set():
            fresh = connection is None
            if connection is None:
                connection = http.client.HTTPConnection(self.host, self.port, timeout=20)
                try:
                    connection.connect()
                except OSError:
                    return  # nothing new is taken: not a failure
            try:
                connection.request("POST", "/invocations", self.body, {"Content-Type": "application/json"})
                answer = connection.getresponse()
                answer.read()
            except ConnectionResetError as error:
                # A new connection that no worker had accepted when the socket was closed is as good as refused.
                self.failed += [] if fresh else [repr(error)]
                return
            except (OSError, http.client.HTTPException) as error:
                self.failed.append(repr(error))
                return
            if answer.status != 200:
                self.failed.append(str(answer.status))
            self.answered += 1
            if answer.headers.get("Connection") == "close":
                connection = None

    def wait(self) -> None:
        for thread in self._threads:
            thread.join(30)

    def stop(self) -> None:
        self._stop.set()
        self.wait()


@pytest.mark.parametrize("engine", ["xgboost", "lightgbm", "onnx"])
def test_a_drain_under_load_loses_nothing(
    engine: str, start: Start, xgboost_model: Path, lightgbm_model: Path, sklearn_model: Path
) -> None:
    model = {"xgboost": xgboost_model, "lightgbm": lightgbm_model, "onnx": sklearn_model}[engine]
    server = start(model, SERVING_WORKERS="2")
    assert len(workers(server)) == 2
    load = Load(server, 6)
    time.sleep(1)
    assert server.stop() == 0
    load.wait()
    assert load.failed == []
    assert load.answered > 50
    lines = server.lines()
    assert sum(line["event"] == "request" for line in lines) == load.answered, "every request has its line, whole"
    assert lines[-1]["event"] == "stopped"


def test_a_killed_worker_is_started_again(start: Start, xgboost_model: Path) -> None:
    server = start(xgboost_model, SERVING_WORKERS="2")
    first = workers(server)
    os.kill(first[0], signal.SIGKILL)
    deadline = time.monotonic() + 10
    while len(now := workers(server)) < 2 or first[0] in now:
        assert time.monotonic() < deadline
        time.sleep(0.05)
    for _ in range(10):
        assert httpx.post(f"{server.url}/invocations", content=BODY).status_code == 200
    text = httpx.get(f"{server.url}/metrics").text
    assert "serving_worker_restarts_total 1\n" in text
    assert 'serving_requests_total{status="200",code="ok"} 10\n' in text
    assert text.count("serving_memory_bytes{") == 3
    assert server.stop() == 0


def test_workers_end_with_a_killed_supervisor(start: Start, xgboost_model: Path) -> None:
    server = start(xgboost_model, SERVING_WORKERS="2")
    left = workers(server)
    server.process.kill()
    server.process.wait(10)
    deadline = time.monotonic() + 10
    while any(Path(f"/proc/{process}/cmdline").exists() and proportional_bytes(process) for process in left):
        assert time.monotonic() < deadline
        time.sleep(0.1)


def test_more_threads_mean_a_model_per_worker(start: Start, lightgbm_model: Path) -> None:
    server = start(lightgbm_model, SERVING_WORKERS="2", SERVING_THREADS="2")
    body = {"instances": as_instances(some_columns(500))}
    assert httpx.post(f"{server.url}/invocations", json=body).status_code == 200
    assert server.stop() == 0


def test_memory_is_steady_under_load(start: Start, xgboost_model: Path) -> None:
    server = start(xgboost_model, SERVING_WORKERS="2")
    load = Load(server, 4, json.dumps({"instances": as_instances(some_columns(200))}))
    time.sleep(SECONDS / 3)
    before = sum(proportional_bytes(process) or 0 for process in workers(server))
    time.sleep(SECONDS * 2 / 3)
    after = sum(proportional_bytes(process) or 0 for process in workers(server))
    load.stop()
    assert load.failed == []
    assert server.stop() == 0
    assert after < before + 8 * 2**20


def test_more_than_a_worker_takes_is_refused_and_then_it_recovers(start: Start, xgboost_model: Path) -> None:
    server = start(xgboost_model, SERVING_WORKERS="1", SERVING_MAX_IN_FLIGHT="4")
    large = json.dumps({"instances": as_instances(some_columns(8000))})  # worked on in a thread, two at a time
    assert len(large) > 256 * 1024
    seen: list[tuple[int, str | None, int]] = []

    def ask() -> None:
        with httpx.Client(base_url=server.url, timeout=60) as client:
            for _ in range(3):
                answer = client.post("/invocations", content=large)
                rows = len(answer.json().get("predictions", ()))
                seen.append((answer.status_code, answer.headers.get("retry-after"), rows))

    threads = [threading.Thread(target=ask) for _ in range(16)]
    for thread in threads:
        thread.start()
    pings = []
    while any(thread.is_alive() for thread in threads):
        pings.append(httpx.get(f"{server.url}/ping", timeout=30).status_code)
    assert set(pings) == {200}, "whoever looks after the server is not kept waiting"
    assert len(seen) == 48
    assert set(seen) == {(200, None, 8000), (503, "1", 0)}
    assert httpx.post(f"{server.url}/invocations", content=BODY).status_code == 200
    text = httpx.get(f"{server.url}/metrics").text
    refused = sum(status == 503 for status, _, _ in seen)
    assert f'serving_requests_total{{status="503",code="saturated"}} {refused}\n' in text
    assert "serving_in_flight 0\n" in text
    assert server.stop() == 0
