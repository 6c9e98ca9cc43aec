"""Log lines as JSON objects on stdout, one per event. Never a request's or a response's body."""

from __future__ import annotations

import asyncio
import logging
import sys
import time
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from typing import Any

import orjson

# A write of this size to a pipe is never mixed with another process's.
ATOMIC_BYTES = 4096
FLUSH_SECONDS = 0.1
FLUSH_LINES = 64


def write(event: str, **fields: Any) -> None:
    """Write one line, now."""
    sys.stdout.buffer.write(_line(time.time(), event, fields))
    sys.stdout.buffer.flush()


def _line(at: float, event: str, fields: dict[str, Any]) -> bytes:
    written = datetime.fromtimestamp(at, UTC).isoformat(timespec="milliseconds")
    return orjson.dumps({"time": written, "event": event, **fields}, default=str, option=orjson.OPT_APPEND_NEWLINE)


class Buffer:
    """Collects what a worker's requests have to say and writes many lines at once.

    A system call costs more than a line, and lines made one after another half of what they cost between requests.
    They wait `FLUSH_SECONDS` or for `FLUSH_LINES` at most; a worker that is killed loses those. Only inside an event
    loop.
    """

    def __init__(self) -> None:
        self._events: list[tuple[float, str, dict[str, Any]]] = []
        self._timer: asyncio.TimerHandle | None = None

    def write(self, event: str, fields: dict[str, Any]) -> None:
        """Add a line. The fields are the buffer's from now on."""
        self._events.append((time.time(), event, fields))
        if len(self._events) >= FLUSH_LINES:
            self.flush()
        elif self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(FLUSH_SECONDS, self.flush)

    def flush(self) -> None:
        """Write what there is."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        lines = [_line(*event) for event in self._events]
        self._events.clear()
        for together in _up_to(ATOMIC_BYTES, lines):
            sys.stdout.buffer.write(together)
            sys.stdout.buffer.flush()


def _up_to(size: int, lines: Sequence[bytes]) -> Iterator[bytes]:
    """Join lines as long as they are not longer than this together."""
    together: list[bytes] = []
    length = 0
    for line in lines:
        if together and length + len(line) > size:
            yield b"".join(together)
            together, length = [], 0
        together.append(line)
        length += len(line)
    if together:
        yield b"".join(together)


class Handler(logging.Handler):
    """Writes the records of libraries the same way, without tracebacks' messages, which may quote input."""

    def emit(self, record: logging.LogRecord) -> None:
        """Write a record."""
        fields: dict[str, Any] = {"level": record.levelname.lower(), "logger": record.name}
        if record.exc_info and record.exc_info[1]:
            fields |= where(record.exc_info[1])
            write("log", message=record.getMessage().splitlines()[0], **fields)
        else:
            write("log", message=record.getMessage(), **fields)


def where(error: BaseException) -> dict[str, str]:
    """Return an exception's type and the line that raised it."""
    trace = error.__traceback__
    while trace and trace.tb_next:
        trace = trace.tb_next
    place = f"{trace.tb_frame.f_code.co_filename}:{trace.tb_lineno}" if trace else "unknown"
    return {"error": type(error).__name__, "at": place}


def configure() -> None:
    """Send all logging through `Handler`."""
    logging.basicConfig(level=logging.INFO, handlers=[Handler()], force=True)
    # Its ordinary messages are said better elsewhere, once and not per worker.
    logging.getLogger("uvicorn").setLevel(logging.WARNING)
