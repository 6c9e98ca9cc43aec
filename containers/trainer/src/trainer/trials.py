"""A trial while it trains: what `trainer.session` promises to its family, and what is kept of it."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Literal

from pydantic import Field

from mlplatform.config.base import Strict
from mlplatform.documents.base import Document
from mlplatform.errors import StorageError
from trainer import shutdown
from trainer.budget import Budget
from trainer.checkpoints import Checkpoints
from trainer.session import Pruned, Stopped
from trainer.study import StudyTrial
from trainer.tracking import TrialRun

log = logging.getLogger(__name__)

NOTES = "notes.json"


class OutOfBudget(Pruned):
    """The run has used what its search may cost."""


class StepMetrics(Strict):
    """A step of a trial."""

    step: int
    metrics: dict[str, float | None]
    """As the family reported them; None for what was no finite number."""


class TrialProgress(Document):
    """``notes.json``: what a trial has behind it; travels with its state."""

    fit_seconds: float = 0.0
    """Of all attempts, as far as it was not lost."""
    history: list[StepMetrics] = Field(default=[])


class CheckpointSchedule:
    """Decides after which steps states are saved: every so often, and when the process was asked to stop.

    Trials that train together share one, and what it decides of a step holds for all of them: their states are of
    the same step.
    """

    def __init__(
        self,
        every_seconds: float,
        stopping: Callable[[], bool] = shutdown.requested,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._every = every_seconds
        self._stopping = stopping
        self._clock = clock
        self._last = clock()
        self._step: int | None = None
        self._decision: Literal["go on", "save", "stop"] = "go on"

    def after(self, step: int) -> Literal["go on", "save", "stop"]:
        """Return what is to be done after a step."""
        if step != self._step:
            due = self._clock() - self._last >= self._every
            self._step, self._decision = step, "stop" if self._stopping() else "save" if due else "go on"
            if due:
                self._last = self._clock()
        return self._decision


class Clock:
    """The GPU time of a pod: what its finished trials took, and the running ones so far."""

    def __init__(self, gpus: int, clock: Callable[[], float] = time.monotonic) -> None:
        self.gpus = gpus
        self.finished_gpu_seconds = 0.0
        self._clock = clock
        self._since: float | None = None
        self._before = 0.0

    def start(self) -> None:
        """Begin a training."""
        self._since, self._before = self._clock(), 0.0

    def stop(self) -> float:
        """End it and return what it took, in seconds, earlier attempts included."""
        seconds = self.seconds
        self.finished_gpu_seconds += seconds * self.gpus
        self._since, self._before = None, 0.0
        return seconds

    def add_earlier(self, seconds: float) -> None:
        """Count what an earlier attempt took; of trials that train together, the longest time is that of all."""
        self._before = max(self._before, seconds)

    @property
    def seconds(self) -> float:
        """Of the running training."""
        return self._before + (0.0 if self._since is None else self._clock() - self._since)

    @property
    def gpu_seconds(self) -> float:
        """Of the whole pod."""
        return self.finished_gpu_seconds + self.seconds * self.gpus


class TrialSession:
    """`trainer.session.Session` of one trial.

    Args:
        label: what the trial is called in the log.
        metric: of the task, what pruning goes by.
        folder: of its own, for states.
    """

    def __init__(
        self,
        *,
        label: str,
        metric: str,
        folder: Path,
        run: TrialRun,
        checkpoints: Checkpoints,
        record: StudyTrial | None,
        budget: Budget,
        clock: Clock,
        schedule: CheckpointSchedule,
    ) -> None:
        self.history: list[StepMetrics] = []
        self._known: set[int] = set()
        self._label = label
        self._metric = metric
        self._folder = folder
        self._run = run
        self._checkpoints = checkpoints
        self._record = record
        self._budget = budget
        self._clock = clock
        self._schedule = schedule

    def resume(self) -> Path | None:
        """See `trainer.session.Session`."""
        step = self._checkpoints.restore(self._folder / "resumed")
        if step is None:
            return None
        try:
            progress = TrialProgress.read((self._folder / "resumed" / NOTES).read_bytes(), f"{self._label}'s state")
        except StorageError as error:
            log.warning("%s; it is trained from the beginning", error)
            return None
        log.info("%s goes on after step %d, where an earlier attempt was stopped", self._label, step)
        self._clock.add_earlier(progress.fit_seconds)
        # An attempt that was killed may have saved its state and not sent its metrics.
        self._known = self._run.logged_steps(chart(self._metric))
        self.history = progress.history
        for note in self.history:
            self._log(note)
        return self._folder / "resumed" / "state"

    def step(self, number: int, metrics: Mapping[str, float], save: Callable[[Path], None]) -> None:
        """See `trainer.session.Session`."""
        note = StepMetrics(
            step=number, metrics={name: value if math.isfinite(value) else None for name, value in metrics.items()}
        )
        # A family that begins anew, as with smaller batches, tells its steps again.
        while self.history and self.history[-1].step >= number:
            self.history.pop()
        self.history.append(note)
        self._log(note)
        if reason := self._budget.exceeded(self._clock.gpu_seconds):
            raise OutOfBudget(f"stopped after step {number}: {reason}")
        value = metrics.get(self._metric)
        if self._record is not None and value is not None and (reason := self._record.report(number, value)):
            raise Pruned(reason)
        todo = self._schedule.after(number)
        if todo == "stop":
            self._save(number, save)
            raise Stopped(f"{self._label} was stopped after step {number}")
        if todo == "save":
            self._save(number, save)

    def _log(self, note: StepMetrics) -> None:
        # What an attempt did after its last state is done again, and gives the same.
        if note.step not in self._known:
            there = {chart(name): value for name, value in note.metrics.items() if value is not None}
            self._run.metrics.add(note.step, there)

    def _save(self, number: int, save: Callable[[Path], None]) -> None:
        def write(folder: Path) -> None:
            progress = TrialProgress(fit_seconds=self._clock.seconds, history=self.history)
            (folder / NOTES).write_text(progress.model_dump_json(), encoding="utf-8")
            (folder / "state").mkdir()
            save(folder / "state")

        started = time.monotonic()
        try:
            self._checkpoints.save(number, write)
        except Exception as error:
            # A state is an insurance: losing it costs less than giving up the training now would.
            log.warning("%s: its state after step %d could not be saved: %s", self._label, number, error)
            return
        log.info("%s: state after step %d saved in %.1f s", self._label, number, time.monotonic() - started)


def chart(name: str) -> str:
    """Return what a step's metric is called in MLflow, apart from the metrics of the saved model."""
    return f"train/{name.removeprefix('train_')}" if name.startswith("train_") else f"validation/{name}"
