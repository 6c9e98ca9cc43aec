"""Log lines: collected, whole, and never more than a pipe keeps together."""

from __future__ import annotations

import asyncio
import contextlib
import json
import sys
import time
from collections.abc import Iterator
from datetime import datetime

from serving import logs


class Pipe:
    """Stands for stdout; keeps what was written at once."""

    def __init__(self) -> None:
        self.buffer = self
        self.written: list[bytes] = []

    def write(self, content: bytes) -> None:
        self.written.append(content)

    def flush(self) -> None:
        """Nothing waits here."""


@contextlib.contextmanager
def pipe_as_stdout() -> Iterator[Pipe]:
    # Not a fixture: pytest puts its own in place again before the test begins.
    pipe, stdout = Pipe(), sys.stdout
    sys.stdout = pipe  # type: ignore[assignment]
    try:
        yield pipe
    finally:
        sys.stdout = stdout


def test_lines_are_written_together_and_whole() -> None:
    async def log() -> None:
        buffer = logs.Buffer()
        for number in range(logs.FLUSH_LINES + 1):
            buffer.write("request", {"number": number, "request_id": "x" * 128})
        assert len(pipe.written) > 1  # full: nothing waits for the timer but the last
        buffer.flush()
        buffer.flush()

    with pipe_as_stdout() as pipe:
        asyncio.run(log())
    assert max(map(len, pipe.written)) <= logs.ATOMIC_BYTES
    assert all(content.endswith(b"\n") for content in pipe.written)
    lines = [json.loads(line) for line in b"".join(pipe.written).splitlines()]
    assert [line["number"] for line in lines] == list(range(logs.FLUSH_LINES + 1))


def test_a_line_waits_a_moment_and_says_when_it_was() -> None:
    async def log() -> None:
        logs.Buffer().write("request", {"number": 1})
        assert not pipe.written
        await asyncio.sleep(logs.FLUSH_SECONDS * 3)

    began = time.time()
    with pipe_as_stdout() as pipe:
        asyncio.run(log())
    (line,) = pipe.written
    assert datetime.fromisoformat(json.loads(line)["time"]).timestamp() - began < logs.FLUSH_SECONDS


def test_a_line_longer_than_a_pipe_keeps_together_is_there() -> None:
    async def log() -> None:
        buffer = logs.Buffer()
        for text in ("a", "b" * 2 * logs.ATOMIC_BYTES, "c"):
            buffer.write("request", {"text": text})
        buffer.flush()

    with pipe_as_stdout() as pipe:
        asyncio.run(log())
    assert [json.loads(line)["text"][0] for line in b"".join(pipe.written).splitlines()] == ["a", "b", "c"]
