"""A trained network: what is told about it, and how it is saved."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from trainer.families import base
from trainer.families.pytorch import export
from trainer.families.pytorch.feed import Feed, rows_of
from trainer.families.pytorch.network import Network, Shape, predictions
from trainer.families.pytorch.training import Run

MODEL_FILE = "model.onnx"

IMPORTANCE_ROWS = 4096


class FittedPytorch:
    """A trial's network with the weights of its best epoch.

    Args:
        run: of the trial, ended.
        target_scale: centre and scale of a regression's target.
        train_rows: examples of an epoch.
        validation: what importance is computed on.
    """

    def __init__(
        self,
        task: base.Task,
        features: base.Features,
        shape: Shape,
        run: Run,
        target_scale: tuple[float, float],
        train_rows: int,
        validation: Feed,
    ) -> None:
        self._task = task
        self._features = features
        self._shape = shape
        self._weights = run.state.best
        self._target_scale = target_scale
        self._sample = validation.sample(IMPORTANCE_ROWS)
        self.history = run.state.history
        """What each epoch has reported."""
        self.facts: Mapping[str, float] = {
            "epochs": float(run.state.epoch),
            "best_epoch": float(run.state.best_epoch),
            "parameters": float(shape.layout.parameters),
        }
        if run.seconds:
            self.facts = {**self.facts, "rows_per_second": run.epochs * train_rows / run.seconds}

    @cached_property
    def importance(self) -> Mapping[str, float]:
        """By gradient: how much the answer would change, to first order, were a feature its average instead.

        The mean over a sample of the validation split of ``|gradient . (input - mean input)|``, of the logit (of the
        likeliest of several classes) or the number; a category's input is its embedding. Effects that only features
        together have are not in it.
        """
        network = Network(self._shape, torch.device("cpu"))
        weights = self._shape.layout.views(self._weights.view(1, -1))
        rows = self._sample
        pieces = [piece.detach().requires_grad_() for piece in network.embed(weights, rows.numbers, rows.codes)]
        answers = network.answer(weights, pieces)
        gradients = torch.autograd.grad(answers.max(dim=-1).values.sum(), pieces)
        effects = [
            (gradient * (piece - piece.mean(dim=1, keepdim=True)))[0].detach()
            for gradient, piece in zip(gradients, pieces, strict=True)
        ]
        inputs, names = self._shape.inputs, [feature.name for feature in self._features]
        found: dict[str, float] = {}
        if inputs.numbers:
            for position, effect in zip(inputs.numbers, effects.pop(0).abs().mean(dim=0).tolist(), strict=True):
                found[names[position]] = effect
        for group, effect in zip(self._shape.groups, effects, strict=True):
            each = effect.view(len(rows), len(group.features), group.width).sum(dim=2).abs().mean(dim=0)
            for feature, value in zip(group.features, each.tolist(), strict=True):
                found[names[inputs.categories[feature]]] = value
        total = sum(found.values())
        return {name: found[name] / total for name in names} if total > 0 else {}

    @torch.no_grad()
    def predict_encoded(self, encoded: NDArray[np.float32]) -> NDArray[np.float64]:
        """Predict by torch, as `modelformat.Predictor.predict_encoded` does by the saved graph."""
        rows = rows_of(self._shape.inputs, encoded, np.zeros(len(encoded), dtype=np.float32))
        network = Network(self._shape, torch.device("cpu"))
        weights = self._shape.layout.views(self._weights.view(1, -1))
        answers = network.answer(weights, network.embed(weights, rows.numbers, rows.codes))[0]
        centre, scale = self._target_scale
        found: NDArray[np.float64] = predictions(self._task.kind, answers).double().numpy()
        return found * scale + centre if self._task.kind == "regression" else found

    def save(self, directory: Path) -> None:
        """See `base.Fitted`."""
        views = self._shape.layout.views(self._weights.view(1, -1))
        weights = {name: view[0].numpy() for name, view in views.items()}
        model = export.network(self._task.kind, self._shape, weights, len(self._features), self._target_scale)
        (directory / MODEL_FILE).write_bytes(model.SerializeToString(deterministic=True))
        base.write_manifest(directory, "pytorch", "onnx", MODEL_FILE, self._task, self._features)
