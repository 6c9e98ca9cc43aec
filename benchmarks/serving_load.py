"""Asks a server the same thing over and over: `python -m benchmarks.serving_load PORT FILE`, in serving's environment.

A process of its own that does as little as it can: the request is bytes that are ready in FILE, a client is a
connection that is kept, and of an answer only status and length are read. Prints one JSON object; `busy` is this
process's share of a core while it measured: near 1 it was the bottleneck.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import cast

from benchmarks.serving_table import percentile

PATIENCE_SECONDS = 60.0
"""For the answers that are still missing at the end."""
PAUSE_SECONDS = 0.05
"""Between a lost connection and the next try."""


class Tally:
    """What all clients saw from `begin` on; before that is warming up."""

    def __init__(self) -> None:
        self.counting = self.stopping = False
        self.latencies: list[float] = []
        self.failed = 0
        self.first_failure: str | None = None

    def fail(self, reason: str) -> None:
        """Count a request without a good answer."""
        self.failed += 1
        self.first_failure = self.first_failure or reason


class Client(asyncio.Protocol):
    """Sends the request again as soon as it is answered."""

    def __init__(self, request: bytes, tally: Tally) -> None:
        self.done = asyncio.Event()
        self._request = request
        self._tally = tally
        self._transport: asyncio.Transport | None = None
        self._received = b""
        self._waiting = False
        self._began = 0.0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin."""
        self._transport = cast(asyncio.Transport, transport)  # uvloop's is no subclass of it
        self._send()

    def data_received(self, data: bytes) -> None:
        """Read on; at an answer's end send again."""
        received = self._received = self._received + data if self._received else data
        end = received.find(b"\r\n\r\n")
        if end < 0:
            return
        length = content_length(received[:end])
        if length is None:
            self._end("an answer without Content-Length, which this load generator cannot read")
            return
        if len(received) < end + 4 + length:
            return
        tally = self._tally
        self._waiting = False
        if received[9:12] != b"200":
            tally.fail(received[: end + 4 + length][:500].decode(errors="replace"))
        elif tally.counting and not tally.stopping:
            tally.latencies.append(time.perf_counter() - self._began)
        self._received = b""
        self._send()

    def connection_lost(self, exc: Exception | None) -> None:
        """Say so; `ask` connects again."""
        if self._waiting:
            self._tally.fail(f"connection lost: {exc or 'closed by the server'}")
        self.done.set()

    def _send(self) -> None:
        assert self._transport is not None
        if self._tally.stopping or self._transport.is_closing():
            self._end(None)
            return
        self._waiting = True
        self._began = time.perf_counter()
        self._transport.write(self._request)

    def _end(self, failure: str | None) -> None:
        assert self._transport is not None
        if failure:
            self._tally.fail(failure)
        self._waiting = False
        self._transport.close()


def content_length(head: bytes) -> int | None:
    """Return the Content-Length of an answer's head, None without one."""
    lowered = head.lower()
    place = lowered.find(b"\r\ncontent-length:")
    return None if place < 0 else int(lowered[place + 17 :].partition(b"\r\n")[0])


async def ask(port: int, request: bytes, tally: Tally) -> None:
    """Be one client until `tally.stopping`, with a new connection whenever one ends."""
    while not tally.stopping:
        client = Client(request, tally)
        try:
            await asyncio.get_running_loop().create_connection(partial(lambda one: one, client), "127.0.0.1", port)
        except OSError as error:
            tally.fail(f"no connection: {error}")
        else:
            await client.done.wait()
        if not tally.stopping:
            await asyncio.sleep(PAUSE_SECONDS)


async def load(port: int, request: bytes, clients: int, warm_up: float, seconds: float) -> dict[str, object]:
    """Ask with so many clients; return what is printed."""
    tally = Tally()
    tasks = [asyncio.ensure_future(ask(port, request, tally)) for _ in range(clients)]
    await asyncio.sleep(warm_up)
    tally.counting = True
    began, cpu = time.perf_counter(), time.process_time()
    await asyncio.sleep(seconds)
    tally.stopping = True
    took, cpu = time.perf_counter() - began, time.process_time() - cpu
    _, late = await asyncio.wait(tasks, timeout=PATIENCE_SECONDS)
    for task in late:
        tally.fail(f"no answer within {PATIENCE_SECONDS:.0f} s")
        task.cancel()
    latencies = tally.latencies
    return {
        "requests": len(latencies),
        "rate": len(latencies) / took,
        "p50": percentile(latencies, 50) * 1000 if latencies else None,
        "p99": percentile(latencies, 99) * 1000 if latencies else None,
        "busy": cpu / took,
        "failed": tally.failed,
        "first_failure": tally.first_failure,
    }


def main(argv: Sequence[str] | None = None) -> None:
    """Ask and print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("port", type=int)
    parser.add_argument("request", type=Path, help="file of one whole HTTP request")
    parser.add_argument("--clients", type=int, default=1)
    parser.add_argument("--warm-up", type=float, default=0.3, help="seconds that do not count")
    parser.add_argument("--seconds", type=float, default=2.0)
    options = parser.parse_args(argv)
    import uvloop  # in serving's environment only

    request = options.request.read_bytes()
    print(json.dumps(uvloop.run(load(options.port, request, options.clients, options.warm_up, options.seconds))))


if __name__ == "__main__":
    main()
