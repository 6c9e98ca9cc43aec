"""What a family may ask of its surroundings while it trains: report, save its state, learn that it has to stop."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Protocol


class Pruned(Exception):
    """The search ends this trial: it is worse than the others were at the same step."""


class Stopped(Exception):
    """The pod has to go; the state is saved, and another attempt goes on from it."""


class Diverged(Exception):
    """The loss is no number any more; the message says since when. Trying again would not help."""


class DeviceOutOfMemory(Exception):
    """The device's memory does not hold the training even with the smallest batch; the message says what was tried."""


class Session(Protocol):
    """The surroundings of one trial, or of several that are trained together."""

    def resume(self) -> Path | None:
        """Return a folder with the state last saved by an earlier attempt, None where there is none."""

    def step(self, number: int, metrics: Mapping[str, float], save: Callable[[Path], None]) -> None:
        """Tell that a step (an epoch, or a few boosting rounds) is done.

        Args:
            number: of the step, from 0, the same after a resumption.
            metrics: by name, on the validation split unless the name starts with ``train_``; for the charts, and
                the one called as the task's metric for pruning.
            save: writes the state after this step into an empty folder; called when a checkpoint is due.

        Raises:
            Pruned: the trial is to end now.
            Stopped: the process is to end now, and the state was saved.
        """


class NoSession:
    """Trains alone: nothing is saved or pruned."""

    def resume(self) -> Path | None:
        """See `Session`."""
        return None

    def step(self, number: int, metrics: Mapping[str, float], save: Callable[[Path], None]) -> None:
        """See `Session`."""
