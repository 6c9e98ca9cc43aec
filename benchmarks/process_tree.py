"""What a command costs with every process below it: told to who runs `python -m benchmarks.process_tree`.

Linux adds a process's time up when its parent waits for it, and a daemon has no parent left. So a process of its own
runs the command, takes in the orphans below it and waits for them too. (On other systems daemons are not counted.)
"""

from __future__ import annotations

import contextlib
import json
import os
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO

import psutil

from local.platform.processes import become_subreaper

ROOT = Path(__file__).resolve().parents[1]
GRACE = 5.0
"""Seconds that daemons get to end after the command has."""


@dataclass(frozen=True)
class Cost:
    """How a command ended, the seconds it took, those of all processors, and what it left running."""

    returncode: int
    wall: float
    cpu: float
    left: tuple[str, ...] = ()


class Measured:
    """A command that was started below a process that measures it."""

    def __init__(self, command: Sequence[str], output: IO[bytes], grace: float = GRACE) -> None:
        self._report, report = os.pipe()
        measuring = [sys.executable, "-m", "benchmarks.process_tree", str(report), str(grace), *command]
        self._process = subprocess.Popen(
            measuring, cwd=ROOT, stdout=output, stderr=subprocess.STDOUT, pass_fds=(report,)
        )
        os.close(report)

    def wait(self) -> Cost:
        """Wait for its end and that of what it started."""
        self._process.wait()
        with os.fdopen(self._report, encoding="utf-8") as report:
            found = json.load(report)
        return Cost(**found | {"left": tuple(found["left"])})

    def terminate(self) -> None:
        """Ask it to end."""
        self._process.terminate()


def main() -> int:
    """Run a command to its end and report its cost."""
    report, grace, *command = sys.argv[1:]
    os.set_inheritable(int(report), False)
    become_subreaper()
    began = time.monotonic()
    # No signal comes between the start of the command and the handlers that know it.
    signal.pthread_sigmask(signal.SIG_BLOCK, (signal.SIGTERM, signal.SIGINT))
    child = os.posix_spawnp(command[0], command, os.environ, setsigmask=())
    signal.signal(signal.SIGTERM, lambda *_: os.kill(child, signal.SIGTERM))
    # The terminal interrupts the command as well, which may have something to put in order.
    signal.signal(signal.SIGINT, lambda *_: None)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, (signal.SIGTERM, signal.SIGINT))
    ended = 0
    while ended != child:
        ended, status = os.wait()
    wall = time.monotonic() - began
    _wait_for_orphans(float(grace))
    cpu, left = _living()
    waited_for = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu += waited_for.ru_utime + waited_for.ru_stime
    cost = Cost(os.waitstatus_to_exitcode(status), wall, cpu, tuple(left))
    with os.fdopen(int(report), "w", encoding="utf-8") as file:
        json.dump(asdict(cost), file)
    return cost.returncode


def _wait_for_orphans(grace: float) -> None:
    deadline = time.monotonic() + grace
    with contextlib.suppress(ChildProcessError):  # none is left
        while time.monotonic() < deadline:
            ended, _ = os.waitpid(-1, os.WNOHANG)
            if not ended:
                time.sleep(0.05)


def _living() -> tuple[float, list[str]]:
    """Return the seconds and the command lines of what still runs."""
    cpu, commands = 0.0, []
    for process in psutil.Process().children(recursive=True):
        with contextlib.suppress(psutil.Error):
            times = process.cpu_times()
            cpu += times.user + times.system + times.children_user + times.children_system
            commands.append(" ".join(process.cmdline()))
    return cpu, commands


if __name__ == "__main__":
    sys.exit(main())
