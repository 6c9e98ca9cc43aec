"""What is known about a platform's processes: ``state.json``, written by the supervisor, read by everyone."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, ValidationError

ServiceStatus = Literal["waiting", "starting", "healthy", "done", "failed", "crashed", "stopping", "stopped"]
Phase = Literal["starting", "running", "failed", "stopping", "stopped"]

UP: frozenset[ServiceStatus] = frozenset({"healthy", "done"})
BROKEN: frozenset[ServiceStatus] = frozenset({"failed", "crashed"})


class _Document(BaseModel):
    model_config = ConfigDict(extra="forbid")


class ProcessId(_Document):
    """A process, told apart from a later one that got the same number."""

    pid: int
    create_time: float


class ServiceState(_Document):
    """One service. Times are seconds since 1970."""

    state: ServiceStatus = "waiting"
    process: ProcessId | None = None
    port: int | None = None
    since: float
    took: float | None = None
    error: str | None = None
    log: str


class PlatformState(_Document):
    """A platform: its supervisor and its services in the order they were declared."""

    version: Literal[1] = 1
    home: str
    phase: Phase
    supervisor: ProcessId
    started_at: float
    healthy_after: float | None = None
    error: str | None = None
    ports: dict[str, int] = {}
    addresses: dict[str, str] = {}
    services: dict[str, ServiceState] = {}

    @property
    def broken(self) -> dict[str, ServiceState]:
        """The services that failed to start, or ended though nobody asked them to."""
        return {name: service for name, service in self.services.items() if service.state in BROKEN}


def write_state(path: Path, state: PlatformState) -> None:
    """Replace the file in one step: readers see the old content or the new, never half."""
    partial = path.with_suffix(".partial")
    partial.write_text(state.model_dump_json(indent=2), encoding="utf-8")
    partial.replace(path)


def read_state(path: Path) -> PlatformState | None:
    """Return the state, or None where there is none, or none that this version understands."""
    try:
        return PlatformState.model_validate_json(path.read_bytes())
    except (FileNotFoundError, NotADirectoryError, ValidationError):
        return None
