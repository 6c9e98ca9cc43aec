"""Log lines as JSON objects on stdout, one per event. Never a request's or a response's body."""

from __future__ import annotations

import asyncio
import logging
import sys
from datetime import UTC, datetime
from typing import Any

import orjson

# A write of this size to a pipe is never mixed with another process's.
ATOMIC_BYTES = 4096
FLUSH_SECONDS = 0.1


def write(event: str, **fields: Any) -> None:
    """Write one line, now."""
    sys.stdout.buffer.write(_line(event, fields))
    sys.stdout.buffer.flush()


def _line(event: str, fields: dict[str, Any]) -> bytes:
    line = {"time": datetime.now(UTC).isoformat(timespec="milliseconds"), "event": event, **fields}
    return orjson.dumps(line, default=str, option=orjson.OPT_APPEND_NEWLINE)


class Buffer:
    """Collects the lines of a worker's requests and writes several at once: a system call costs more than a line.

    Lines wait `FLUSH_SECONDS` at most; a worker that is killed loses those. Outside an event loop nothing waits.
    """

    def __init__(self) -> None:
        self._lines: list[bytes] = []
        self._size = 0
        self._timer: asyncio.TimerHandle | None = None

    def write(self, event: str, fields: dict[str, Any]) -> None:
        """Add a line."""
        line = _line(event, fields)
        if self._size + len(line) > ATOMIC_BYTES:
            self.flush()
        self._lines.append(line)
        self._size += len(line)
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(FLUSH_SECONDS, self.flush)

    def flush(self) -> None:
        """Write what there is."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._lines:
            content = b"".join(self._lines)
            self._lines.clear()
            self._size = 0
            sys.stdout.buffer.write(content)
            sys.stdout.buffer.flush()


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
