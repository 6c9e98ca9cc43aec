"""What happens on SIGTERM: a pod is evicted, deleted, or its deadline has passed.

The handler cleans up and ends the process itself. Raising an exception from it instead would let it
surface anywhere, within callbacks of C libraries too, some of which swallow it and some of which crash.
"""

from __future__ import annotations

import logging
import os
import shutil
import signal
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

GRACE_SECONDS = 10.0
"""Most time the clean-up may take; Kubernetes waits 30 s before it kills."""

log = logging.getLogger(__name__)
_actions: list[Callable[[], None]] = []


@contextmanager
def on_stop(action: Callable[[], None]) -> Iterator[None]:
    """Have an action done if the process is told to stop within the block."""
    _actions.append(action)
    try:
        yield
    finally:
        _actions.remove(action)


@contextmanager
def scratch_folder() -> Iterator[Path]:
    """Make a temporary folder that goes at the end of the block, and when the process is told to stop."""
    with tempfile.TemporaryDirectory() as name, on_stop(lambda: shutil.rmtree(name, ignore_errors=True)):
        yield Path(name)


def install() -> None:
    """Handle SIGTERM from now on."""
    signal.signal(signal.SIGTERM, _stop)


def _stop(signal_number: int, frame: FrameType | None) -> None:
    # In a thread of its own: the main one may hold a lock that an action needs, and then time decides.
    thread = threading.Thread(target=_clean_up, daemon=True)
    thread.start()
    thread.join(GRACE_SECONDS)
    print(f"stopped by signal {signal_number}", file=sys.stderr, flush=True)
    os._exit(128 + signal_number)


def _clean_up() -> None:
    for action in reversed(_actions):
        try:
            action()
        except Exception:
            log.exception("clean-up failed")
