"""KubernetesPodOperator's XCom sidecar, without running it.

Its stop command is `kill -2 $(pgrep -u $(id -u) -f 'sh')`: harmless in a container, but on the host it would
interrupt every process of the user whose command line contains "sh". So the sidecar is no process here. The
commands the operator runs in it are recognised and answered; any other is refused, never executed.
"""

from __future__ import annotations

import asyncio
import re
from pathlib import Path

from local.kubernetes.processes import Exit

NAME = "airflow-xcom-sidecar"
_READ = re.compile(
    r"if \[ -s (?P<path>\S+) \]; then cat (?P=path); else echo (?P<empty>\w+); fi\s*|cat (?P<only>\S+)\s*"
)
_STOP = re.compile(r"kill -2 ")


class Sidecar:
    """Stands for the sidecar's process: runs until it is stopped."""

    pid = None
    peak_resident = 0

    def __init__(self, mounted: dict[str, Path]) -> None:
        self._mounted = mounted
        self._code: asyncio.Future[int] = asyncio.get_running_loop().create_future()

    def _end(self, code: int) -> None:
        if not self._code.done():
            self._code.set_result(code)

    @property
    def stopped(self) -> bool:
        """Whether it has ended."""
        return self._code.done()

    def terminate(self) -> None:
        """End at once (a real shell as process 1 would ignore SIGTERM and use up the grace period)."""
        self._end(143)

    def kill(self) -> None:
        """End as by SIGKILL."""
        self._end(137)

    async def wait(self) -> Exit:
        """Wait for the end."""
        return Exit(await self._code, 0.0)

    def answer(self, command: list[str]) -> bytes | None:
        """Return what reading the result file prints, or None for a command that is not known."""
        if len(command) != 3 or command[0] not in ("/bin/sh", "sh") or command[1] != "-c":
            return None
        if _STOP.search(command[2]):
            self._end(0)
            return b""
        match = _READ.fullmatch(command[2])
        if match is None:
            return None
        path = Path(match["path"] or match["only"])
        for mount, folder in self._mounted.items():
            if path.is_relative_to(mount):
                file = folder / path.relative_to(mount)
                if file.is_file() and file.stat().st_size:
                    return file.read_bytes()
        return f"{match['empty'] or ''}\n".encode()

    @staticmethod
    def is_shell(command: list[str]) -> bool:
        """Tell whether a command is the shell that gets its commands by stdin."""
        return command in (["/bin/sh"], ["sh"])

    def stdin(self, line: str) -> bool:
        """Follow one line of the shell; False for a command that is not known."""
        if _STOP.search(line):
            self._end(0)
            return True
        return not line.strip()
