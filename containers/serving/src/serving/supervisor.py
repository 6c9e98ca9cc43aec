"""Starts the workers, starts one again that ends, and stops them all.

The model is loaded once, here, and the workers are forks: they share its memory. A fork copies one thread only, so
it is safe only while there is no other: engines that start a pool (OpenMP, ONNX Runtime) would wait in the child for
threads that are not there. With one thread per prediction (the default) none of them starts a pool; this is checked
before the first fork. With more, every worker loads the model for itself.

All workers accept from one socket: whoever is idle takes the next connection, and when a worker dies, what waits in
the socket's queue is not lost with it.
"""

from __future__ import annotations

import contextlib
import gc
import os
import signal
import socket
import sys
import time
from pathlib import Path

from modelformat import ModelFormatError
from serving import logs
from serving.metrics import Metrics, Table
from serving.model import Model, load
from serving.settings import Settings

BACKLOG = 2048
CANNOT_START = 3  # exit code of a worker that cannot load the model
QUICK_SECONDS = 10.0
LONGEST_PAUSE_SECONDS = 10.0
SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGCHLD)


def serve(settings: Settings) -> int:
    """Serve until SIGTERM or SIGINT.

    Returns:
        the exit code: 0 after a drain, 1 when the port is taken, no worker could start, or one had to be killed.

    Raises:
        ModelFormatError: there is a model, and it cannot be served.
    """
    started = time.perf_counter()
    shared = settings.threads == 1
    model = load(settings) if shared else None
    seconds = round(time.perf_counter() - started, 3)
    try:
        family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
        listener = socket.create_server((settings.host, settings.port), family=family, backlog=BACKLOG)
    except OSError as error:
        logs.write("startup-failed", message=f"{settings.host}:{settings.port}: {error.strerror or error}")
        return 1
    if shared:
        _report(model, settings, seconds)
    return _Supervisor(settings, listener, model).run()


def _report(model: Model | None, settings: Settings, seconds: float) -> None:
    if model is None:
        logs.write("no-model", directory=str(settings.model_directory), seconds=seconds)
        return
    manifest = model.predictor.manifest
    logs.write(
        "model-loaded",
        family=manifest.family,
        engine=manifest.engine,
        task=manifest.task,
        features=len(manifest.features),
        version=model.version,
        digest=model.digest,
        seconds=seconds,
        workers=settings.workers,
    )


def other_threads() -> int:
    """Return how many threads this process has besides this one; those of libraries too, where the system tells."""
    tasks = Path("/proc/self/task")
    return sum(1 for _ in tasks.iterdir()) - 1 if tasks.is_dir() else 0


class _Supervisor:
    def __init__(self, settings: Settings, listener: socket.socket, model: Model | None) -> None:
        self._settings = settings
        self._listener = listener
        self._model = model
        self._table = Table(settings.workers)
        self._workers: dict[int, int] = {}  # process id -> number
        self._begun = [0.0] * settings.workers
        self._quick_ends = [0] * settings.workers
        self._due: dict[int, float] = {}  # number -> when to start it again

    def run(self) -> int:
        signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)  # they wait until they are asked for
        gc.collect()
        gc.freeze()  # the collector of a worker would write into, and so copy, all that is shared
        for number in range(self._settings.workers):
            self._start(number)
        while True:
            pause = max(0.0, min(self._due.values()) - time.monotonic()) if self._due else 60.0
            received = signal.sigtimedwait(SIGNALS, pause)
            if received and received.si_signo != signal.SIGCHLD:
                return self._stop()
            if self._collect(restart=True):
                self._stop()
                return 1
            for number in [number for number, due in self._due.items() if due <= time.monotonic()]:
                del self._due[number]
                self._table.restarts += 1
                self._start(number)

    def _start(self, number: int) -> None:
        if other_threads():
            raise RuntimeError("a library has started threads, so no worker can be forked")
        sys.stdout.flush()
        parent = os.getpid()
        self._begun[number] = time.monotonic()
        process = os.fork()
        if process:
            self._workers[process] = number
            return
        code = 1
        try:
            code = self._work(number, parent)
        except BaseException as error:
            logs.write("worker-failed", worker=number, **logs.where(error))
        finally:
            with contextlib.suppress(Exception):
                sys.stdout.flush()
            os._exit(code)  # nothing of the supervisor's is to be cleared away

    def _work(self, number: int, parent: int) -> int:
        from serving import worker

        signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)
        model, settings = self._model, self._settings
        if settings.threads > 1:
            started = time.perf_counter()
            try:
                model = load(settings)
            except ModelFormatError as error:
                logs.write("startup-failed", message=str(error))
                return CANNOT_START
            if number == 0:
                _report(model, settings, round(time.perf_counter() - started, 3))
        worker.run(self._listener, model, settings, Metrics(self._table, number), parent)
        return 0

    def _collect(self, *, restart: bool) -> bool:
        """Take note of ended workers. Returns whether one of them says that none can start."""
        hopeless = False
        while self._workers:
            process, status = os.waitpid(-1, os.WNOHANG)
            if not process:
                break
            number = self._workers.pop(process)
            code = os.waitstatus_to_exitcode(status)
            if not restart:
                continue
            hopeless |= code == CANNOT_START
            now = time.monotonic()
            quick = now - self._begun[number] < QUICK_SECONDS
            self._quick_ends[number] = self._quick_ends[number] + 1 if quick else 0
            # At once the first time, later not, so that one that always ends does not take the machine.
            pause = (
                min(0.1 * 2 ** self._quick_ends[number], LONGEST_PAUSE_SECONDS) if self._quick_ends[number] > 1 else 0.0
            )
            self._due[number] = now + pause
            logs.write("worker-ended", worker=number, exit=code, restart_in=pause)
        return hopeless

    def _stop(self) -> int:
        """Let the workers drain, and end those that do not."""
        self._listener.close()
        self._due.clear()
        self._signal(signal.SIGTERM)
        deadline = time.monotonic() + self._settings.drain_seconds + 2
        while self._workers and (left := deadline - time.monotonic()) > 0:
            signal.sigtimedwait((signal.SIGCHLD,), min(left, 1.0))
            self._collect(restart=False)
        killed = len(self._workers)
        self._signal(signal.SIGKILL)
        for process in list(self._workers):
            os.waitpid(process, 0)
        logs.write("stopped", **({"killed": killed} if killed else {}))
        return 1 if killed else 0

    def _signal(self, number: signal.Signals) -> None:
        for process in self._workers:
            with contextlib.suppress(ProcessLookupError):
                os.kill(process, number)
