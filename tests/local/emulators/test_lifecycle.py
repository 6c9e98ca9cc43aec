"""Nothing of an account outlives who started it; the command line adopts what runs."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from local.emulators import EmulatedAws
from local.emulators.emulated import healthy
from local.platform.home import ROOT, PlatformError
from local.platform.ports import is_free


def _family(pid: int) -> list[psutil.Process]:
    process = psutil.Process(pid)
    return [process, *process.children(recursive=True)]


def _left(processes: list[psutil.Process], seconds: float) -> list[psutil.Process]:
    _, alive = psutil.wait_procs(processes, timeout=seconds)
    return [process for process in alive if process.status() != psutil.STATUS_ZOMBIE]


def test_stop_leaves_no_process_and_no_port(tmp_path: Path) -> None:
    with EmulatedAws(tmp_path) as aws:
        assert aws._process is not None
        family = _family(aws._process.pid)
        assert len(family) == 3
    assert _left(family, 1) == []
    assert is_free(aws.port)
    aws.stop()


def test_the_account_ends_with_a_killed_test_run(tmp_path: Path) -> None:
    script = (
        "import sys, time; from pathlib import Path; from local.emulators import EmulatedAws\n"
        "aws = EmulatedAws(Path(sys.argv[1])); aws.start(); print(aws._process.pid, flush=True); time.sleep(600)"
    )
    runner = subprocess.Popen(
        [sys.executable, "-c", script, str(tmp_path)],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        text=True,
    )
    assert runner.stdout is not None
    family = _family(int(runner.stdout.readline()))
    runner.kill()
    runner.wait()
    assert _left(family, 20) == []


def test_backends_end_with_a_killed_front(tmp_path: Path) -> None:
    with EmulatedAws(tmp_path) as aws:
        assert aws._process is not None
        family = _family(aws._process.pid)
        os.kill(aws._process.pid, signal.SIGKILL)
        assert _left(family, 10) == []


def test_a_backend_that_died_is_no_health(tmp_path: Path) -> None:
    with EmulatedAws(tmp_path) as aws:
        assert aws._process is not None
        ministack = next(p for p in _family(aws._process.pid) if "ministack" in p.cmdline()[-1])
        ministack.kill()
        deadline = time.monotonic() + 10
        while healthy(aws.url, aws._process.pid) and time.monotonic() < deadline:
            time.sleep(0.1)
        assert not healthy(aws.url, aws._process.pid)


def test_two_accounts_are_two_accounts(tmp_path: Path) -> None:
    with EmulatedAws(tmp_path / "a") as one, EmulatedAws(tmp_path / "b") as other:
        one.client("s3").create_bucket(Bucket="only-here")
        assert other.client("s3").list_buckets()["Buckets"] == []


def test_a_start_that_fails_says_why(tmp_path: Path) -> None:
    with EmulatedAws(tmp_path / "a") as running:
        other = EmulatedAws(tmp_path / "b")
        other._ports.reserve = lambda usual: running.port  # type: ignore[method-assign]
        with pytest.raises(PlatformError, match="did not start"):
            other.start()


def test_up_adopts_what_runs_and_down_stops_it(tmp_path: Path) -> None:
    def run(command: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "local.emulators", command, "--folder", str(tmp_path)],
            cwd=ROOT,
            capture_output=True,
            text=True,
        )

    assert run("status").returncode == 1
    first = run("up")
    try:
        assert first.returncode == 0, first.stderr
        second = run("up")
        assert second.stdout == first.stdout
        assert "up already" in second.stderr
        assert run("status").stdout == first.stdout
        script = (
            f"{first.stdout}\n{sys.executable} -c \"import boto3; print(boto3.client('mwaa').list_environments())\""
        )
        shell = subprocess.run(["sh", "-c", script], capture_output=True, text=True)
        assert "'Environments': []" in shell.stdout, shell.stderr
    finally:
        stopped = run("down")
    assert "stopped" in stopped.stderr
    assert run("status").returncode == 1
    assert "not running" in run("down").stderr
