"""Log lines as JSON objects on stdout, one per event. Never a request's or a response's body."""

from __future__ import annotations

import logging
import sys
from datetime import UTC, datetime
from typing import Any

import orjson


def write(event: str, **fields: Any) -> None:
    """Write one line."""
    line = {"time": datetime.now(UTC).isoformat(timespec="milliseconds"), "event": event, **fields}
    sys.stdout.buffer.write(orjson.dumps(line, default=str, option=orjson.OPT_APPEND_NEWLINE))
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
