"""Servers that tests start: waited for until they answer, and stopped with their children. Standard library only."""

from __future__ import annotations

import os
import signal
import subprocess
import time
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def server(command: Sequence[str | Path], url: str, log: Path, **environment: str) -> Iterator[None]:
    """Run a server until the end of the block, without what the caller's environment tells Python.

    Args:
        command: that starts it.
        url: that it answers once it is ready.
        log: file for its output.
        environment: variables it gets besides.
    """
    clean = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    with log.open("wb") as output:
        process = subprocess.Popen(
            command, stdout=output, stderr=output, env=clean | environment, start_new_session=True
        )
    try:
        deadline = time.monotonic() + 120
        while True:
            assert process.poll() is None, log.read_text()
            assert time.monotonic() < deadline, log.read_text()
            try:
                urllib.request.urlopen(url, timeout=2).close()
                break
            except OSError:
                time.sleep(0.1)
        yield
    finally:
        process.terminate()
        try:
            process.wait(30)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
