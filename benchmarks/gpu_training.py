"""How fast the family ``pytorch`` trains: ``python -m benchmarks.gpu_training`` in the environment `trainer-cuda`.

* rows/s beside a plain PyTorch loop (nn.Module, DataLoader, torch.optim) over the same network and data;
* which share that is of what the device can do: of its arithmetic and of its memory's bandwidth, both measured here;
* 16 small trials together beside one after the other.

Prints Markdown tables, puts them into docs/gpu-training.md and writes JSON. ``--cpu`` does it on one thread of the CPU,
with smaller sizes and in seconds of the processor (others may use the machine too), and says so; without a GPU and
without ``--cpu`` it says that there is none, and checks in seconds that it would run.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # as the trainer does

import numpy as np
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from benchmarks import machine
from trainer.families.pytorch.feed import Feed, Rows
from trainer.families.pytorch.network import EPSILON, Inputs, Shape, initial_weights
from trainer.families.pytorch.params import Params
from trainer.families.pytorch.peers import Peers
from trainer.families.pytorch.stack import Setting, Stack, most_together
from trainer.families.pytorch.updates import Moments

DOCUMENT = Path(__file__).parents[1] / "docs" / "gpu-training.md"

NUMBERS = 20
SIZES = (3, 7, 12, 50, 300, 2000)
FEW = (3, 7, 12)


@dataclass(frozen=True)
class Case:
    """A network and how it is trained; ``sizes`` are the values of each category feature."""

    layers: int
    width: int
    batch_size: int
    rows: int
    sizes: tuple[int, ...] = SIZES


@dataclass(frozen=True)
class Speed:
    """What was measured of a case.

    Attributes:
        rows_per_second: of the family.
        plain_rows_per_second: of the plain loop.
        arithmetic_share: achieved floating-point operations, of those of a large matrix product here.
        bandwidth_share: bytes that must at least be moved, of those of a large copy here.
    """

    case: Case
    rows_per_second: float
    plain_rows_per_second: float
    arithmetic_share: float
    bandwidth_share: float


@dataclass(frozen=True)
class Packed:
    """Seconds of an epoch of several trials."""

    case: Case
    trials: int
    together: float
    in_sequence: float


GPU = [Case(2, 128, 1024, 2_000_000), Case(2, 256, 4096, 4_000_000), Case(3, 1024, 16_384, 4_000_000)]
CPU = [Case(2, 64, 256, 50_000), Case(2, 128, 1024, 100_000), Case(2, 256, 4096, 100_000)]
TINY = [Case(1, 8, 64, 500)]
GPU_PACKED = [Case(2, 64, 1024, 500_000, sizes) for sizes in (FEW, SIZES)]
CPU_PACKED = [Case(1, 32, 256, 25_000, sizes) for sizes in (FEW, SIZES)]
TRIALS = 16


def main(arguments: list[str]) -> int:
    """Measure, print and write."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.gpu_training", description=__doc__.splitlines()[0])
    parser.add_argument("--cpu", action="store_true", help="measure the CPU, with smaller sizes")
    parser.add_argument("--output", type=Path, default=Path(".local/benchmarks/gpu_training.json"))
    chosen = parser.parse_args(arguments)
    there = torch.cuda.is_available()
    if chosen.cpu or not there:
        torch.set_num_threads(1)
    if not there and not chosen.cpu:
        print("No GPU: torch.cuda.is_available() is False. A tiny run on the CPU follows; its figures mean nothing.")
        speeds = [measure(case, torch.device("cpu")) for case in TINY]
        measure_packed(TINY[0], 2, torch.device("cpu"))
        assert all(speed.rows_per_second > 0 for speed in speeds)
        print("It runs. `--cpu` measures this machine's CPU.")
        return 0
    device = torch.device("cpu" if chosen.cpu else "cuda")
    name = _name(device)
    speeds = [measure(case, device) for case in (CPU if chosen.cpu else GPU)]
    packed = [measure_packed(case, TRIALS, device) for case in (CPU_PACKED if chosen.cpu else GPU_PACKED)]
    print(render(name, speeds, packed))
    chosen.output.parent.mkdir(parents=True, exist_ok=True)
    content = {
        "device": name,
        "torch": torch.__version__,
        "precision": str(_precision(device)),
        "speeds": [asdict(speed) for speed in speeds],
        "packed": [asdict(one) for one in packed],
    }
    chosen.output.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
    print(f"\nWritten to {chosen.output}")
    DOCUMENT.write_text(
        placed(DOCUMENT.read_text(encoding="utf-8"), device.type.upper(), render(name, speeds, packed)),
        encoding="utf-8",
    )
    return 0


def placed(document: str, block: str, content: str) -> str:
    """Return a document with the content of ``<!-- BEGIN block -->`` replaced.

    Raises:
        ValueError: it has no such block.
    """
    begin, end = f"<!-- BEGIN {block} -->", f"<!-- END {block} -->"
    before, found, rest = document.partition(begin)
    _, closed, after = rest.partition(end)
    if not found or not closed:
        raise ValueError(f"{DOCUMENT.name}: no block between {begin} and {end}")
    return f"{before}{begin}\n\n{content}\n\n{end}{after}"


def render(name: str, speeds: list[Speed], packed: list[Packed]) -> str:
    """Return the tables."""
    lines = [
        f"Device: {name}",
        "",
        "| layers × width | batch | rows/s | plain loop, rows/s | faster by | of the arithmetic | of the bandwidth |",
        "|---|---:|---:|---:|---:|---:|---:|",
    ]
    for speed in speeds:
        case, ratio = speed.case, speed.rows_per_second / speed.plain_rows_per_second
        lines.append(
            f"| {case.layers} × {case.width} | {case.batch_size:,} | {speed.rows_per_second:,.0f} | "
            f"{speed.plain_rows_per_second:,.0f} | {ratio:.1f} × | {speed.arithmetic_share:.0%} | "
            f"{speed.bandwidth_share:.0%} |"
        )
    lines += [
        "",
        "| an epoch of trials | layers × width | batch | largest category | together, s | in sequence, s | faster by |",
        "|---:|---:|---:|---:|---:|---:|---:|",
    ]
    for one in packed:
        case = one.case
        lines.append(
            f"| {one.trials} | {case.layers} × {case.width} | {case.batch_size:,} | {max(case.sizes):,} | "
            f"{one.together:.2f} | {one.in_sequence:.2f} | {one.in_sequence / one.together:.1f} × |"
        )
    return "\n".join(lines)


# --- The family ---------------------------------------------------------------------------------


def _shape(case: Case) -> Shape:
    inputs = Inputs(tuple(range(NUMBERS)), tuple(range(NUMBERS, NUMBERS + len(case.sizes))), case.sizes)
    return Shape(inputs, case.layers, case.width, 0, 1)


def _rows(case: Case) -> Rows:
    count = case.rows
    draw = np.random.default_rng(1)
    numbers = draw.standard_normal((count, NUMBERS), dtype=np.float32)
    codes = np.stack([draw.integers(0, size + 1, count, dtype=np.int32) for size in case.sizes], axis=1)
    target = (numbers[:, 0] * (codes[:, 0] - 1.5) + draw.standard_normal(count) > 0).astype(np.float32)
    return Rows(torch.from_numpy(numbers), torch.from_numpy(codes), torch.from_numpy(target))


def _params(case: Case, rate: float = 1e-3) -> Params:
    return Params("adamw", rate, 0.01, 0.9, case.batch_size, 1, 1, case.layers, case.width, 0.1, 0, "auto")


def _precision(device: torch.device) -> torch.dtype:
    computes = device.type == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False)
    return torch.bfloat16 if computes else torch.float32


def _stack(case: Case, params: list[Params], device: torch.device) -> Stack:
    shape = _shape(case)
    setting = Setting("binary", shape, case.batch_size, _precision(device), 0, device, Peers())
    weights = initial_weights(shape, 0, torch.zeros(1)).repeat(len(params), 1).to(device)
    return Stack(setting, params, weights, Moments.zeros(len(params), shape.layout.size, device))


def _seconds(work: Callable[[], object], device: torch.device) -> float:
    """Return the fastest of three, when the device has done it: of the clock, or on a CPU of the processor."""
    clock = time.perf_counter if device.type == "cuda" else time.process_time
    best = float("inf")
    for _ in range(3):
        began = clock()
        work()
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        best = min(best, clock() - began)
    return best


def measure(case: Case, device: torch.device) -> Speed:
    """Train one network by the family and by the plain loop."""
    rows = _rows(case)
    feed, stack = Feed(rows, device), _stack(case, [_params(case)], device)
    stack.train_epoch(0, feed)  # what is only done once: recording, libraries
    own = case.rows / _seconds(lambda: stack.train_epoch(1, feed), device)
    plain_epoch = plain(case, rows, device)
    plain_epoch()
    other = case.rows / _seconds(plain_epoch, device)
    operations, moved = cost(stack.setting.shape, case.batch_size, _precision(device))
    return Speed(
        case,
        own,
        other,
        own * operations / arithmetic(device),
        own * moved / bandwidth(device),
    )


def measure_packed(case: Case, trials: int, device: torch.device) -> Packed:
    """Train several trials together, and one after the other."""
    feed = Feed(_rows(case), device)
    params = [_params(case, 1e-3 * (1 + number)) for number in range(trials)]
    alone = _stack(case, params[:1], device)
    most = most_together(alone.setting) or trials
    stacks = [_stack(case, params[start : start + most], device) for start in range(0, trials, most)]
    singles = [_stack(case, [one], device) for one in params]

    def epoch(members: list[Stack]) -> None:
        for stack in members:
            stack.train_epoch(0, feed)

    epoch(stacks)
    epoch(singles)
    return Packed(case, trials, _seconds(lambda: epoch(stacks), device), _seconds(lambda: epoch(singles), device))


# --- What it is compared with -------------------------------------------------------------------


class Plain(nn.Module):
    """The same network as modules."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        widths = {feature: group.width for group in shape.groups for feature in group.features}
        self.embeddings = nn.ModuleList(
            nn.Embedding(size + 1, widths[feature]) for feature, size in enumerate(shape.inputs.sizes)
        )
        units: list[nn.Module] = []
        width = shape.input_width
        for _ in range(shape.layers):
            units += [nn.Linear(width, shape.width), nn.LayerNorm(shape.width, EPSILON), nn.ReLU(), nn.Dropout(0.1)]
            width = shape.width
        self.layers = nn.Sequential(*units, nn.Linear(width, 1))

    def forward(self, numbers: Any, codes: Any) -> Any:
        """Return logits (rows,)."""
        found = [embedding(codes[:, feature]) for feature, embedding in enumerate(self.embeddings)]
        return self.layers(torch.cat([numbers, *found], dim=1))[:, 0]


def plain(case: Case, rows: Rows, device: torch.device) -> Callable[[], None]:
    """Return an epoch of the loop that is commonly written."""
    torch.manual_seed(0)
    model = Plain(_shape(case)).to(device)
    optimiser = torch.optim.AdamW(model.parameters(), lr=1e-3, weight_decay=0.01)
    loss = nn.BCEWithLogitsLoss()
    cuda = device.type == "cuda"
    loader = DataLoader(
        TensorDataset(*rows.tensors),
        batch_size=case.batch_size,
        shuffle=True,
        num_workers=min(8, os.cpu_count() or 1) if cuda else 0,
        pin_memory=cuda,
        persistent_workers=cuda,
    )

    def epoch() -> None:
        for batch in loader:
            numbers, codes, target = (tensor.to(device, non_blocking=True) for tensor in batch)
            optimiser.zero_grad()
            with torch.autocast(device.type, dtype=torch.bfloat16, enabled=_precision(device) == torch.bfloat16):
                found = loss(model(numbers, codes), target)
            found.backward()
            optimiser.step()

    return epoch


# --- What the device can do ---------------------------------------------------------------------


def cost(shape: Shape, batch_size: int, precision: torch.dtype) -> tuple[float, float]:
    """Return floating-point operations and least bytes of training on one row.

    Operations: two for each weight of a matrix forward, four backward. Bytes: the example is read, copied and read;
    what enters each layer is written and read, and once more read and its gradient written and read backward, as if
    all else were fused; the optimiser reads and writes weights and two moments and reads gradients, once a batch.
    """
    layout = shape.layout
    matrices = [dimensions for name, dimensions in layout.shapes.items() if name.startswith("weight")]
    operations = 6.0 * sum(first * second for first, second in matrices)
    units = shape.input_width + shape.layers * shape.width
    bytes_each = torch.finfo(precision).bits // 8
    example = 4 * (len(shape.inputs.numbers) + len(shape.inputs.categories) + 1)
    return operations, 3.0 * example + 5.0 * units * bytes_each + 28.0 * layout.parameters / batch_size


def arithmetic(device: torch.device) -> float:
    """Return floating-point operations a second of a large matrix product."""
    size = 8192 if device.type == "cuda" else 1024
    left, right = (torch.randn(size, size, device=device, dtype=_precision(device)) for _ in range(2))
    torch.mm(left, right)
    return 2.0 * size**3 / _seconds(lambda: torch.mm(left, right), device)


def bandwidth(device: torch.device) -> float:
    """Return bytes a second that a large copy reads and writes."""
    source = torch.ones(2**28 if device.type == "cuda" else 2**25, device=device)
    target = torch.empty_like(source)
    target.copy_(source)
    return 2.0 * source.numel() * 4 / _seconds(lambda: target.copy_(source), device)


def _name(device: torch.device) -> str:
    if device.type == "cuda":
        return str(torch.cuda.get_device_name(device))
    return (
        f"CPU ({machine.processor()}, one thread, seconds of the processor); figures of a CPU say nothing about a GPU"
    )


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
