"""Our side of ``local/airflow/launcher.py``: processes forked from one that has Airflow loaded."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import socket
import sys
from typing import Protocol

from local.platform.service import StartError


class Child(Protocol):
    """A process that can be waited for; ``asyncio.subprocess.Process`` is one."""

    @property
    def pid(self) -> int:
        """Its number."""
        ...

    @property
    def returncode(self) -> int | None:
        """Exit code, or a signal's negative number; None while it runs."""
        ...

    async def wait(self) -> int:
        """Wait for its end; returns the exit code."""
        ...

    def send_signal(self, signal: int) -> None:
        """Send a signal."""
        ...


def is_supported() -> bool:
    """Whether orphans can be adopted and waited for here."""
    return sys.platform == "linux" and hasattr(os, "pidfd_open")


class AdoptedProcess:
    """A process that somebody else started and that became this process's child."""

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self.returncode: int | None = None
        self._descriptor = os.pidfd_open(pid)
        self._ended = asyncio.Event()
        asyncio.get_running_loop().add_reader(self._descriptor, self._collect)

    async def wait(self) -> int:
        """Wait for its end; returns the exit code, or the negative number of a signal."""
        await self._ended.wait()
        assert self.returncode is not None
        return self.returncode

    def send_signal(self, number: int) -> None:
        """Send a signal, unless it has ended."""
        if self.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                signal.pidfd_send_signal(self._descriptor, number)

    def _collect(self) -> None:
        asyncio.get_running_loop().remove_reader(self._descriptor)
        try:
            _, status = os.waitpid(self.pid, 0)
            self.returncode = os.waitstatus_to_exitcode(status)
        except ChildProcessError:  # somebody else collected it: how it ended is not known
            self.returncode = 255
        os.close(self._descriptor)
        self._ended.set()


class Launcher:
    """The connection to a launcher process."""

    def __init__(self) -> None:
        self._own, self.theirs = socket.socketpair()
        self._reader: asyncio.StreamReader | None = None
        self._writer: asyncio.StreamWriter | None = None
        self._turn = asyncio.Lock()

    async def until_ready(self) -> None:
        """Wait for the launcher's first line.

        Raises:
            StartError: it ended before.
        """
        self.theirs.close()
        self._reader, self._writer = await asyncio.open_connection(sock=self._own)
        await self._answer()

    async def start(self, argv: list[str], log: str) -> AdoptedProcess:
        """Start ``airflow <argv>`` with its output appended to ``log``."""
        assert self._writer is not None, "until_ready() comes first"
        async with self._turn:
            self._writer.write(json.dumps({"argv": argv, "log": log}).encode() + b"\n")
            answer = await self._answer()
        return AdoptedProcess(int(answer["pid"]))

    def close(self) -> None:
        """Let the launcher end."""
        if self._writer is not None:
            self._writer.close()
        for side in (self._own, self.theirs):
            side.close()

    async def _answer(self) -> dict[str, int]:
        assert self._reader is not None
        with contextlib.suppress(ConnectionError):
            if line := await self._reader.readline():
                answer: dict[str, int] = json.loads(line)
                return answer
        raise StartError("it ended before it was ready")
