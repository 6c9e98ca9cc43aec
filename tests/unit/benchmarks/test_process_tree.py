"""The cost of a command, daemons included."""

from __future__ import annotations

import os
import signal
import sys
import tempfile
from pathlib import Path

import pytest

from benchmarks.process_tree import Cost, Measured

COMPUTE = "import time\nwhile time.process_time() < 0.5: pass"


def measure(*command: str, grace: float = 60) -> tuple[Cost, str]:
    with tempfile.TemporaryFile() as output:
        cost = Measured(command, output, grace).wait()
        output.seek(0)
        return cost, output.read().decode()


def test_a_command_and_its_children_count() -> None:
    cost, output = measure("sh", "-c", f"{sys.executable} -c '{COMPUTE}'; echo out; echo err >&2; exit 3")

    assert (cost.returncode, output, cost.left) == (3, "out\nerr\n", ())
    assert cost.cpu >= 0.5
    assert cost.wall >= 0.5


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux lets a process take in orphans")
def test_a_daemon_counts_without_a_parent() -> None:
    cost, _ = measure("sh", "-c", f"(setsid {sys.executable} -c '{COMPUTE}' &)")

    assert cost.left == ()
    assert cost.cpu >= 0.5


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux lets a process take in orphans")
def test_what_still_runs_is_named(tmp_path: Path) -> None:
    ready = tmp_path / "ready"
    program = f"import os, time; open('{ready}', 'w').write(str(os.getpid())); time.sleep(61)"
    cost, _ = measure("sh", "-c", f'({sys.executable} -c "{program}" &); until test -s {ready}; do :; done', grace=0)
    os.kill(int(ready.read_text()), signal.SIGKILL)

    assert cost.left == (f"{sys.executable} -c {program}",)


def test_a_command_can_be_told_to_end(tmp_path: Path) -> None:
    ready = tmp_path / "ready"
    os.mkfifo(ready)
    with tempfile.TemporaryFile() as output:
        command = Measured(["sh", "-c", f"trap 'exit 7' TERM; echo > {ready}; while :; do sleep 0.05; done"], output)
        ready.read_text()
        command.terminate()

        assert command.wait().returncode == 7
