"""What boosting, round by round, has in common: early stopping, reporting, and going on after an interruption."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mlplatform.errors import NonRetryableError
from trainer import metrics
from trainer.data import Dataset
from trainer.families.base import Task
from trainer.session import Diverged, Session

ROUNDS_PER_STEP = 10
"""A step of the session is so many rounds: rare enough to cost little, often enough to prune and save by."""

STATE_FILE = "progress.json"

HIGHER_IS_BETTER = frozenset({"auc", "aucpr", "average_precision"})
"""Of what the libraries can watch; everything else is a loss or an error."""


@dataclass(frozen=True)
class Progress:
    """How far training is. ``best_round`` counts rounds: so many are kept."""

    rounds: int = 0
    best_round: int = 0
    best_value: float | None = None

    def after(self, value: float, higher_is_better: bool) -> Progress:
        """Return the progress after one more round with this value on the validation split."""
        rounds = self.rounds + 1
        best = self.best_value
        if best is None or (value > best if higher_is_better else value < best):
            return Progress(rounds, rounds, value)
        return replace(self, rounds=rounds)

    def ended(self, limit: int, patience: int) -> bool:
        """Whether all rounds are done, or the last ``patience`` ones have not made it better."""
        return self.rounds >= limit or self.rounds - self.best_round >= patience


class Rounds:
    """Counts the rounds of one training, watches a metric of the library's and talks to the session.

    Attributes:
        progress: after the last round.
        state: folder of the state to go on from, None at the beginning.
    """

    def __init__(
        self, task: Task, validation: Dataset, session: Session, *, watched: str, limit: int, patience: int
    ) -> None:
        self._task = task
        self._target = validation.target
        self._session = session
        self._watched = watched
        self._limit = limit
        self._patience = patience
        self._higher_is_better = watched in HIGHER_IS_BETTER
        self.state = session.resume()
        self.progress = Progress()
        if self.state is not None:
            self.progress = Progress(**json.loads((self.state / STATE_FILE).read_text(encoding="utf-8")))

    @property
    def ended(self) -> bool:
        """Whether there is nothing more to train."""
        return self.progress.ended(self._limit, self._patience)

    def add(self, value: float, predict: Callable[[], NDArray[Any]], save: Callable[[Path], None]) -> None:
        """Note a round.

        Args:
            value: what is watched, on the validation split.
            predict: the validation split, as `modelformat.Predictor.predict`.
            save: writes the model as it is now into a folder.

        Raises:
            Diverged: the value is no number.
            Pruned, Stopped: by the session.
        """
        if not math.isfinite(value):
            raise Diverged(f"round {self.progress.rounds}: {self._watched} of the validation split is {value}")
        self.progress = self.progress.after(value, self._higher_is_better)
        # The last step is not told: nothing can be saved by pruning what has ended, or by going on from it.
        if self.progress.rounds % ROUNDS_PER_STEP or self.ended:
            return
        score = float(metrics.METRICS[self._task.kind][self._task.metric](self._target, predict()))
        if not math.isfinite(score):
            raise Diverged(f"round {self.progress.rounds}: {self._task.metric} of the validation split is {score}")

        def save_all(folder: Path) -> None:
            save(folder)
            (folder / STATE_FILE).write_text(json.dumps(asdict(self.progress)), encoding="utf-8")

        self._session.step(self.progress.rounds // ROUNDS_PER_STEP - 1, {self._task.metric: score}, save_all)


def check_splits(task: Task, train: Dataset, validation: Dataset) -> None:
    """Refuse data that no model can be trained on, or its metric not computed.

    Raises:
        NonRetryableError: a split is empty, has a target that is no number, or lacks a class.
    """
    for name, data in (("train", train), ("validation", validation)):
        if not data.rows:
            raise NonRetryableError(f"the {name} split has no rows; see `split` in the dataset's configuration")
        with np.errstate(over="ignore"):
            finite = np.isfinite(data.target.astype(np.float32))  # the libraries' own type of a target
        if not finite.all():
            row = int(np.flatnonzero(~finite)[0])
            raise NonRetryableError(
                f"the {name} split, row {row}: {task.target} is {data.target[row]}, not a finite number of 32 bits"
            )
        needs_all = name == "train" or task.metric in ("roc_auc", "average_precision")
        for position, label in enumerate(task.classes or () if needs_all else ()):
            if not (data.target == position).any():
                why = "nothing can be learned of it" if name == "train" else f"{task.metric} needs one"
                raise NonRetryableError(f"the {name} split has no row where {task.target} is {label}: {why}")


def shares(values: NDArray[Any], columns: Mapping[str, int]) -> dict[str, float]:
    """Return importance by feature as shares of 1.

    Args:
        values: (columns,) at least 0, of the encoded matrix.
        columns: how many columns each feature has there, in order.
    """
    bounds = np.cumsum([0, *columns.values()])
    each = [float(values[start:end].sum()) for start, end in pairwise(bounds)]
    total = math.fsum(each)
    return {name: value / total for name, value in zip(columns, each, strict=True)} if total > 0 else {}
