"""What the evaluation report is made of."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mlplatform.documents.evaluation import EvaluateResult
from mlplatform.documents.results import PrepareResult
from mlplatform.documents.run import RunConfig
from trainer.reports.plots import Series

Vector = NDArray[np.float64]


@dataclass(frozen=True)
class Evaluation:
    """What the report is made of.

    Attributes:
        target: (rows,) as `trainer.data.Dataset.target`.
        candidate: as `modelformat.Predictor.predict` returns it.
        champion: as candidate, on the same rows; None where there is none, or where it is the candidate itself.
        classes: names of the classes; None for a regression.
        importance: the artifact ``importance.json`` of the candidate's run (share by feature), None where there is
            none; champion_importance as this.
        history: the artifact ``history.json`` of the candidate's run.
        data_digest: identity of the test rows.
    """

    config: RunConfig
    prepared: PrepareResult
    result: EvaluateResult
    target: Vector
    candidate: NDArray[np.float64]
    champion: NDArray[np.float64] | None
    classes: Sequence[str] | None
    candidate_family: str
    champion_family: str | None
    importance: Any
    champion_importance: Any
    history: Any
    data_digest: str


@dataclass(frozen=True)
class Model:
    """One of the two, as far as it can be drawn: all its predictions are finite."""

    role: str
    name: str
    predictions: NDArray[np.float64]

    def series(self, x: Vector, y: Vector, name: str | None = None) -> Series:
        """Return what a plot shows of this model, in its colour."""
        return Series(name or self.name, x, y, self.role)


def drawable(evaluation: Evaluation) -> list[Model]:
    """Return candidate and champion, as far as they can be drawn."""
    result = evaluation.result
    models = [Model("candidate", f"Candidate (version {result.candidate.model_version})", evaluation.candidate)]
    if evaluation.champion is not None and result.champion is not None:
        name = f"Champion (version {result.champion.model_version})"
        models.append(Model("champion", name, evaluation.champion))
    return [model for model in models if np.isfinite(model.predictions).all()]
