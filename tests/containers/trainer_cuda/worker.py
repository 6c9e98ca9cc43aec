"""One process of a training, for the tests of several: ``python worker.py FOLDER MODE``, or `process`.

Reads ``params.json``, fits, and leaves what came of it as ``<rank>.json`` in the folder.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import time
import traceback
from collections.abc import Callable, Mapping
from pathlib import Path
from types import FrameType
from typing import Any

from helpers import Case, Keeper, params

from trainer import launch
from trainer.families.pytorch import FAMILY, stack
from trainer.session import Pruned, Stopped


class Signalled(Keeper):
    """Stops when the process was told to."""

    def __init__(self, folder: Path, **when: int) -> None:
        super().__init__(folder, **when)
        self.told = False
        signal.signal(signal.SIGTERM, self.tell)

    def tell(self, number: int, frame: FrameType | None) -> None:
        self.told = True

    def step(self, number: int, metrics: Mapping[str, float], save: Callable[[Path], None]) -> None:
        super().step(number, metrics, save)
        if self.told:
            raise Stopped("told to")


class Silent:
    """What a following process has; it must never be asked."""

    def resume(self) -> Path | None:
        raise AssertionError("a following process asked its session")

    def step(self, number: int, metrics: Mapping[str, float], save: Callable[[Path], None]) -> None:
        raise AssertionError("a following process reported")


def at_epoch(number: int, rank: int, action: Callable[[], None]) -> None:
    """Do something in one process when an epoch begins."""
    train_epoch = stack.Stack.train_epoch

    def hooked(one: stack.Stack, epoch: int, feed: Any) -> list[float]:
        if epoch == number and launch.rank() == rank:
            action()
        return train_epoch(one, epoch, feed)

    stack.Stack.train_epoch = hooked  # type: ignore[method-assign]


def main(folder: Path, mode: str) -> int:
    rank = launch.rank()
    chosen = [params(**one) for one in json.loads((folder / "params.json").read_text())]
    case = Case("regression" if mode == "regression" else "binary", 500)
    if mode == "dies":
        at_epoch(1, 1, lambda: os._exit(5))
    if mode == "hangs":
        at_epoch(1, 1, lambda: time.sleep(600))
    if mode == "one is told to stop":
        at_epoch(1, 1, lambda: os.kill(os.getpid(), signal.SIGTERM))
    if mode == "waits":  # until the test has stopped it
        at_epoch(1, 0, lambda: ((folder / "waiting").touch(), time.sleep(2))[0])
    sessions: list[Any] = [Silent() for _ in chosen]
    if rank == 0:
        sessions = [Signalled(folder / f"state{number}") for number in range(len(chosen))]
        if mode == "prunes":
            sessions[0].prune_at = 1
    outcome: dict[str, Any] = {"size": launch.world_size(), "threads": os.environ.get("TRAINER_THREADS")}
    try:
        found = FAMILY.fit_together(case.task, case.train, case.validation, chosen, sessions)
        outcome["histories"] = [[] if isinstance(one, Exception) else one.history for one in found]
        outcome["failures"] = [type(one).__name__ if isinstance(one, Pruned) else None for one in found]
        outcome["weights"] = [[] if isinstance(one, Exception) else one._weights.tolist() for one in found]
    except Stopped as stopped:
        outcome["stopped"] = str(stopped)
    (folder / f"{rank}.json").write_text(json.dumps(outcome))
    return 143 if "stopped" in outcome else 0


def process(folder: Path, mode: str, environment: dict[str, str]) -> None:
    """Be one of the processes; an error is left as ``<rank>.error``."""
    os.environ.update(environment)
    try:
        code = main(folder, mode)
    except BaseException:
        (folder / f"{launch.rank()}.error").write_text(traceback.format_exc())
        os._exit(1)
    sys.exit(code)


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), sys.argv[2]))
