"""The network: an embedding for each category feature, then layers of ``Linear, LayerNorm, ReLU, dropout``.

The layer norm has a shift and no gain, which the weights of the next layer are already.

Several trials of one shape are one computation, with the trial as the leading dimension of every tensor: a small
network alone leaves most of a GPU, and of a CPU's time, to the launching of its operations. On a CPU a trial's
numbers are bitwise those it would have alone. Layer norm and not
batch norm: it is the same in training and in prediction, and does not depend on how a batch is split over processes.

All weights of a trial are one row of numbers (`Layout`), so that copying, saving, averaging over processes and
updating them is one operation each.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor
from torch.nn import functional as F

from mlplatform.config.base import TaskKind

EPSILON = 1e-5
"""Of the layer norm, in training and in the exported graph."""

LIMIT = 100.0
"""Numbers further from their mean, in standard deviations, count as that far: an answer is finite whatever is sent."""

_ALIGNMENT = 64  # numbers: 256 bytes, what the fastest kernels ask of the start of a matrix
_LARGEST_EMBEDDING = 64


@dataclass(frozen=True)
class Inputs:
    """Which columns of the encoded matrix are what.

    Attributes:
        numbers: positions of the numbers.
        categories: positions of the category codes.
        sizes: number of categories of each of these.
    """

    numbers: tuple[int, ...]
    categories: tuple[int, ...]
    sizes: tuple[int, ...]


@dataclass(frozen=True)
class EmbeddingGroup:
    """Category features whose embeddings are equally wide: they share one table, and one look-up.

    Attributes:
        features: which of `Inputs.categories`.
        offsets: row of each feature's code 0, which stands for missing and unknown.
        rows: of the table.
    """

    width: int
    features: tuple[int, ...]
    offsets: tuple[int, ...]
    rows: int


@dataclass(frozen=True)
class Shape:
    """What trials must have in common to be trained together."""

    inputs: Inputs
    layers: int
    width: int
    embedding_width: int
    outputs: int

    @cached_property
    def groups(self) -> list[EmbeddingGroup]:
        """The embedding tables, by width."""
        members: dict[int, list[int]] = {}
        for feature, size in enumerate(self.inputs.sizes):
            members.setdefault(self.embedding_width or embedding_width(size), []).append(feature)
        groups = []
        for width, features in sorted(members.items()):
            offsets, rows = [], 0
            for feature in features:
                offsets.append(rows)
                rows += self.inputs.sizes[feature] + 1
            groups.append(EmbeddingGroup(width, tuple(features), tuple(offsets), rows))
        return groups

    @property
    def input_width(self) -> int:
        """Units that enter the first layer."""
        return len(self.inputs.numbers) + sum(group.width * len(group.features) for group in self.groups)

    @cached_property
    def layout(self) -> Layout:
        """Where each weight is in a trial's row."""
        return Layout(self)


def embedding_width(categories: int) -> int:
    """Return how wide the embedding of a feature is unless said otherwise.

    The rule of fast.ai, 1.6 * n ** 0.56, at the next power of two: few widths, so few look-ups.
    Source: https://docs.fast.ai/tabular.model.html#emb_sz_rule
    """
    exponent = math.ceil(math.log2(max(2.0, 1.6 * categories**0.56)))
    return min(_LARGEST_EMBEDDING, 1 << exponent)


class Layout:
    """Names, shapes and places of the weights in a trial's row; those that decay come first."""

    def __init__(self, shape: Shape) -> None:
        decayed: dict[str, tuple[int, ...]] = {}
        others: dict[str, tuple[int, ...]] = {}
        for group in shape.groups:
            decayed[f"embedding.{group.width}"] = (group.rows, group.width)
        width = shape.input_width
        for layer in range(shape.layers):
            decayed[f"weight.{layer}"] = (width, shape.width)
            # One row, so that it is added to every row of a batch.
            others |= {f"{name}.{layer}": (1, shape.width) for name in ("bias", "shift")}
            width = shape.width
        decayed["weight.out"] = (width, shape.outputs)
        others["bias.out"] = (1, shape.outputs)
        self.shapes = {**decayed, **others}
        self.places: dict[str, tuple[int, int]] = {}
        position = 0
        for name, dimensions in self.shapes.items():
            if name == next(iter(others)):
                self.decayed = position
            size = math.prod(dimensions)
            self.places[name] = (position, position + size)
            position += -(-size // _ALIGNMENT) * _ALIGNMENT
        self.size = position
        """Numbers in a row, padding included."""
        self.parameters = sum(math.prod(dimensions) for dimensions in self.shapes.values())

    def views(self, rows: Tensor) -> dict[str, Tensor]:
        """Return each weight of all trials, (trials, *shape), as views of their rows (trials, size)."""
        return {
            name: rows[:, start:end].view(len(rows), *self.shapes[name]) for name, (start, end) in self.places.items()
        }


def initial_weights(shape: Shape, seed: int, prior: Tensor) -> Tensor:
    """Return the row (size,) a trial starts from, the same for a seed on every device.

    Args:
        prior: (outputs,) the best answer of a network that knows no feature.
    """
    generator = torch.Generator().manual_seed(seed)
    row = torch.zeros(1, shape.layout.size)
    for name, weight in shape.layout.views(row).items():
        kind, _, which = name.partition(".")
        if kind == "weight" or (kind == "bias" and which != "out"):
            fan_in = shape.layout.shapes[f"weight.{which}"][0]
            weight.uniform_(-(fan_in**-0.5), fan_in**-0.5, generator=generator)
        elif kind == "embedding":
            weight.uniform_(-(weight.shape[-1] ** -0.5), weight.shape[-1] ** -0.5, generator=generator)
    weights = shape.layout.views(row)
    for group in shape.groups:
        # What training has never seen missing must not add noise in prediction.
        weights[f"embedding.{group.width}"][:, list(group.offsets)] = 0.0
    weights["bias.out"][:] = prior
    return row[0]


class Network:
    """Computes what trials of one shape answer.

    Args:
        device: where the weights and the examples are.
    """

    def __init__(self, shape: Shape, device: torch.device) -> None:
        self.shape = shape
        self._lookups = [
            (
                group,
                torch.tensor(group.features, device=device),
                torch.tensor(group.offsets, dtype=torch.int32, device=device),
            )
            for group in shape.groups
        ]

    def embed(self, weights: dict[str, Tensor], numbers: Tensor, codes: Tensor) -> list[Tensor]:
        """Return what enters the first layer: (trials, rows, units) of the numbers and of each embedding table.

        Args:
            numbers: (rows, numbers), standardised.
            codes: int32 (rows, categories); 0 is missing or unknown.
        """
        trials, rows = len(weights["weight.out"]), len(numbers)
        pieces = [numbers.expand(trials, *numbers.shape)] if numbers.shape[1] else []
        for group, features, offsets in self._lookups:
            table = weights[f"embedding.{group.width}"]
            # `embedding` on one table of all trials: its gradient is an order of magnitude faster on a CPU than that
            # of an index into the second dimension.
            wanted = (codes.index_select(1, features) + offsets).expand(trials, rows, len(features))
            if trials > 1:
                first = torch.arange(trials, dtype=torch.int32, device=codes.device) * group.rows
                wanted = wanted + first.view(trials, 1, 1)
            found = F.embedding(wanted, table.reshape(trials * group.rows, group.width))
            pieces.append(found.view(trials, rows, len(features) * group.width))
        return pieces

    def answer(
        self, weights: dict[str, Tensor], pieces: list[Tensor], keep: Tensor | None = None, scale: Tensor | None = None
    ) -> Tensor:
        """Return the raw answers (trials, rows, outputs): logits, or standardised numbers.

        Args:
            keep: (trials, layers, rows, width) which units dropout keeps; None keeps all.
            scale: (trials, 1, 1) what the kept ones are multiplied by.
        """
        units = torch.cat(pieces, dim=-1) if len(pieces) > 1 else pieces[0]
        width = self.shape.width
        for layer in range(self.shape.layers):
            units = torch.baddbmm(weights[f"bias.{layer}"], units, weights[f"weight.{layer}"])
            units = F.relu(F.layer_norm(units, (width,), eps=EPSILON) + weights[f"shift.{layer}"])
            if keep is not None and scale is not None:
                units = units * (keep[:, layer] * scale)
        bias, weight = weights["bias.out"], weights["weight.out"]
        if self.shape.outputs > 1:
            return torch.baddbmm(bias, units, weight)
        # As if there were two: for a single column a trial alone is computed by another routine than several, whose
        # sums are rounded differently, and then a trial's model would depend on what it is trained together with.
        return torch.baddbmm(bias, units, weight.expand(-1, -1, 2))[:, :, :1]


def losses(kind: TaskKind, answers: Tensor, target: Tensor) -> Tensor:
    """Return each trial's sum of losses over the rows, (trials,): cross-entropy in nats, or squared errors.

    Args:
        answers: (trials, rows, outputs), raw.
        target: (rows,) float32, or int64 positions of several classes.
    """
    trials, rows, outputs = answers.shape
    answers = answers.float()
    if kind == "multiclass":
        each = F.cross_entropy(answers.reshape(trials * rows, outputs), target.repeat(trials), reduction="none")
        return each.view(trials, rows).sum(dim=1)
    answers, target = answers[:, :, 0], target.expand(trials, rows)
    if kind == "binary":
        return F.binary_cross_entropy_with_logits(answers, target, reduction="none").sum(dim=1)
    return F.mse_loss(answers, target, reduction="none").sum(dim=1)


def predictions(kind: TaskKind, answers: Tensor) -> Tensor:
    """Return probabilities of raw answers (..., outputs): (...) of 1, or (..., classes); numbers as they are."""
    if kind == "multiclass":
        return answers.softmax(dim=-1)
    return answers[..., 0].sigmoid() if kind == "binary" else answers[..., 0]
