"""Epochs of trials in lockstep: early stopping, checkpoints, and what the session decides."""

from __future__ import annotations

import logging
import math
import os
import signal
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mlplatform.config.base import LOWER_IS_BETTER
from trainer import metrics
from trainer.families.base import Task
from trainer.families.pytorch.feed import Feed
from trainer.families.pytorch.params import Params
from trainer.families.pytorch.peers import Peers
from trainer.families.pytorch.stack import Setting, Stack
from trainer.families.pytorch.state import State
from trainer.families.pytorch.updates import Moments
from trainer.session import DeviceOutOfMemory, Diverged, Pruned, Session, Stopped

log = logging.getLogger(__name__)


@dataclass(eq=False)
class Run:
    """One trial on its way.

    Attributes:
        fingerprint: of what its checkpoints belong to.
        state: after its last epoch; its tensors are brought up to date when they are needed.
        failure: why it ended without a model.
        epochs, seconds: that this process has trained it, together with others perhaps.
    """

    params: Params
    session: Session
    fingerprint: str
    state: State
    failure: Exception | None = None
    epochs: int = 0
    seconds: float = 0.0

    @property
    def ended(self) -> bool:
        """Whether there is nothing more to train."""
        return self.failure is not None or self.state.ended(self.params.epochs, self.params.patience)


@dataclass(frozen=True)
class Data:
    """Both splits where they are computed on, and the validation split's target as metrics take it.

    Attributes:
        centre, scale: of a regression's target: the network answers ``(target - centre) / scale``.
    """

    train: Feed
    validation: Feed
    target: NDArray[np.float64]
    centre: float = 0.0
    scale: float = 1.0


def train(task: Task, setting: Setting, data: Data, runs: Sequence[Run]) -> None:
    """Train runs of one shape that are at the same epoch, until each has ended.

    Raises:
        Stopped: the process is to end; the state of every run was saved.
        PeerLost: another process of this training is gone.
    """
    # Neighbours by optimiser, as `Stack` wants them.
    active = sorted((run for run in runs if not run.ended), key=lambda run: run.params.optimizer)
    rows_at_a_time: int | None = None
    while active:
        begun = [run.state for run in active]
        try:
            rows_at_a_time = _train_until_one_ends(task, setting, data, active, rows_at_a_time)
        except (DeviceOutOfMemory, torch.OutOfMemoryError) as error:
            for run, state in zip(active, begun, strict=True):
                run.state = state
            _with_less_memory(task, setting, data, [run for run in active if not run.ended], error)
            return
        active = [run for run in active if not run.ended]


def _with_less_memory(task: Task, setting: Setting, data: Data, runs: Sequence[Run], error: Exception) -> None:
    """Train runs whose stack the device's memory did not hold: fewer at once."""
    if setting.device.type == "cuda":
        torch.cuda.empty_cache()
    # Processes would have to agree on it, and with several of them there is hardly ever more than one run.
    if len(runs) > 1 and setting.peers.size == 1:
        log.warning("the device's memory does not hold %d trials at once: in two halves", len(runs))
        for half in (runs[: len(runs) // 2], runs[len(runs) // 2 :]):
            train(task, setting, data, half)
        return
    if not isinstance(error, DeviceOutOfMemory):
        error = DeviceOutOfMemory(
            f"the device's memory does not hold the {setting.shape.layout.parameters:,} weights of the network and "
            "what its optimiser remembers; lower width, layers or embedding_width, or take a larger GPU"
        )
    for run in runs:
        run.failure = error


def _train_until_one_ends(
    task: Task, setting: Setting, data: Data, runs: Sequence[Run], rows_at_a_time: int | None
) -> int:
    """Train runs in lockstep until one of them has ended; return how many rows at a time the device held."""
    stack, best = _stack(setting, runs)
    stack.rows_at_a_time = rows_at_a_time or stack.rows_at_a_time
    while not any(run.ended for run in runs):
        began = time.monotonic()
        epoch = runs[0].state.epoch
        train_losses = stack.train_epoch(epoch, data.train)
        predicted, validation_losses = stack.predict(data.validation)
        for position, run in enumerate(runs):
            answers = predicted[position].double().numpy() * data.scale + data.centre
            _note(task, setting.peers, data, run, train_losses[position], validation_losses[position], answers)
            if run.state.best_epoch == epoch:
                best[position] = stack.weights[position]
            run.epochs += 1
        seconds = time.monotonic() - began
        for run in runs:
            run.seconds += seconds
        _report(setting.peers, runs, lambda position: _state(runs, stack, best, position))
    for position, run in enumerate(runs):
        run.state = _state(runs, stack, best, position)
    return stack.rows_at_a_time


def _stack(setting: Setting, runs: Sequence[Run]) -> tuple[Stack, Tensor]:
    """Put runs onto the device. Return the stack and (runs, size) the best weights so far."""

    def rows(name: str) -> Tensor:
        return torch.stack([getattr(run.state, name) for run in runs]).to(setting.device)

    moments = Moments(rows("first"), rows("second"), rows("steps"))
    return Stack(setting, [run.params for run in runs], rows("weights"), moments), rows("best")


def _state(runs: Sequence[Run], stack: Stack, best: Tensor, position: int) -> State:
    """Return a run's state with its tensors as they are now."""

    def row(tensor: Tensor) -> Tensor:
        return tensor[position].detach().to("cpu", copy=True)

    moments = stack.moments
    return replace(
        runs[position].state,
        weights=row(stack.weights),
        best=row(best),
        first=row(moments.first),
        second=row(moments.second),
        steps=row(moments.steps),
    )


def _note(
    task: Task,
    peers: Peers,
    data: Data,
    run: Run,
    train_loss: float,
    validation_loss: float,
    predicted: NDArray[np.float64],
) -> None:
    """Note an epoch's outcome in the run's state, or its failure."""
    score = math.nan
    if math.isfinite(train_loss) and math.isfinite(validation_loss) and np.isfinite(predicted).all():
        # Computed once and shared, so that processes cannot disagree by a rounding.
        own = metrics.METRICS[task.kind][task.metric](data.target, predicted) if peers.leads else math.nan
        score = float(peers.share(own))
    if not math.isfinite(score):
        run.failure = Diverged(
            f"epoch {run.state.epoch}: the training loss is {train_loss:g} and that of the validation split "
            f"{validation_loss:g}; lower learning_rate (it is {run.params.learning_rate:g})"
        )
        return
    report = {task.metric: score, "train_loss": train_loss, "loss": validation_loss}
    run.state = run.state.after(report, score, task.metric in LOWER_IS_BETTER)


Ending = Literal["pruned", "stopped"]


def _report(peers: Peers, runs: Sequence[Run], state: Callable[[int], State]) -> None:
    """Tell each run's session about the epoch that is done, and do what it decides.

    Raises:
        Stopped: after every run's state was saved.
    """
    if peers.any_asked_to_stop() and peers.leads:
        # As if this process had been told: its session saves, and says that it has to end.
        os.kill(os.getpid(), signal.SIGTERM)
    decided: list[Pruned | Stopped | None] = [None] * len(runs)
    if peers.leads:
        for position, run in enumerate(runs):
            if run.failure is None:
                decided[position] = _step(run, partial(state, position))
        if any(isinstance(one, Stopped) for one in decided):
            # Whoever was asked before the process was told to stop has not saved yet.
            for position, run in enumerate(runs):
                if run.failure is None and decided[position] is None:
                    _step(run, partial(state, position))
    # As words: a session may raise exceptions of its own, which other processes need not know.
    shared = peers.share([None if one is None else (_ending(one), str(one)) for one in decided])
    for one, words in zip(decided, shared, strict=True):
        if words is not None and words[0] == "stopped":
            raise one or Stopped(words[1])
    for run, one, words in zip(runs, decided, shared, strict=True):
        if words is not None:
            run.failure = one or Pruned(words[1])


def _ending(decided: Pruned | Stopped) -> Ending:
    return "stopped" if isinstance(decided, Stopped) else "pruned"


def _step(run: Run, state: Callable[[], State]) -> Pruned | Stopped | None:
    def save(folder: Path) -> None:
        state().save(folder, run.fingerprint)

    try:
        run.session.step(run.state.epoch - 1, run.state.history[-1], save)
    except (Pruned, Stopped) as decided:
        return decided
    return None


def save_ended(runs: Sequence[Run]) -> None:
    """Save runs that have ended well while others have to stop, so that they are not trained again."""
    for run in runs:
        if run.failure is None and run.ended and run.state.history:
            _step(run, partial(getattr, run, "state"))
