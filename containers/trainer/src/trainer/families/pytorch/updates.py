"""The optimisers, over rows of weights (`network.Layout`): torch's fused ones for large networks, else vectorised.

A fused optimiser reads and writes everything once, but takes one learning rate, so each trial needs its own call:
right for large rows. For many small trials the calls are what costs, and a dozen operations over all of them at once
are faster. Formulas as in torch.optim's Adam, AdamW and SGD, so that both agree but for rounding.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby

import torch
from torch import Tensor
from torch.optim.adam import adam
from torch.optim.sgd import sgd

from trainer.families.pytorch.params import Params

BETA1, BETA2, EPSILON = 0.9, 0.999, 1e-8


FUSED_FROM = 2**17
"""Numbers in a row from which the fused ones are faster (they are 0.09 ms for each trial on a CPU, however small)."""


@dataclass
class Moments:
    """What the optimiser remembers.

    Attributes:
        first: (trials, size) mean of the gradients, or SGD's momentum.
        second: (trials, size) mean of their squares.
        steps: (trials, 2) number of updates, of the weights that decay and of the others.
    """

    first: Tensor
    second: Tensor
    steps: Tensor

    @classmethod
    def zeros(cls, trials: int, size: int, device: torch.device) -> Moments:
        """Return those of trials that have not begun."""
        return cls(*(torch.zeros(trials, columns, device=device) for columns in (size, size, 2)))


@dataclass(frozen=True)
class _Part:
    """Trials with the same optimiser: their rows of everything, (trials, …), and their settings, (trials, 1)."""

    params: Sequence[Params]
    weights: Tensor
    gradients: Tensor
    moments: Moments
    rate: Tensor
    weight_decay: Tensor
    momentum: Tensor


class Updates:
    """Updates the weights of trials by their gradients, which are overwritten.

    Args:
        params: of each trial; trials with the same optimiser must be neighbours.
        decayed: how many numbers of a row decay; the others are biases and norms.
    """

    def __init__(
        self, params: Sequence[Params], weights: Tensor, gradients: Tensor, moments: Moments, decayed: int
    ) -> None:
        def column(values: list[float]) -> Tensor:
            return torch.tensor(values, dtype=torch.float32, device=weights.device).view(-1, 1)

        self._decayed = decayed
        self._parts: list[_Part] = []
        for _, neighbours in groupby(enumerate(params), key=lambda one: one[1].optimizer):
            positions, members = zip(*neighbours, strict=True)
            rows = slice(positions[0], positions[-1] + 1)
            self._parts.append(
                _Part(
                    params=members,
                    weights=weights[rows],
                    gradients=gradients[rows],
                    moments=Moments(moments.first[rows], moments.second[rows], moments.steps[rows]),
                    # Here and not in each update, which must not wait for a copy to the device.
                    rate=column([one.learning_rate for one in members]),
                    weight_decay=column([one.weight_decay for one in members]),
                    momentum=column([one.momentum for one in members]),
                )
            )

    @torch.no_grad()
    def apply(self) -> None:
        """Update all weights once."""
        for part in self._parts:
            # On a CPU it depends on the size alone, so that a trial is computed the same way whatever is beside it.
            alone_on_gpu = part.weights.is_cuda and len(part.params) == 1
            if alone_on_gpu or part.weights.shape[1] >= FUSED_FROM:
                for trial in range(len(part.params)):
                    self._fused(part, trial)
            else:
                self._vectorised(part)

    def _fused(self, part: _Part, trial: int) -> None:
        params, moments = part.params[trial], part.moments
        spans = ((slice(None, self._decayed), params.weight_decay), (slice(self._decayed, None), 0.0))
        for index, (span, weight_decay) in enumerate(spans):
            if params.optimizer == "sgd":
                sgd(
                    [part.weights[trial, span]],
                    [part.gradients[trial, span]],
                    [moments.first[trial, span] if params.momentum else None],
                    fused=True,
                    weight_decay=weight_decay,
                    momentum=params.momentum,
                    lr=params.learning_rate,
                    dampening=0.0,
                    nesterov=False,
                    maximize=False,
                )
                continue
            adam(
                [part.weights[trial, span]],
                [part.gradients[trial, span]],
                [moments.first[trial, span]],
                [moments.second[trial, span]],
                [],
                [moments.steps[trial, index]],
                fused=True,
                capturable=part.weights.is_cuda,
                decoupled_weight_decay=params.optimizer == "adamw",
                amsgrad=False,
                beta1=BETA1,
                beta2=BETA2,
                lr=params.learning_rate,
                weight_decay=weight_decay,
                eps=EPSILON,
                maximize=False,
            )

    def _vectorised(self, part: _Part) -> None:
        optimizer, moments, gradients = part.params[0].optimizer, part.moments, part.gradients
        decaying = part.weights[:, : self._decayed]
        if optimizer == "adamw":
            decaying.mul_(1 - part.rate * part.weight_decay)
        else:
            gradients[:, : self._decayed].addcmul_(decaying, part.weight_decay)
        if optimizer == "sgd":
            moments.first.mul_(part.momentum).add_(gradients)
            part.weights.addcmul_(moments.first, part.rate, value=-1)
            return
        moments.steps.add_(1)
        count = moments.steps[:, :1]
        moments.first.lerp_(gradients, 1 - BETA1)
        moments.second.mul_(BETA2).addcmul_(gradients, gradients, value=1 - BETA2)
        deviation = moments.second.sqrt().div_((1 - BETA2**count).sqrt()).add_(EPSILON)
        part.weights.addcdiv_(moments.first * (part.rate / (1 - BETA1**count)), deviation, value=-1)
