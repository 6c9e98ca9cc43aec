"""Fault injection, for tests: `POST /_local/faults`."""

from __future__ import annotations

import threading
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

Kind = Literal[
    "create-fails",
    "update-fails",
    "update-rolls-back-silently",
    "rollback-fails",
    "system-update",
    "invoke-5xx",
    "canary-5xx",
]


class Fault(BaseModel):
    """Something that goes wrong the next `times` times at one endpoint, or at any when none is named."""

    model_config = ConfigDict(extra="forbid")

    kind: Kind
    endpoint: str | None = None
    times: int = Field(default=1, ge=1)


class Faults:
    """The faults that are still to happen."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._faults: list[Fault] = []

    def add(self, fault: Fault) -> None:
        """Arm a fault."""
        with self._lock:
            self._faults.append(fault)

    def clear(self) -> None:
        """Disarm all faults."""
        with self._lock:
            self._faults.clear()

    def armed(self) -> list[Fault]:
        """Return copies of the faults that are still to happen."""
        with self._lock:
            return [fault.model_copy() for fault in self._faults]

    def strikes(self, kind: Kind, endpoint: str) -> bool:
        """Return whether a fault of this kind happens now, and count it."""
        with self._lock:
            for fault in self._faults:
                if fault.kind == kind and fault.endpoint in (None, endpoint):
                    fault.times -= 1
                    if fault.times == 0:
                        self._faults.remove(fault)
                    return True
        return False
