"""Examples where they are computed on: all at once where they fit, else streamed, without a wait on either side."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from trainer.families.pytorch.network import LIMIT, Inputs

log = logging.getLogger(__name__)

RESIDENT_SHARE = 0.5
"""Examples stay on the device when they take at most this share of its free memory; the rest is for training."""

CHUNK_BYTES = 64 * 2**20
"""What is streamed at a time: large enough for the bus, small enough to have four of them."""


@dataclass(frozen=True)
class Rows:
    """Examples as the network takes them.

    Attributes:
        numbers: float32 (rows, numbers), standardised.
        codes: int32 (rows, categories), 0 for missing and unknown.
        target: (rows,) float32, or int64 positions of several classes.
    """

    numbers: Tensor
    codes: Tensor
    target: Tensor

    def __len__(self) -> int:
        return len(self.target)

    @property
    def tensors(self) -> tuple[Tensor, Tensor, Tensor]:
        """All three."""
        return self.numbers, self.codes, self.target

    @property
    def bytes(self) -> int:
        """Memory they take."""
        return sum(tensor.numel() * tensor.element_size() for tensor in self.tensors)

    def take(self, rows: Tensor) -> Rows:
        """Return some rows, by position."""
        return Rows(*(tensor.index_select(0, rows) for tensor in self.tensors))

    def span(self, start: int, end: int) -> Rows:
        """Return neighbouring rows, without a copy."""
        return Rows(*(tensor[start:end] for tensor in self.tensors))


def rows_of(inputs: Inputs, encoded: NDArray[np.float32], target: NDArray[Any]) -> Rows:
    """Return encoded examples (`modelformat.Encoder`) in the host's memory.

    Args:
        encoded: (rows, width) of complete, standardised numbers and of category codes, NaN where missing or unknown.
        target: (rows,) in the type that the loss takes.
    """
    numbers = np.clip(encoded[:, list(inputs.numbers)], -LIMIT, LIMIT)
    codes = np.nan_to_num(encoded[:, list(inputs.categories)] + 1.0, nan=0.0).astype(np.int32)
    return Rows(torch.from_numpy(numbers), torch.from_numpy(codes), torch.from_numpy(target))


class Feed:
    """Gives examples to the device in any order.

    Args:
        rows: in the host's memory.
        resident: whether all of them are kept on the device; None decides by its free memory.
    """

    def __init__(self, rows: Rows, device: torch.device, resident: bool | None = None) -> None:
        self.rows = len(rows)
        self.device = device
        if resident is None:
            resident = device.type == "cpu" or rows.bytes <= RESIDENT_SHARE * torch.cuda.mem_get_info(device)[0]
            if not resident:
                log.info("%.1f GiB of examples do not fit the device beside the training: streamed", rows.bytes / 2**30)
        self.resident = resident
        self._on_device = self._copy(rows) if resident else None
        self._host = rows
        self._chunk_rows = max(1, CHUNK_BYTES * len(rows) // max(1, rows.bytes))
        self._buffers: dict[int, tuple[list[_Lane], Rows]] = {}

    def _copy(self, rows: Rows) -> Rows:
        return Rows(*(tensor.to(self.device) for tensor in rows.tensors))

    def sample(self, rows: int) -> Rows:
        """Return evenly spread examples, at most so many, in the host's memory."""
        every = max(1, -(-self.rows // rows))
        return self._host.take(torch.arange(0, self.rows, every))

    def windows(self, order: Tensor | None, multiple: int = 1) -> Iterator[tuple[Rows, Tensor | None, int]]:
        """Go through the examples in an order.

        Args:
            order: int64 (n,) on the device, which examples; None is all of them as they are.
            multiple: every window but the last has a multiple of so many.

        Yields:
            Examples on the device, the positions among them to take (None: as they are), and how many. They are
            valid until the next ones are asked for; where they are streamed, it is always the same memory.
        """
        if self._on_device is not None:
            yield self._on_device, order, self.rows if order is None else len(order)
        else:
            yield from self._stream(order, max(1, self._chunk_rows // multiple) * multiple)

    def _stream(self, order: Tensor | None, size: int) -> Iterator[tuple[Rows, None, int]]:
        positions = torch.arange(self.rows) if order is None else order.cpu()
        if not len(positions):
            return
        size = min(size, len(positions))
        if size not in self._buffers:
            lanes = [_Lane(self._host, size, self.device) for _ in range(2)]
            self._buffers[size] = lanes, _empty(self._host, size, self.device)
        lanes, window = self._buffers[size]
        chunks = positions.split(size)
        with ThreadPoolExecutor(1, "feed") as executor:
            # One chunk is gathered and copied while the one before is trained on.
            pending: Future[None] = executor.submit(lanes[0].fill, self._host, chunks[0])
            for number, chunk in enumerate(chunks):
                pending.result()
                if number + 1 < len(chunks):
                    pending = executor.submit(lanes[(number + 1) % 2].fill, self._host, chunks[number + 1])
                lanes[number % 2].pour(window, len(chunk))
                yield window, None, len(chunk)


def _empty(like: Rows, rows: int, device: torch.device, pinned: bool = False) -> Rows:
    return Rows(
        *(
            torch.empty((rows, *tensor.shape[1:]), dtype=tensor.dtype, device=device, pin_memory=pinned)
            for tensor in like.tensors
        )
    )


class _Lane:
    """A chunk on its way: gathered into pinned memory, copied to the device on a stream of its own."""

    def __init__(self, like: Rows, rows: int, device: torch.device) -> None:
        self._cuda = device.type == "cuda"
        self._staging = _empty(like, rows, torch.device("cpu"), pinned=self._cuda)
        self._arrived = self._staging
        if self._cuda:
            self._arrived = _empty(like, rows, device)
            self._stream = torch.cuda.Stream(device)
            self._copied, self._poured = torch.cuda.Event(), torch.cuda.Event()

    def fill(self, source: Rows, positions: Tensor) -> None:
        """Gather some rows and send them; in a thread of its own."""
        if self._cuda:
            self._copied.synchronize()  # the memory may still be read by the copy before
        count = len(positions)
        for staging, tensor in zip(self._staging.tensors, source.tensors, strict=True):
            torch.index_select(tensor, 0, positions, out=staging[:count])
        if self._cuda:
            with torch.cuda.stream(self._stream):
                self._stream.wait_event(self._poured)
                for arrived, staging in zip(self._arrived.tensors, self._staging.tensors, strict=True):
                    arrived[:count].copy_(staging[:count], non_blocking=True)
                self._copied.record(self._stream)

    def pour(self, window: Rows, count: int) -> None:
        """Have the computing stream copy the rows, once they are there, to where they are computed on."""
        if self._cuda:
            torch.cuda.current_stream().wait_event(self._copied)
        for target, arrived in zip(window.tensors, self._arrived.tensors, strict=True):
            target[:count].copy_(arrived[:count])
        if self._cuda:
            self._poured.record(torch.cuda.current_stream())
