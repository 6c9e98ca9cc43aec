"""What a service is, and in which order services start."""

from __future__ import annotations

import signal
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path


class NotReady(Exception):
    """The service does not answer yet; the message says what it did answer."""


class StartError(Exception):
    """The service cannot start; waiting longer does not help."""


@dataclass(frozen=True)
class Command:
    """A process to start."""

    argv: Sequence[str | Path]
    environment: Mapping[str, str]
    directory: Path
    airflow: Sequence[str] | None = None  # arguments of `airflow`, when the launcher is to start it instead


@dataclass(frozen=True)
class Service:
    """One part of the platform.

    Its life: `prepare`, then the process of `command`, then `ready` again and again until it raises
    nothing, then `finish`. All three may block; they run in a thread. With `again_seconds`, `ready` sees to something
    that may come undone: what it raises later is said in the supervisor's log, and it is tried again.
    """

    name: str
    needs: tuple[str, ...] = ()
    command: Callable[[], Command] | None = None  # None: a check of what others do
    job: bool = False  # whether the process ends when its work is done
    launcher: bool = False  # whether it is the process that others are forked from; it says itself when it is ready
    prepare: Callable[[], None] | None = None
    ready: Callable[[], None] | None = None
    finish: Callable[[], None] | None = None
    again_seconds: float | None = None  # how often to do `ready` again, as long as the platform runs
    port: int | None = None
    start_timeout: float = 120.0  # seconds
    stop_signal: signal.Signals = signal.SIGTERM
    stop_grace: float = 10.0  # seconds from the stop signal to the kill


def start_order(services: Sequence[Service]) -> list[list[Service]]:
    """Sort services into waves: each needs only members of earlier ones. Stopping goes the other way.

    Raises:
        ValueError: a need is not declared, or services need each other in a circle.
    """
    names = {service.name for service in services}
    for service in services:
        if unknown := set(service.needs) - names:
            raise ValueError(f"service {service.name!r} needs {sorted(unknown)[0]!r}, which is not declared")
    waves: list[list[Service]] = []
    placed: set[str] = set()
    remaining = list(services)
    while remaining:
        wave = [service for service in remaining if placed.issuperset(service.needs)]
        if not wave:
            raise ValueError(f"these services need each other: {', '.join(sorted(s.name for s in remaining))}")
        waves.append(wave)
        placed.update(service.name for service in wave)
        remaining = [service for service in remaining if service.name not in placed]
    return waves
