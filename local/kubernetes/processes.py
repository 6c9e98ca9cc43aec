"""Containers as process trees: start, output, memory, CPU time, end."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import psutil

_PAGE = os.sysconf("SC_PAGE_SIZE")


@dataclass(frozen=True)
class Row:
    """One process: parent, session, resident bytes, and a start time that tells reused ids apart."""

    parent: int
    session: int
    group: int
    resident: int
    started: float


def process_table() -> dict[int, Row]:
    """Return all processes. One pass for all containers: walking each tree on its own costs far more."""
    if Path("/proc/self/stat").exists():
        return _linux_table()
    table: dict[int, Row] = {}
    for process in psutil.process_iter(["ppid", "memory_info", "create_time"]):
        with contextlib.suppress(OSError):
            memory = process.info["memory_info"]
            table[process.pid] = Row(
                process.info["ppid"] or 0,
                os.getsid(process.pid),
                os.getpgid(process.pid),
                memory.rss if memory else 0,
                process.info["create_time"] or 0.0,
            )
    return table


def _linux_table() -> dict[int, Row]:
    table: dict[int, Row] = {}
    for name in os.listdir("/proc"):  # noqa: PTH208 - four times a second; Path objects cost more than the reading
        if not name.isdigit():
            continue
        try:
            with open(f"/proc/{name}/stat") as file:  # noqa: PTH123
                text = file.read()
        except OSError:
            continue
        # The command name is in parentheses and may hold anything; the fields after it are those of proc(5) from 3 on.
        fields = text[text.rindex(")") + 2 :].split()
        if fields[0] in "ZX":
            continue
        table[int(name)] = Row(
            int(fields[1]), int(fields[3]), int(fields[2]), int(fields[21]) * _PAGE, float(fields[19])
        )
    return table


class Guard:
    """The process that kills the containers if this one dies without doing so."""

    def __init__(self) -> None:
        script = Path(__file__).with_name("guard.py")
        self._process = subprocess.Popen(
            [sys.executable, "-I", "-S", str(script)],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            start_new_session=True,
            env={},
            text=True,
        )

    def _say(self, line: str) -> None:
        assert self._process.stdin is not None
        with contextlib.suppress(BrokenPipeError):
            self._process.stdin.write(f"{line}\n")
            self._process.stdin.flush()

    def add(self, group: int) -> None:
        """Have a process group killed when this process ends."""
        self._say(f"+{group}")

    def remove(self, group: int) -> None:
        """Forget a process group that is gone."""
        self._say(f"-{group}")

    def close(self) -> None:
        """End the guard, which kills what is still on its list."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait(timeout=5)


def start_problem(argv: list[str], error: Exception) -> str:
    """Return why a command cannot be started, in the words of the OCI runtime."""
    command = argv[0] if argv else ""
    if isinstance(error, FileNotFoundError):
        found = f"stat {command}: no such file or directory" if "/" in command else "executable file not found in $PATH"
    else:
        found = (error.strerror if isinstance(error, OSError) and error.strerror else str(error)).lower()
    return f'exec: "{command}": {found}: unknown'


@dataclass(frozen=True)
class Exit:
    """How a container ended: code as a shell reports it, CPU seconds of it and the children it waited for."""

    code: int
    cpu_seconds: float


@dataclass(eq=False)
class ContainerProcess:
    """A started container: the first process, in its own session, and everything that descends from it."""

    popen: subprocess.Popen[bytes]
    guard: Guard
    members: dict[int, float] = field(default_factory=dict)
    groups: set[int] = field(default_factory=set)
    peak_resident: int = 0
    over: bool = False

    @classmethod
    def start(
        cls, argv: list[str], env: dict[str, str], cwd: Path, guard: Guard, stdin: int = subprocess.DEVNULL
    ) -> ContainerProcess:
        """Start a container with stdout and stderr in one pipe; OSError when the command cannot be started."""
        popen = subprocess.Popen(
            argv,
            env=env,
            cwd=cwd,
            stdin=stdin,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            bufsize=0,
        )
        container = cls(popen, guard)
        container.join(popen.pid)
        return container

    @property
    def pid(self) -> int:
        """The first process, which is also its session and process group."""
        return self.popen.pid

    def join(self, group: int) -> None:
        """Take a process group for part of the container."""
        if group not in self.groups:
            self.groups.add(group)
            self.guard.add(group)

    def sample(self, table: dict[int, Row]) -> int:
        """Find the container's processes in a process table; returns their resident bytes together."""
        alive = {
            pid
            for pid, row in table.items()
            if pid == self.pid or row.session == self.pid or self.members.get(pid) == row.started
        }
        children: dict[int, list[int]] = {}
        for pid, row in table.items():
            children.setdefault(row.parent, []).append(pid)
        queue = list(alive)
        while queue:
            for child in children.get(queue.pop(), []):
                if child not in alive:
                    alive.add(child)
                    queue.append(child)
        self.members = {pid: table[pid].started for pid in alive}
        for pid in alive:
            # Launchers such as torchrun put workers into groups of their own. Another group's leader in our
            # tree is ours; the group of the server itself never is.
            if table[pid].group in alive:
                self.join(table[pid].group)
        resident = sum(table[pid].resident for pid in alive)
        self.peak_resident = max(self.peak_resident, resident)
        return resident

    def terminate(self) -> None:
        """Send SIGTERM to the first process, as the container runtime does."""
        if not self.over:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, signal.SIGTERM)

    def kill(self) -> None:
        """Send SIGKILL to every process of the container."""
        self.sample(process_table())
        for group in self.groups:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(group, signal.SIGKILL)
        for pid in self.members:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.kill(pid, signal.SIGKILL)

    async def wait(self) -> Exit:
        """Wait for the first process to end, then kill what it left behind, as the end of a container does."""
        status, usage = await _wait4(self.pid)
        self.over = True
        self.popen.returncode = os.waitstatus_to_exitcode(status)
        self.kill()
        for group in self.groups:
            self.guard.remove(group)
        code = self.popen.returncode
        return Exit(128 - code if code < 0 else code, usage)

    def abandon(self) -> None:
        """Kill and reap the container's processes without waiting in the event loop."""
        self.kill()
        self.popen.wait(timeout=5)
        self.over = True
        for group in self.groups:
            self.guard.remove(group)

    def read_output(self, received: Callable[[bytes], None], ended: Callable[[], None]) -> None:
        """Pass on the output as it comes, until every process that holds the pipe has closed it."""
        assert self.popen.stdout is not None
        stream = self.popen.stdout
        descriptor = stream.fileno()
        os.set_blocking(descriptor, False)
        loop = asyncio.get_running_loop()

        def readable() -> None:
            try:
                chunk = os.read(descriptor, 1 << 16)
            except BlockingIOError:
                return
            if chunk:
                received(chunk)
            else:
                loop.remove_reader(descriptor)
                stream.close()
                ended()

        loop.add_reader(descriptor, readable)


async def _wait4(pid: int) -> tuple[int, float]:
    """Reap a child; asyncio's own watchers do not tell what it used."""
    if hasattr(os, "pidfd_open"):
        loop = asyncio.get_running_loop()
        descriptor = os.pidfd_open(pid)
        ended = asyncio.Event()
        loop.add_reader(descriptor, ended.set)
        try:
            await ended.wait()
        finally:
            loop.remove_reader(descriptor)
            os.close(descriptor)
        _, status, usage = os.wait4(pid, 0)
    else:
        while True:
            reaped, status, usage = os.wait4(pid, os.WNOHANG)
            if reaped:
                break
            await asyncio.sleep(0.05)
    return status, usage.ru_utime + usage.ru_stime
