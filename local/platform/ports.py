"""Loopback ports: the usual one of a service when it is free, any free one otherwise.

A port found free can be taken by someone else before the service binds it. Platforms of the same user
cannot do this to each other: a port stays reserved, by a lock on a file named after it, as long as the
supervisor lives. Against everyone else the supervisor tries again with another port.
"""

from __future__ import annotations

import fcntl
import os
import socket
import tempfile
from pathlib import Path
from typing import IO

LOOPBACK = "127.0.0.1"
USUAL_PORTS = {"postgres": 5432, "aws": 4566, "kubernetes": 6443, "mlflow": 5000, "airflow": 8080}


def is_free(port: int) -> bool:
    """Whether a server could listen on this loopback port now."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        # As servers do: connections of a stopped server that linger in TIME_WAIT are no obstacle.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((LOOPBACK, port))
            probe.listen(1)
        except OSError:
            return False
    # macOS lets 127.0.0.1 be bound beside a server on all addresses, which would still get some connections.
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as client:
        client.settimeout(0.5)
        return client.connect_ex((LOOPBACK, port)) != 0


def any_free_port() -> int:
    """Return a port nobody listens on, as the operating system picks it."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.bind((LOOPBACK, 0))
        port: int = probe.getsockname()[1]
        return port


class PortReservations:
    """Ports this process has reserved; they are given back when it ends."""

    def __init__(self, folder: Path | None = None) -> None:
        self._folder = folder or Path(tempfile.gettempdir()) / f"ml-platform-ports-{os.getuid()}"
        self._held: dict[int, IO[str]] = {}

    def reserve(self, usual: int | None) -> int:
        """Reserve the usual port if it is free, else any free one."""
        if usual is not None and self._try(usual):
            return usual
        for _ in range(100):
            port = any_free_port()
            if self._try(port):
                return port
        raise OSError("no free loopback port found in 100 attempts")

    def release(self) -> None:
        """Give all ports back."""
        for port, lock in self._held.items():
            (self._folder / str(port)).unlink(missing_ok=True)
            lock.close()
        self._held.clear()

    def _try(self, port: int) -> bool:
        if port in self._held:
            return False
        self._folder.mkdir(mode=0o700, exist_ok=True)
        path = self._folder / str(port)
        lock = path.open("w")
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            lock.close()
            return False
        # The holder before us may have deleted the file between our open and our lock.
        same = path.exists() and os.fstat(lock.fileno()).st_ino == path.stat().st_ino
        if not same or not is_free(port):
            lock.close()
            return False
        self._held[port] = lock
        return True
