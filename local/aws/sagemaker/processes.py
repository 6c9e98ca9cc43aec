"""One serving process, kept alive: started, pinged, restarted after a crash, stopped with all its children."""

from __future__ import annotations

import contextlib
import http.client
import logging
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from local.aws.sagemaker.errors import DeploymentError

log = logging.getLogger(__name__)

PING_INTERVAL_SECONDS = 0.2
_PING_TIMEOUT_SECONDS = 2.0  # what the real service allows a container for an answer
_STOP_SECONDS = 4.0
_BACKOFF_SECONDS = (0.2, 1.0, 2.0, 5.0, 10.0)
_STABLE_SECONDS = 30.0
_LAUNCHER = Path(__file__).with_name("launch.py")


class Spawner:
    """Starts processes from one thread that lives as long as this process.

    The kernel sends the parent-death signal when the *thread* that forked ends, so a worker thread must not fork.
    """

    def __init__(self) -> None:
        self._executor = ThreadPoolExecutor(max_workers=1, thread_name_prefix="spawner")

    def spawn(
        self, command: list[str], env: dict[str, str], cwd: str | None, output: IO[bytes]
    ) -> subprocess.Popen[bytes]:
        """Start a command in a session of its own, both outputs into one file."""
        full = [sys.executable, "-I", "-S", str(_LAUNCHER), str(os.getpid()), *command]
        return self._executor.submit(self._spawn, full, env, cwd, output).result()

    @staticmethod
    def _spawn(command: list[str], env: dict[str, str], cwd: str | None, output: IO[bytes]) -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            command, env=env, cwd=cwd, stdin=subprocess.DEVNULL, stdout=output, stderr=output, start_new_session=True
        )


@dataclass(frozen=True)
class ServingSpec:
    """What one production variant runs."""

    variant: str
    command: list[str]
    env: dict[str, str]
    working_dir: str | None
    log_file: Path
    startup_seconds: float


class ServingProcess:
    """The process of one production variant; it stands for all instances of the variant."""

    def __init__(self, spec: ServingSpec, spawner: Spawner) -> None:
        self.spec = spec
        self._spawner = spawner
        self._stopping = threading.Event()
        self._first: Future[None] = Future()
        self._process: subprocess.Popen[bytes] | None = None
        self._port: int | None = None
        self._thread = threading.Thread(target=self._run, name=f"serving-{spec.variant}", daemon=True)

    @property
    def port(self) -> int | None:
        """Return the port on 127.0.0.1 that answers, None while nothing does."""
        return self._port

    def start(self) -> None:
        """Start; returns at once."""
        self._thread.start()

    def wait_healthy(self) -> None:
        """Wait for the first healthy ping; raises DeploymentError when there will be none."""
        self._first.result()

    def request_stop(self) -> None:
        """Ask the process group to end; returns at once."""
        self._stopping.set()
        self._signal(signal.SIGTERM)

    def stop(self) -> None:
        """End the process group, by force when it does not go by itself."""
        self.request_stop()
        if self._thread.ident is None:
            return
        self._thread.join(_STOP_SECONDS)
        if self._thread.is_alive():
            self._signal(signal.SIGKILL)
            self._thread.join(1.0)

    def _run(self) -> None:
        failures = 0
        while not self._stopping.is_set():
            started = time.monotonic()
            try:
                problem = self._serve_once()
            except Exception as error:
                problem = f"{type(error).__name__}: {error}"
            if problem and not self._first.done():
                self._first.set_exception(DeploymentError(self._health_failure(problem)))
                return
            if self._stopping.is_set():
                break
            failures = failures + 1 if time.monotonic() - started < _STABLE_SECONDS else 0
            delay = _BACKOFF_SECONDS[min(failures, len(_BACKOFF_SECONDS) - 1)]
            log.warning("serving process of variant %s ended (%s); restart in %s s", self.spec.variant, problem, delay)
            self._stopping.wait(delay)
        if not self._first.done():
            self._first.set_exception(DeploymentError("The endpoint was stopped while it was starting."))

    def _serve_once(self) -> str:
        """Run one process from start to end; return why it ended."""
        port = _free_port()
        env = {**self.spec.env, "SAGEMAKER_BIND_TO_PORT": str(port)}
        self.spec.log_file.parent.mkdir(parents=True, exist_ok=True)
        with self.spec.log_file.open("ab") as output:
            self._process = process = self._spawner.spawn(self.spec.command, env, self.spec.working_dir, output)
        try:
            if self._stopping.is_set():  # the signal may have come before the process
                return "stopped"
            if problem := self._wait_ping(process, port):
                return problem
            self._port = port
            if not self._first.done():
                self._first.set_result(None)
            return f"exit code {process.wait()}"
        finally:
            self._port = None
            self._kill_rest(process)

    def _wait_ping(self, process: subprocess.Popen[bytes], port: int) -> str | None:
        deadline = time.monotonic() + self.spec.startup_seconds
        while not self._stopping.is_set():
            healthy = ping(port)
            if process.poll() is not None:
                return f"exit code {process.returncode}"
            if healthy:
                return None
            if time.monotonic() >= deadline:
                return f"no healthy answer to /ping in {self.spec.startup_seconds:g} s"
            self._stopping.wait(PING_INTERVAL_SECONDS)
        return "stopped"

    def _kill_rest(self, process: subprocess.Popen[bytes]) -> None:
        if self._stopping.is_set() and process.poll() is None:
            _signal_group(process.pid, signal.SIGTERM)
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(_STOP_SECONDS)
        _signal_group(process.pid, signal.SIGKILL)  # also the children that a dead leader left behind
        process.wait()

    def _signal(self, number: signal.Signals) -> None:
        process = self._process
        if process is not None and process.returncode is None:
            _signal_group(process.pid, number)

    def _health_failure(self, problem: str) -> str:
        return (
            f"The primary container for production variant {self.spec.variant} did not pass the ping health check. "
            f"Please check CloudWatch logs for this endpoint. ({problem}; local log: {self.spec.log_file})"
        )


def ping(port: int) -> bool:
    """Return whether `GET /ping` answers 200 in time."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=_PING_TIMEOUT_SECONDS)
    try:
        connection.request("GET", "/ping")
        return connection.getresponse().status == 200
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


def _signal_group(leader: int, number: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):  # macOS: EPERM for a group of zombies
        os.killpg(leader, number)


_ports_lock = threading.Lock()
_recent_ports: list[int] = []


def _free_port() -> int:
    """Return a free port, not one handed out a moment ago to a process that has not bound it yet."""
    with _ports_lock:
        while True:
            with socket.socket() as probe:
                probe.bind(("127.0.0.1", 0))
                port = int(probe.getsockname()[1])
            if port not in _recent_ports:
                _recent_ports.append(port)
                del _recent_ports[:-32]
                return port
