"""Stands between a program and the LocalStack it started: ends it, and removes its folder, when the program is gone.

Run as ``python -I -S localstack_guard.py FOLDER COMMAND…`` with a pipe for standard input. The kernel closes that
pipe when the program dies, even by SIGKILL. Standard library only, and in a session of its own, out of reach of a
terminal's Ctrl-C.
"""

from __future__ import annotations

import contextlib
import os
import select
import shutil
import signal
import subprocess
import sys
from pathlib import Path


def main() -> None:
    """Start the command, wait for the end of standard input, end the command."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda *_: None)  # not SIG_IGN, which the command would inherit
    folder, command = Path(sys.argv[1]), sys.argv[2:]
    with (folder / "log").open("ab") as log:
        child = subprocess.Popen(
            command, cwd=folder, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
        )
    (folder / "pid").write_text(str(child.pid))
    told = False
    while not select.select([sys.stdin], [], [], 0.2)[0]:
        if not told and child.poll() is not None:
            (folder / "exit-code").write_text(str(child.returncode))
            told = True
    if child.poll() is None:
        # Not politely: that takes it five seconds, and nothing of it is worth keeping.
        with contextlib.suppress(ProcessLookupError):
            os.killpg(child.pid, signal.SIGKILL)
        child.wait()
    shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    main()
