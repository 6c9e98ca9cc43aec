"""Everything between an empty account (with bootstrap applied) and a platform that works, in order.

Each step finds out what is left for it to do, so that after a failure, or a closed laptop, the same command goes on.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

from cloud.errors import CloudError

Say = Callable[[str], None]


@dataclass(frozen=True)
class Step:
    """One part of the way up; `run` raises CloudError when it cannot be done."""

    name: str
    expected: str
    run: Callable[[], None]


def run_steps(steps: list[Step], first: str | None, say: Say) -> None:
    """Run the steps in order, beginning with `first`.

    Raises:
        CloudError: there is no such step, or one failed; the message says how to go on.
    """
    names = [step.name for step in steps]
    if first is not None and first not in names:
        raise CloudError(f"FROM={first!r} is not a step: choose one of {', '.join(names)}")
    start = names.index(first) if first else 0
    for number, step in enumerate(steps[start:], start + 1):
        say(f"[{number}/{len(steps)}] {step.name} (usually {step.expected})")
        begun = time.monotonic()
        try:
            step.run()
        except CloudError as error:
            raise CloudError(
                f"{step.name}: {error}\nMend it and run the same command again, or add FROM={step.name}"
            ) from None
        say(f"[{number}/{len(steps)}] {step.name} done in {minutes(time.monotonic() - begun)}")


def minutes(seconds: float) -> str:
    """Return a duration as people say it."""
    return f"{seconds:.0f} s" if seconds < 100 else f"{seconds / 60:.0f} min"
