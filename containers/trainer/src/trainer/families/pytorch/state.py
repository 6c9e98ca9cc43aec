"""The state of one trial between epochs, and its checkpoint: no pickle, and damage is noticed."""

from __future__ import annotations

import hashlib
import io
import logging
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

log = logging.getLogger(__name__)

STATE_FILE = "state.pt"
DIGEST_FILE = "state.sha256"


@dataclass(frozen=True, eq=False)
class State:
    """Where a trial is, in the host's memory.

    Attributes:
        epoch: number of the next epoch.
        weights: (size,) now, see `network.Layout`.
        best: (size,) after the best epoch so far.
        first, second, steps: what its optimiser remembers, see `updates.Moments`.
        best_epoch, best_score: by the task's metric; -1 and None before the first epoch.
        history: what each epoch has reported.
    """

    weights: Tensor
    best: Tensor
    first: Tensor
    second: Tensor
    steps: Tensor
    epoch: int = 0
    best_epoch: int = -1
    best_score: float | None = None
    history: list[dict[str, float]] = field(default_factory=list)

    @classmethod
    def initial(cls, weights: Tensor) -> State:
        """Return that of a trial that has not begun."""
        zeros = torch.zeros_like(weights)
        return cls(weights, weights, zeros, zeros, torch.zeros(2))

    def after(self, report: dict[str, float], score: float, lower_is_better: bool) -> State:
        """Return the state after one more epoch but for the tensors; the caller keeps ``best`` in step."""
        best = self.best_score
        better = best is None or (score < best if lower_is_better else score > best)
        return replace(
            self,
            epoch=self.epoch + 1,
            best_epoch=self.epoch if better else self.best_epoch,
            best_score=score if better else best,
            history=[*self.history, report],
        )

    def ended(self, epochs: int, patience: int) -> bool:
        """Whether all epochs are done, or the last ``patience`` ones have not made it better."""
        return self.epoch >= epochs or self.epoch - 1 - self.best_epoch >= patience

    def save(self, folder: Path, fingerprint: str) -> None:
        """Write a checkpoint.

        Args:
            fingerprint: of what it belongs to; only the same goes on from it.
        """
        buffer = io.BytesIO()
        torch.save({"fingerprint": fingerprint, **self.__dict__}, buffer)
        content = buffer.getvalue()
        (folder / STATE_FILE).write_bytes(content)
        (folder / DIGEST_FILE).write_text(hashlib.sha256(content).hexdigest(), encoding="ascii")

    @classmethod
    def load(cls, folder: Path, fingerprint: str) -> State | None:
        """Read a checkpoint; None, and a warning, where it is damaged or of another training."""
        try:
            content = (folder / STATE_FILE).read_bytes()
            if hashlib.sha256(content).hexdigest() != (folder / DIGEST_FILE).read_text(encoding="ascii").strip():
                raise ValueError("its content is not what was saved")
            fields: dict[str, Any] = torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
            if fields.pop("fingerprint") != fingerprint:
                raise ValueError("it is of other data, parameters or another version")
            return cls(**fields)
        except Exception as error:  # whatever is wrong with it, the trial can begin anew
            log.warning("the checkpoint in %s is not used, the trial begins anew: %s", folder, error)
            return None
