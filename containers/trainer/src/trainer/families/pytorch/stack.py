"""Trials of one shape, trained in lockstep on the same batches, step by step.

On a GPU the step is recorded once and replayed (CUDA graphs): a small network's step is tens of microseconds of
work in dozens of kernels, and launching them one by one takes longer than running them. Nothing in a step waits for
the device. torch.compile would fuse more, but needs a C compiler in the image and half a minute for each shape.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from mlplatform.config.base import TaskKind
from trainer.families.pytorch import network
from trainer.families.pytorch.feed import Feed, Rows
from trainer.families.pytorch.network import Network, Shape
from trainer.families.pytorch.params import Params
from trainer.families.pytorch.peers import Peers
from trainer.families.pytorch.updates import Moments, Updates
from trainer.session import DeviceOutOfMemory

log = logging.getLogger(__name__)

FEWEST_ROWS = 32
"""With fewer at a time than this there is no point in going on: the weights themselves do not fit."""

MOST_ROWS = 65_536
"""Rows at a time in prediction."""

CACHED_NUMBERS = 2**18
"""So many numbers of a layer's output are computed at once on a CPU: more would go through memory, and several trials
together would be no faster than one after the other."""

EAGER_STEPS = 3
"""So many steps are run one by one before they are recorded: libraries set themselves up in the first ones."""


@dataclass(frozen=True)
class Setting:
    """What all trials of a stack share.

    Attributes:
        precision: what matrices are multiplied in, in training; predictions are always of fp32, as what is saved.
        seed: of the order of examples and of dropout.
    """

    kind: TaskKind
    shape: Shape
    batch_size: int
    precision: torch.dtype
    seed: int
    device: torch.device
    peers: Peers


def most_together(setting: Setting) -> int | None:
    """Return how many trials are best computed together; None where there is no limit but memory."""
    if setting.device.type == "cuda":
        return None
    return max(1, CACHED_NUMBERS // (setting.batch_size * max(setting.shape.width, setting.shape.input_width)))


class Stack:
    """Trains trials together.

    Args:
        params: of each trial; trials with the same optimiser must be neighbours.
        weights: (trials, size) rows of `network.Layout`; changed in place, as the moments are.

    Attributes:
        rows_at_a_time: of a batch; fewer than the batch after the device's memory was too small for it.
    """

    def __init__(self, setting: Setting, params: Sequence[Params], weights: Tensor, moments: Moments) -> None:
        self.setting = setting
        self.weights = weights
        self.moments = moments
        layout = setting.shape.layout
        self._gradients = torch.zeros_like(weights)
        # Leaves of their own, so that a gradient is of one weight and not of all rows.
        self._leaves = {name: leaf.requires_grad_() for name, leaf in layout.views(weights).items()}
        self._leaf_gradients = list(layout.views(self._gradients).values())
        self._network = Network(setting.shape, setting.device)
        self._updates = Updates(params, weights, self._gradients, moments, layout.decayed)
        self._dropout = [one.dropout for one in params]
        if any(self._dropout):
            # 16 random bits decide: a unit is dropped when they are below the threshold.
            thresholds = torch.tensor([round(share * 65_536) for share in self._dropout], device=setting.device)
            self._threshold = (thresholds - 32_768).to(torch.int16).view(-1, 1, 1, 1)
            self._scale = (65_536 / (65_536 - thresholds.float())).view(-1, 1, 1)
        start, end = setting.peers.span(setting.batch_size)
        self._share = end - start
        self.rows_at_a_time = self._share
        self._step_losses = torch.zeros(len(params), device=setting.device)
        self._losses = torch.zeros(len(params), dtype=torch.float64, device=setting.device)
        self._position = torch.zeros(1, dtype=torch.int64, device=setting.device)
        self._lanes = torch.arange(self._share, device=setting.device)
        self._order = torch.empty(0, dtype=torch.int64, device=setting.device)
        self._counting = self._order
        self._generator: torch.Generator | None = None
        self._stream = torch.cuda.Stream(setting.device) if setting.device.type == "cuda" else None
        self._recorded: tuple[Callable[[], None], Callable[[], None]] | None = None
        self._recorded_for: tuple[int, int] | None = None
        self._records = self._stream is not None
        self._eager_steps = 0

    def train_epoch(self, number: int, feed: Feed) -> list[float]:
        """Go once through all examples, in an order of its own; return each trial's mean loss.

        The order and dropout's draws depend on the seed and the epoch alone, so there is no state of a generator to
        save.

        Raises:
            DeviceOutOfMemory: even the fewest rows at a time do not fit.
            PeerLost: another process is gone.
        """
        setting = self.setting
        order = torch.randperm(
            feed.rows, device=setting.device, generator=_generator(setting.device, setting.seed, number, "order")
        )
        noise_seed = _seed(setting.seed, number, f"dropout {setting.peers.rank}")
        if setting.device.type == "cuda":
            torch.cuda.manual_seed(noise_seed)  # recorded steps draw from the device's own generator
        else:
            self._generator = torch.Generator().manual_seed(noise_seed)
        self._losses.zero_()
        if self._stream is None:
            self._train(feed, order)
        else:
            self._stream.wait_stream(torch.cuda.current_stream())
            with torch.cuda.stream(self._stream):
                self._train(feed, order)
            torch.cuda.current_stream().wait_stream(self._stream)
        setting.peers.add_up(self._losses)
        mean: list[float] = (self._losses / feed.rows).tolist()
        return mean

    def _train(self, feed: Feed, order: Tensor) -> None:
        batch = self.setting.batch_size
        whole = len(order) // batch * batch
        start, end = self.setting.peers.span(batch)
        mine = order[:whole].view(-1, batch)[:, start:end].reshape(-1)
        remainder = order[whole:]
        start, end = self.setting.peers.span(len(remainder))
        # A buffer that stays where it is, for recorded steps; its content changes with the epoch.
        for window, positions, count in feed.windows(mine, self._share) if len(mine) else ():
            self._train_window(window, self._positions(positions, count), count)
        if len(remainder):
            rest = remainder[start:end]
            taken = 0
            for window, positions, count in feed.windows(rest) if len(rest) else ():
                rows = self._positions(positions, count)[:count]
                self._gradient(window, rows, len(remainder), first=taken == 0)
                taken += count
            if not taken:
                self._gradients.zero_()
            self._finish()

    def _positions(self, positions: Tensor | None, count: int) -> Tensor:
        """Return positions in memory that is the same at every call."""
        size = count if positions is None else len(positions)
        if len(self._order) < size:
            self._counting = torch.arange(size, device=self.setting.device)
            self._order = self._counting.clone()
        self._order[:size].copy_(self._counting[:size] if positions is None else positions)
        return self._order

    def _train_window(self, window: Rows, order: Tensor, count: int) -> None:
        self._position.zero_()
        for start in range(0, count, self._share):
            if self._record(window, order):
                assert self._recorded is not None
                gradient, update = self._recorded
                gradient()
                self.setting.peers.add_up(self._gradients)
                update()
                continue
            self._gradient(window, order[start : start + self._share], self.setting.batch_size)
            self._finish()
            self._position.add_(self._share)
            self._eager_steps += 1

    def _finish(self) -> None:
        self.setting.peers.add_up(self._gradients)
        self._updates.apply()

    def _gradient(self, window: Rows, rows: Tensor, divisor: int, first: bool = True) -> None:
        """Compute the gradient of some rows' mean loss, with fewer rows at a time if they do not fit."""
        while True:
            try:
                self._step_losses.zero_()
                for index, part in enumerate(rows.split(self.rows_at_a_time)):
                    self._backward(window.take(part), divisor, first=first and index == 0)
                break
            except torch.OutOfMemoryError as error:
                if not first:
                    raise DeviceOutOfMemory(_too_large(self.setting, self.rows_at_a_time)) from error
                self._take_fewer(error)
        self._losses.add_(self._step_losses)

    def _take_fewer(self, error: Exception) -> None:
        if self.rows_at_a_time <= FEWEST_ROWS:
            raise DeviceOutOfMemory(_too_large(self.setting, self.rows_at_a_time)) from error
        before, self.rows_at_a_time = self.rows_at_a_time, max(FEWEST_ROWS, self.rows_at_a_time // 2)
        log.warning(
            "the device's memory does not hold %d rows at a time: goes on with %d, and adds up their gradients, so a "
            "batch is still of %d",
            *(before, self.rows_at_a_time, self.setting.batch_size),
        )
        self._recorded, self._records = None, False
        if self.setting.device.type == "cuda":
            torch.cuda.empty_cache()

    def _backward(self, batch: Rows, divisor: int, first: bool) -> None:
        setting = self.setting
        with torch.autocast(
            setting.device.type,
            dtype=torch.bfloat16,
            enabled=setting.precision == torch.bfloat16,
            cache_enabled=False,  # what is kept between a recording's operations would be freed after it
        ):
            keep, scale = self._draw(len(batch))
            pieces = self._network.embed(self._leaves, batch.numbers, batch.codes)
            answers = self._network.answer(self._leaves, pieces, keep, scale)
        each = network.losses(setting.kind, answers, batch.target)
        found = torch.autograd.grad(each.sum() / divisor, list(self._leaves.values()))
        if first:
            torch._foreach_copy_(self._leaf_gradients, found)
        else:
            torch._foreach_add_(self._leaf_gradients, found)
        self._step_losses.add_(each.detach())

    def _draw(self, rows: int) -> tuple[Tensor, Tensor] | tuple[None, None]:
        """Draw what dropout keeps: the same bits for all trials, so that each gets what it would get alone."""
        if not any(self._dropout):
            return None, None
        layers, width = self.setting.shape.layers, self.setting.shape.width
        count = layers * rows * width
        words = torch.empty(-(-count // 4), dtype=torch.int64, device=self.setting.device)
        words.random_(-(2**63), None, generator=self._generator)
        bits = words.view(torch.int16)[:count].view(1, layers, rows, width)
        return bits >= self._threshold, self._scale

    # --- Recorded steps (CUDA graphs) ------------------------------------------------------------

    def _record(self, window: Rows, order: Tensor) -> bool:
        """Whether the step is recorded for this memory; record it when it is time."""
        if not self._records or self._eager_steps < EAGER_STEPS:
            return False
        memory = (window.target.data_ptr(), order.data_ptr())
        if self._recorded is not None and self._recorded_for == memory:
            return True

        def gradient() -> None:
            rows = order.index_select(0, self._position + self._lanes)
            self._step_losses.zero_()
            self._backward(window.take(rows), self.setting.batch_size, first=True)
            self._losses.add_(self._step_losses)
            self._position.add_(self._share)

        self._recorded = None
        try:
            first = torch.cuda.CUDAGraph()
            with torch.cuda.graph(first, stream=self._stream):
                gradient()
            second = torch.cuda.CUDAGraph()
            with torch.cuda.graph(second, pool=first.pool(), stream=self._stream):
                self._updates.apply()
        except RuntimeError as error:  # of an operation that cannot be recorded, or memory that is not enough
            log.warning("steps run one by one, as they cannot be recorded: %s", str(error).splitlines()[0])
            self._records = False
            return False
        self._recorded, self._recorded_for = (first.replay, second.replay), memory
        return True

    # --- Prediction ------------------------------------------------------------------------------

    @torch.no_grad()
    def predict(self, feed: Feed) -> tuple[Tensor, list[float]]:
        """Predict all examples of a feed, in fp32.

        Returns:
            (trials, rows) or (trials, rows, classes) in the host's memory, see `network.predictions`; and each
            trial's mean loss. Both are complete in every process.
        """
        setting = self.setting
        trials, outputs = len(self.weights), setting.shape.outputs
        answers = torch.zeros(trials, feed.rows, outputs, device=setting.device)
        sums = torch.zeros(trials, dtype=torch.float64, device=setting.device)
        size = max(1, MOST_ROWS // trials)
        done = 0
        for window, _, count in feed.windows(None):
            start, end = setting.peers.span(count)
            while start < end:
                batch = window.span(start, min(end, start + size))
                try:
                    pieces = self._network.embed(self._leaves, batch.numbers, batch.codes)
                    found = self._network.answer(self._leaves, pieces)
                except torch.OutOfMemoryError as error:
                    if size <= FEWEST_ROWS:
                        raise DeviceOutOfMemory(_too_large(setting, size)) from error
                    size = max(FEWEST_ROWS, size // 2)
                    torch.cuda.empty_cache()
                    continue
                answers[:, done + start : done + start + len(batch)] = found
                sums += network.losses(setting.kind, found, batch.target)
                start += len(batch)
            done += count
        setting.peers.add_up(answers)  # the rows of other processes are zero here
        setting.peers.add_up(sums)
        return network.predictions(setting.kind, answers).cpu(), (sums / feed.rows).tolist()


def _too_large(setting: Setting, rows: int) -> str:
    shape = setting.shape
    return (
        f"the device's memory does not hold a network of {shape.layers} layers of {shape.width} units "
        f"({shape.layout.parameters:,} weights) even with {rows} rows at a time; "
        "lower width, layers or embedding_width, or take a larger GPU"
    )


def _seed(seed: int, epoch: int, purpose: str) -> int:
    content = f"{seed} {epoch} {purpose}".encode()
    return int.from_bytes(hashlib.sha256(content).digest()[:8], "big") >> 1


def _generator(device: torch.device, seed: int, epoch: int, purpose: str) -> torch.Generator:
    return torch.Generator(device).manual_seed(_seed(seed, epoch, purpose))
