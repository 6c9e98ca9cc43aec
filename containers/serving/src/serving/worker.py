"""One process that answers requests from the socket all workers share."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
from collections.abc import Callable
from typing import Any

import uvicorn

from serving import logs
from serving.app import Application
from serving.metrics import Metrics
from serving.model import Model
from serving.protocol import Protocol
from serving.settings import Settings

KEEP_ALIVE_SECONDS = 75  # longer than a load balancer keeps a connection that is not used
# So long requests are still read from open connections after SIGTERM; what comes on them is answered with
# "Connection: close". Clients that just sent something would find the connection closed otherwise.
LINGER_SECONDS = 0.25


class _Server(uvicorn.Server):
    """Closes connections only when no request can be on its way on them."""

    def __init__(self, config: uvicorn.Config, application: Application, parent: int) -> None:
        super().__init__(config)
        self._application = application
        self._parent = parent

    async def on_tick(self, counter: int) -> bool:
        if counter % 10 == 0 and os.getppid() != self._parent:
            self.should_exit = True  # the supervisor was killed
        return await super().on_tick(counter)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        self._application.draining = True
        # Whoever is in the queue when the last process closes the socket is reset, so nothing waits between these two.
        waiting = [connection for listener in sockets or () for connection in accept_all(listener)]
        for server in self.servers:
            server.close()
        loop = asyncio.get_running_loop()
        for connection in waiting:
            with contextlib.suppress(OSError):  # gone already
                await loop.connect_accepted_socket(self._protocol, connection)
        await asyncio.sleep(LINGER_SECONDS)
        await super().shutdown(sockets)

    def _protocol(self) -> asyncio.Protocol:
        make: Callable[..., asyncio.Protocol] = self.config.http_protocol_class  # type: ignore[assignment]
        return make(config=self.config, server_state=self.server_state, app_state=self.lifespan.state)


def accept_all(listener: socket.socket) -> list[socket.socket]:
    """Return the connections that wait in a socket's queue."""
    listener.setblocking(False)
    accepted: list[socket.socket] = []
    while True:
        try:
            connection, _ = listener.accept()
        except (BlockingIOError, ConnectionAbortedError):
            return accepted
        connection.setblocking(False)
        accepted.append(connection)


def run(listener: socket.socket, model: Model | None, settings: Settings, numbers: Metrics, parent: int) -> None:
    """Answer requests until SIGTERM, then answer what is in progress."""
    log = logs.Buffer()
    application = Application(model, settings, numbers=numbers, log=log)
    options: dict[str, Any] = {"loop": "uvloop", "http": Protocol, "ws": "none", "lifespan": "off"}
    config = uvicorn.Config(
        application,  # type: ignore[arg-type]  # its types are of one message each
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,  # nobody reads them
        timeout_keep_alive=KEEP_ALIVE_SECONDS,
        timeout_graceful_shutdown=settings.drain_seconds,
        **options,
    )
    server = _Server(config, application, parent)

    def end(*_: Any) -> None:
        server.should_exit = True

    # For a signal that comes before uvicorn has its own handlers. After draining, uvicorn raises the signal it got
    # again, which ends nothing then: having drained is success.
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, end)
    server.run(sockets=[listener])
    log.flush()
