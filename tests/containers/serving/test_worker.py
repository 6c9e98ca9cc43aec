"""The end of a worker: who is in the socket's queue is served."""

from __future__ import annotations

import asyncio
import http.client
import json
import multiprocessing
import os
import signal
import socket
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import uvicorn
from helpers import ROW, Server

from serving.app import create_app
from serving.metrics import Metrics
from serving.model import load
from serving.settings import Settings
from serving.worker import _Server, accept_all
from serving.worker import run as run_worker

Start = Callable[..., Server]
BODY = json.dumps({"instances": [ROW]}).encode()
REQUEST = b"POST /invocations HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n%s" % (len(BODY), BODY)


def read(connection: socket.socket) -> tuple[int, str | None]:
    answer = http.client.HTTPResponse(connection)
    answer.begin()
    answer.read()
    return answer.status, answer.getheader("Connection")


def test_everybody_in_the_queue_is_accepted() -> None:
    with socket.create_server(("127.0.0.1", 0), backlog=16) as listener:
        clients = [socket.create_connection(listener.getsockname()) for _ in range(5)]
        accepted = accept_all(listener)
        assert {one.getpeername() for one in accepted} == {one.getsockname() for one in clients}
        assert accept_all(listener) == []
        for one in (*clients, *accepted):
            one.close()


@pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
def test_a_queue_that_the_loop_has_not_seen_is_served(loop: str, xgboost_model: Path) -> None:
    settings = Settings(model_directory=xgboost_model)
    application = create_app(load(settings), settings)
    config = uvicorn.Config(application, log_config=None, http="httptools", lifespan="off", loop=loop)
    config.load()

    async def main() -> list[tuple[int, str | None]]:
        listener = socket.create_server(("127.0.0.1", 0), backlog=16)
        server = _Server(config, application, os.getppid())
        server.lifespan = config.lifespan_class(config)
        await server.startup(sockets=[listener])
        address = listener.getsockname()
        clients = [socket.create_connection(address, timeout=10) for _ in range(5)]
        for client in clients[1:]:  # one asks only after it was accepted
            client.sendall(REQUEST)
        ending = asyncio.ensure_future(server.shutdown(sockets=[listener]))
        await asyncio.sleep(0.1)
        clients[0].sendall(REQUEST)
        answers = await asyncio.gather(*(asyncio.to_thread(read, client) for client in clients))
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(address, timeout=10)
        await ending
        return list(answers)

    factory = config.get_loop_factory()
    with asyncio.Runner(loop_factory=factory) as runner:
        assert runner.run(main()) == [(200, "close")] * 5


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_before_the_server_runs_is_not_lost(number: signal.Signals, monkeypatch: pytest.MonkeyPatch) -> None:
    parent, run = os.getpid(), uvicorn.Server.run

    def run_signalled(server: uvicorn.Server, sockets: list[socket.socket] | None = None) -> None:
        signal.raise_signal(number)
        run(server, sockets)

    monkeypatch.setattr(uvicorn.Server, "run", run_signalled)
    with socket.create_server(("127.0.0.1", 0)) as listener, socket.create_connection(listener.getsockname()) as client:
        client.sendall(REQUEST)
        worker = multiprocessing.get_context("fork").Process(
            target=run_worker, args=(listener, None, Settings(), Metrics(), parent)
        )
        worker.start()
        try:
            assert read(client) == (503, "close")  # it has no model, but an answer
            worker.join(10)
            assert worker.exitcode == 0
        finally:
            worker.kill()


def test_sigterm_serves_who_was_never_accepted(start: Start, xgboost_model: Path) -> None:
    server = start(xgboost_model, SERVING_WORKERS="2")
    children = Path(f"/proc/{server.process.pid}/task/{server.process.pid}/children").read_text()
    workers = [int(process) for process in children.split()]
    host, _, port = server.url.removeprefix("http://").partition(":")
    for process in workers:
        os.kill(process, signal.SIGSTOP)
    clients = [socket.create_connection((host, int(port)), timeout=20) for _ in range(20)]
    try:
        for client in clients:
            client.sendall(REQUEST)
        server.process.send_signal(signal.SIGTERM)
        time.sleep(0.3)  # the supervisor has closed its socket and told the workers
    finally:
        for process in workers:
            os.kill(process, signal.SIGCONT)
    assert {read(client)[0] for client in clients} == {200}
    assert server.process.wait(20) == 0
