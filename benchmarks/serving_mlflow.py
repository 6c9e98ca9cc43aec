"""The booster as an MLflow model from code, which is faster than as MLflow's own XGBoost model."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import mlflow

from benchmarks.serving_by_hand import Scores


class Model(mlflow.pyfunc.PythonModel):
    """Hands frames over."""

    def load_context(self, context: Any) -> None:
        """Load the booster."""
        self._scores = Scores(Path(context.artifacts["model"]))

    def predict(self, context, model_input, params=None):  # type: ignore[no-untyped-def]  # types switch checks on
        """Predict a frame."""
        return self._scores.of_frame(model_input)


mlflow.models.set_model(Model())
