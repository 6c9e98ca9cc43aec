"""What was called, by name only: no parameters, no bodies."""

from __future__ import annotations

import re
import time
from collections import deque
from dataclasses import asdict, dataclass
from typing import Any

from local.emulators.calls import Call, signing_name

_KEPT = 200_000
_APPLICATION = re.compile(r"(?:^|\s)app/(\S+)")


@dataclass(frozen=True)
class Entry:
    """One call and how it ended."""

    at: float
    service: str
    action: str
    region: str
    status: int
    backend: str  # ministack, local-aws, shim, fault or front
    milliseconds: float
    application: str  # what the caller calls itself, by AWS_SDK_UA_APP_ID; empty for most


class Journal:
    """The calls since the start, or since the last clearing."""

    def __init__(self) -> None:
        self._entries: deque[Entry] = deque(maxlen=_KEPT)

    def add(self, call: Call, status: int, backend: str, began: float, agent: str = "") -> None:
        """Write down a call that began at this reading of the performance counter."""
        took = round((time.perf_counter() - began) * 1000, 1)
        named = _APPLICATION.search(agent)
        application = named[1] if named else ""
        self._entries.append(
            Entry(time.time(), call.service, call.action, call.region, status, backend, took, application)
        )

    def clear(self) -> None:
        """Forget everything."""
        self._entries.clear()

    def find(self, service: str = "", action: str = "") -> list[dict[str, Any]]:
        """Return the calls of a service (by its name or its signing name) and operation; empty means any."""
        wanted = signing_name(service) if service else ""
        return [
            asdict(entry)
            for entry in self._entries
            if (not wanted or entry.service == wanted) and (not action or entry.action == action)
        ]
