"""Processes and their trees: find all that belong to a platform, and end them.

Three traces lead to a process. It descends from a recorded one; it is in the session of a recorded one
(every service leads a session of its own, and what it forks stays in it unless it asks otherwise); its
environment names the platform's home (pods and model servers have sessions of their own and may outlive
their parent). None is enough alone: parents die, and PostgreSQL and Airflow overwrite their environment
with a process title.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import sys
import time
from collections.abc import Iterable
from pathlib import Path

import psutil

from local.platform.state import PlatformState, ProcessId

# Set by the supervisor alone, for what it starts; never by people, whose shells must not be swept away.
MARKER = "ML_PLATFORM_SUPERVISED_BY"

_GONE = (psutil.NoSuchProcess, psutil.AccessDenied, psutil.ZombieProcess)


def identify(pid: int) -> ProcessId | None:
    """Return the lasting identity of a running process, or None when it is gone."""
    try:
        return ProcessId(pid=pid, create_time=psutil.Process(pid).create_time())
    except _GONE:
        return None


def find(identity: ProcessId | None) -> psutil.Process | None:
    """Return the process if it still runs; a later process with its number does not count."""
    if identity is None:
        return None
    try:
        process = psutil.Process(identity.pid)
        # create_time is derived from the boot time, which clock adjustments move a little.
        same = abs(process.create_time() - identity.create_time) < 1.0
        return process if same and process.status() != psutil.STATUS_ZOMBIE else None
    except _GONE:
        return None


def become_subreaper() -> bool:
    """Have orphaned descendants become children of this process instead of init's (Linux)."""
    if sys.platform != "linux":
        return False
    pr_set_child_subreaper = 36
    return bool(ctypes.CDLL(None, use_errno=True).prctl(pr_set_child_subreaper, 1, 0, 0, 0) == 0)


def reap(keep: Iterable[int]) -> None:
    """Collect dead adopted children; those in ``keep`` have somebody else waiting for them."""
    kept = set(keep)
    for child in psutil.Process().children():
        with contextlib.suppress(*_GONE, ChildProcessError):
            if child.pid not in kept and child.status() == psutil.STATUS_ZOMBIE:
                os.waitpid(child.pid, os.WNOHANG)


def descendants(process: psutil.Process) -> list[psutil.Process]:
    """Return the processes below one, near and far."""
    try:
        return process.children(recursive=True)
    except _GONE:
        return []


def in_sessions(leaders: Iterable[ProcessId]) -> list[psutil.Process]:
    """Return the processes of the sessions these processes led, or still lead."""
    # Where a leader's number was given to another process since, the session of that number is not ours.
    ours = {leader.pid: leader for leader in leaders if find(leader) or not _taken_over(leader)}
    members = []
    for process in psutil.process_iter():
        with contextlib.suppress(*_GONE, ProcessLookupError, PermissionError):
            found = ours.get(os.getsid(process.pid))
            if found and process.create_time() >= found.create_time - 1.0:
                members.append(process)
    return members


def _taken_over(identity: ProcessId) -> bool:
    try:
        return psutil.Process(identity.pid).create_time() > identity.create_time + 1.0
    except _GONE:
        return False


def marked(home: Path) -> list[psutil.Process]:
    """Return the processes whose environment says that this home's supervisor started them."""
    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(*_GONE, OSError):
            if process.environ().get(MARKER) == str(home):
                found.append(process)
    return found


def belonging(home: Path, state: PlatformState | None) -> list[psutil.Process]:
    """Return every living process of a platform, without this one and its ancestors."""
    recorded = []
    if state is not None:
        recorded = [state.supervisor, *(s.process for s in state.services.values() if s.process is not None)]
    roots = [process for identity in recorded if (process := find(identity))]
    roots += in_sessions(recorded)
    roots += marked(home)
    found = {process.pid: process for root in roots for process in [root, *descendants(root)]}
    own = psutil.Process()
    for excluded in [own, *own.parents()]:
        found.pop(excluded.pid, None)
    return [process for process in found.values() if _lives(process)]


def _lives(process: psutil.Process) -> bool:
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except _GONE:
        return False


def send(processes: Iterable[psutil.Process], number: signal.Signals) -> None:
    """Send a signal to those that still exist."""
    for process in processes:
        with contextlib.suppress(*_GONE):
            process.send_signal(number)


def end_all(home: Path, state: PlatformState | None, grace: float = 5.0) -> int:
    """End every process of a platform: politely, then by force, until none is left.

    Returns:
        How many there were.

    Raises:
        RuntimeError: some cannot be ended; the message lists them.
    """
    found = belonging(home, state)
    total = len(found)
    send(found, signal.SIGTERM)
    psutil.wait_procs(found, timeout=grace)
    for _ in range(20):
        found = belonging(home, state)
        if not found:
            return total
        send(found, signal.SIGKILL)
        psutil.wait_procs(found, timeout=0.5)
    left = ", ".join(f"{process.pid} ({process.name()})" for process in found)
    raise RuntimeError(f"these processes do not end, not even when killed: {left}")


def tail(path: Path, lines: int, limit: int = 64 * 1024) -> str:
    """Return the last lines of a text file; empty when there is none."""
    try:
        with path.open("rb") as file:
            file.seek(0, os.SEEK_END)
            file.seek(max(0, file.tell() - limit))
            text = file.read().decode(errors="replace")
    except OSError:
        return ""
    return "\n".join(text.rstrip().splitlines()[-lines:])


def wait_until_gone(identity: ProcessId, timeout: float) -> bool:
    """Wait for a process that is not a child of this one."""
    deadline = time.monotonic() + timeout
    while time.monotonic() < deadline:
        if find(identity) is None:
            return True
        time.sleep(0.05)
    return find(identity) is None
