"""The log of a container: lines with the time they came, readable while they come."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from local.kubernetes.errors import ApiError, Causes

# The kubelet's containerLogMaxSize default, and the container runtime's limit for one line.
_MAX_BYTES = 10 * 1024 * 1024
_MAX_LINE = 1024 * 1024
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_TAIL_BYTES = 2048
_TAIL_LINES = 80


class ContainerLog:
    """Lines kept in memory up to the kubelet's limit, and all of them in a file that outlives the pod."""

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self.path = path
        self._file = path.open("ab", buffering=0)
        self._lines: deque[tuple[int, bytes]] = deque()
        self._first = 0
        self._size = 0
        self._partial = b""
        self.closed = asyncio.Event()
        self._changed = asyncio.Event()

    def write(self, chunk: bytes) -> None:
        """Add output, cut into lines."""
        if self.closed.is_set():
            return
        *lines, self._partial = (self._partial + chunk).split(b"\n")
        if len(self._partial) > _MAX_LINE:
            lines.append(self._partial)
            self._partial = b""
        for line in lines:
            self._add(line + b"\n")
        self._notify()

    def _add(self, line: bytes) -> None:
        at = time.time_ns()
        self._file.write(nanoseconds(at).encode() + b" " + line)
        self._lines.append((at, line))
        self._size += len(line)
        while self._size > _MAX_BYTES and len(self._lines) > 1:
            self._size -= len(self._lines.popleft()[1])
            self._first += 1

    def close(self) -> None:
        """End the log; a last line without a newline stays without one."""
        if self.closed.is_set():
            return
        if self._partial:
            self._add(self._partial)
            self._partial = b""
        self._file.close()
        self.closed.set()
        self._notify()

    def _notify(self) -> None:
        self._changed.set()
        self._changed = asyncio.Event()

    def tail(self) -> str:
        """Return the end of the log as a termination message: at most 2048 bytes and 80 lines."""
        text = b"".join(line for _, line in list(self._lines)[-_TAIL_LINES:])
        return text[-_TAIL_BYTES:].decode(errors="replace")

    async def read(self, options: LogOptions) -> AsyncIterator[bytes]:
        """Yield the chosen part of the log, and what follows it when asked to follow."""
        since = options.since()
        position = self._first
        if options.tail_lines is not None:
            newer = sum(1 for at, _ in self._lines if at >= since)
            position = self._first + len(self._lines) - min(options.tail_lines, newer)
        left = options.limit_bytes
        while True:
            changed = self._changed
            done = self.closed.is_set()
            position = max(position, self._first)
            chunk = bytearray()
            for index in range(position - self._first, len(self._lines)):
                at, line = self._lines[index]
                if at >= since:
                    chunk += (nanoseconds(at).encode() + b" " if options.timestamps else b"") + line
            position = self._first + len(self._lines)
            if left is not None:
                chunk = chunk[:left]
                left -= len(chunk)
            if chunk:
                yield bytes(chunk)
            if done or not options.follow or left == 0:
                return
            if changed is self._changed:
                await changed.wait()


def nanoseconds(at: int) -> str:
    """Return RFC 3339 with nine digits, from nanoseconds since the epoch."""
    return datetime.fromtimestamp(at // 10**9, UTC).strftime("%Y-%m-%dT%H:%M:%S") + f".{at % 10**9:09d}Z"


@dataclass(frozen=True)
class LogOptions:
    """The query of `GET .../log`."""

    container: str = ""
    follow: bool = False
    timestamps: bool = False
    previous: bool = False
    since_seconds: int | None = None
    since_time: datetime | None = None
    tail_lines: int | None = None
    limit_bytes: int | None = None

    def since(self) -> int:
        """Return the earliest time wanted, in nanoseconds since the epoch."""
        if self.since_seconds is not None:
            return time.time_ns() - self.since_seconds * 10**9
        # Whole microseconds: a float has no room for the nanoseconds since 1970.
        return (self.since_time - _EPOCH) // timedelta(microseconds=1) * 1000 if self.since_time else 0

    @classmethod
    def parse(cls, pod: str, query: Mapping[str, str]) -> LogOptions:
        """Read the query; 400 for what is not a number or a time, 422 for what is out of range."""
        since_time = None
        if text := query.get("sinceTime"):
            try:
                since_time = datetime.fromisoformat(text)
            except ValueError as error:
                raise ApiError(400, f"invalid sinceTime {text!r}: {error}") from error
            if since_time.tzinfo is None:
                raise ApiError(400, f"invalid sinceTime {text!r}: it has no time zone")
        options = cls(
            container=query.get("container", ""),
            follow=boolean(query, "follow"),
            timestamps=boolean(query, "timestamps"),
            previous=boolean(query, "previous"),
            since_seconds=integer(query, "sinceSeconds"),
            since_time=since_time,
            tail_lines=integer(query, "tailLines"),
            limit_bytes=integer(query, "limitBytes"),
        )
        causes = Causes()
        if options.tail_lines is not None and options.tail_lines < 0:
            causes.invalid("tailLines", options.tail_lines, "must be greater than or equal to 0")
        if options.limit_bytes is not None and options.limit_bytes < 1:
            causes.invalid("limitBytes", options.limit_bytes, "must be greater than 0")
        if options.since_seconds is not None and options.since_time is not None:
            causes.forbidden("", "at most one of `sinceTime` or `sinceSeconds` may be specified")
        if options.since_seconds is not None and options.since_seconds < 1:
            causes.invalid("sinceSeconds", options.since_seconds, "must be greater than 0")
        causes.raise_if_any("PodLogOptions", pod)
        return options


def boolean(query: Mapping[str, str], name: str) -> bool:
    """Read a query parameter as Go's strconv.ParseBool does; present without a value is true."""
    if name not in query:
        return False
    value = query[name]
    if value in ("", "1", "t", "T", "TRUE", "true", "True"):
        return True
    if value in ("0", "f", "F", "FALSE", "false", "False"):
        return False
    raise ApiError(400, f'strconv.ParseBool: parsing "{value}": invalid syntax')


def integer(query: Mapping[str, str], name: str) -> int | None:
    """Read a query parameter as a whole number."""
    value = query.get(name)
    if not value:
        return None
    try:
        return int(value)
    except ValueError as error:
        raise ApiError(400, f'strconv.ParseInt: parsing "{value}": invalid syntax') from error
