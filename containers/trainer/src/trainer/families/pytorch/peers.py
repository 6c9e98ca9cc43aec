"""Several processes for one training, each with a share of every batch (`trainer.launch` starts them).

Gradients are added up over the processes, each divided by the rows of the whole batch, so that their number changes
nothing but the rounding of sums (and the draws of dropout, which are each process's own). Process 0 reports to the
session and decides; the others follow.
"""

from __future__ import annotations

import atexit
import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from types import FrameType
from typing import Any

import torch
from torch import Tensor, distributed

from trainer import launch

TIMEOUT_SECONDS = 600.0
"""Longest wait for another process: a checkpoint is uploaded, and metrics are computed, while the others wait."""


class PeerLost(RuntimeError):
    """Another process of this training ended, or does not answer."""


class Peers:
    """The processes that train together; of one alone, nothing here does anything."""

    def __init__(self, rank: int = 0, size: int = 1) -> None:
        self.rank = rank
        self.size = size
        self._told_to_stop = False

    @property
    def leads(self) -> bool:
        """Whether this process reports and decides."""
        return self.rank == 0

    def span(self, rows: int) -> tuple[int, int]:
        """Return this process's share of a batch: from, to."""
        return rows * self.rank // self.size, rows * (self.rank + 1) // self.size

    def add_up(self, tensor: Tensor) -> None:
        """Replace a tensor by its sum over all processes.

        Raises:
            PeerLost: one of them is gone.
        """
        if self.size > 1:
            with _clear_errors():
                distributed.all_reduce(tensor)

    def share[T](self, value: T) -> T:
        """Return the leading process's value.

        Raises:
            PeerLost: one of them is gone.
        """
        if self.size == 1:
            return value
        box: list[Any] = [value]
        with _clear_errors():
            distributed.broadcast_object_list(box, src=0, device=torch.device("cpu"))
        shared: T = box[0]
        return shared

    def any_asked_to_stop(self) -> bool:
        """Whether a following process's pod has to go."""
        if self.size == 1:
            return False
        told = torch.tensor([float(self._told_to_stop)])
        self.add_up(told)
        return bool(told.item())

    @contextmanager
    def following(self) -> Iterator[None]:
        """Within the block a following process does not end on SIGTERM but has the leading one save and stop."""
        if self.leads or threading.current_thread() is not threading.main_thread():
            yield
            return

        def note(number: int, frame: FrameType | None) -> None:
            self._told_to_stop = True

        before = signal.signal(signal.SIGTERM, note)
        try:
            yield
        finally:
            signal.signal(signal.SIGTERM, before)


@contextmanager
def _clear_errors() -> Iterator[None]:
    try:
        yield
    except RuntimeError as error:
        raise PeerLost(
            f"process {launch.rank()} of {launch.world_size()}: another process of this training ended or did not "
            f"answer in {_timeout():g} s; its own log says why ({str(error).splitlines()[0]})"
        ) from error


def _timeout() -> float:
    return float(os.environ.get("MLPLATFORM_PEER_TIMEOUT_SECONDS", TIMEOUT_SECONDS))


def join(device: torch.device) -> Peers:
    """Join the other processes, if there are any.

    Raises:
        PeerLost: they do not come.
    """
    if launch.world_size() == 1:
        return Peers()
    if not distributed.is_initialized():
        # gloo beside nccl: what the processes tell one another is no tensor on the device.
        backend = "cpu:gloo,cuda:nccl" if device.type == "cuda" else "gloo"
        with _clear_errors():
            distributed.init_process_group(backend, timeout=timedelta(seconds=_timeout()))
        atexit.register(_leave)
    return Peers(launch.rank(), launch.world_size())


def _leave() -> None:
    if distributed.is_initialized():
        distributed.destroy_process_group()
