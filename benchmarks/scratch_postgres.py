"""A PostgreSQL server of a benchmark's own, with the local platform's binaries and none of its data."""

from __future__ import annotations

import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from local.platform.postgres import find_binaries, user_prefix

START_SECONDS = 30


@contextmanager
def server(folder: Path) -> Iterator[str]:
    """Run a server with its data in a new folder, and yield the address of its database for SQLAlchemy.

    Raises:
        CalledProcessError: it cannot be set up.
        TimeoutError: it does not listen.
    """
    data, binaries, port = folder / "data", find_binaries(), _free_port()
    data.mkdir(parents=True)
    prefix = user_prefix(data)
    initdb = [*prefix, str(binaries / "initdb"), "--pgdata", str(data), "--username=postgres", "--auth=trust"]
    subprocess.run([*initdb, "--no-sync"], cwd=folder, stdout=subprocess.DEVNULL, check=True)
    options = [f"port={port}", "listen_addresses=127.0.0.1", "unix_socket_directories=", "max_connections=100"]
    settings = [part for option in options for part in ("-c", option)]
    with (folder / "log").open("wb") as log:
        running = subprocess.Popen(
            [*prefix, str(binaries / "postgres"), "-D", str(data), *settings], cwd=folder, stdout=log, stderr=log
        )
        try:
            _wait_for(port)
            yield f"postgresql+psycopg2://postgres@127.0.0.1:{port}/postgres"
        finally:
            running.send_signal(signal.SIGINT)  # does not wait for clients to leave
            running.wait()


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port: int = listening.getsockname()[1]
        return port


def _wait_for(port: int) -> None:
    deadline = time.monotonic() + START_SECONDS
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
        except OSError:
            if time.monotonic() > deadline:
                raise TimeoutError(f"PostgreSQL does not listen after {START_SECONDS} s") from None
            time.sleep(0.1)
        else:
            return
