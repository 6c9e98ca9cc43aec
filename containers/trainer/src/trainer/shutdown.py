"""What happens on SIGTERM: a pod is evicted, deleted, or its deadline has passed.

A thread hears of the signal at once, whatever the main thread computes, cleans up and ends the process. Raising an
exception from a signal handler instead would let it surface anywhere, within callbacks of C libraries too, some of
which swallow it and some of which crash. Who has something to save asks for time with `cooperative` and looks at
`requested` where it can end; the process ends anyhow when the time is over.
"""

from __future__ import annotations

import logging
import os
import shutil
import signal
import socket
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

GRACE_SECONDS = 25.0
"""From the signal to the end at the latest, unless ``TRAINER_GRACE_SECONDS`` says otherwise. Kubernetes kills after
``terminationGracePeriodSeconds``, 30 unless set; that has to be more."""
CLEAN_UP_SECONDS = 10.0
"""Most time of it the clean-up may take."""

log = logging.getLogger(__name__)
_actions: list[Callable[[], None]] = []
_requested = threading.Event()
_reserved: list[float] = []


@contextmanager
def on_stop(action: Callable[[], None]) -> Iterator[None]:
    """Have an action done if the process is ended within the block because it was told to stop."""
    _actions.append(action)
    try:
        yield
    finally:
        _actions.remove(action)


@contextmanager
def cooperative(reserve_seconds: float = CLEAN_UP_SECONDS) -> Iterator[None]:
    """Have the process go on when told to stop within the block: it has the grace period to end by itself.

    Args:
        reserve_seconds: so much of the grace period is kept for the clean-up, should it not end by itself.
    """
    _reserved.append(reserve_seconds)
    try:
        yield
    finally:
        _reserved.pop()


def requested() -> bool:
    """Tell whether the process was told to stop."""
    return _requested.is_set()


@contextmanager
def scratch_folder() -> Iterator[Path]:
    """Make a temporary folder that goes at the end of the block, and when the process is told to stop."""
    with tempfile.TemporaryDirectory() as name, on_stop(lambda: shutil.rmtree(name, ignore_errors=True)):
        yield Path(name)


def install() -> None:
    """Handle SIGTERM from now on. Call it in the main thread."""
    heard, told = socket.socketpair()
    told.setblocking(False)
    # Python's own handlers wait until the main thread comes back from C, which can take minutes; a byte for each
    # signal is written here at once.
    signal.set_wakeup_fd(told.fileno(), warn_on_full_buffer=False)
    signal.signal(signal.SIGTERM, _heard_elsewhere)
    os.register_at_fork(after_in_child=_uninstall)
    threading.Thread(target=_watch, args=(heard, told), name="shutdown", daemon=True).start()


def _heard_elsewhere(signal_number: int, frame: FrameType | None) -> None:
    """Note it. That there is a handler at all is what keeps the process alive."""
    _requested.set()


def _uninstall() -> None:
    """A forked worker that is ended must not end its parent, whose socket it has."""
    signal.set_wakeup_fd(-1)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)


def _watch(heard: socket.socket, told: socket.socket) -> None:
    while (number := heard.recv(1)[0]) != signal.SIGTERM:
        pass
    started = time.monotonic()
    _requested.set()
    if _reserved:
        # The main thread ends the process; after this time it is ended.
        time.sleep(max(0.0, grace() - min(_reserved[-1], grace() / 2)))
        print("it did not come to an end in time; what it did since its last checkpoint is lost", file=sys.stderr)
    # In a thread of its own: the main one may hold a lock that an action needs, and then time decides.
    thread = threading.Thread(target=_clean_up, daemon=True)
    thread.start()
    thread.join(min(CLEAN_UP_SECONDS, max(1.0, grace() - (time.monotonic() - started))))
    sys.stdout.flush()
    print(f"stopped by signal {number}", file=sys.stderr, flush=True)
    os._exit(128 + number)


def grace() -> float:
    """Return how many seconds the process has from SIGTERM to its end."""
    try:
        return max(0.0, float(os.environ.get("TRAINER_GRACE_SECONDS", GRACE_SECONDS)))
    except ValueError:
        return GRACE_SECONDS


def _clean_up() -> None:
    for action in reversed(_actions):
        try:
            action()
        except Exception:
            log.exception("clean-up failed")
