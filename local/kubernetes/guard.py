"""Kills what is left of the pods when the server is gone, however it ended.

Runs as a script of its own, with the standard library only. Reads `+<process group>` and `-<process group>`
lines from stdin; the kernel closes that pipe when the server dies, even by SIGKILL, and whatever group is
still listed then is killed. (PR_SET_PDEATHSIG would need a preexec_fn in a program with threads, reach only
the first process of a container, and exist on Linux only.)
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys


def main() -> None:
    """Follow the list until stdin ends, then kill every group on it."""
    for ignored in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(ignored, signal.SIG_IGN)
    groups: set[int] = set()
    for line in sys.stdin:
        group = int(line[1:])
        if line[0] == "+":
            groups.add(group)
        else:
            groups.discard(group)
    for group in groups:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(group, signal.SIGKILL)


if __name__ == "__main__":
    main()
