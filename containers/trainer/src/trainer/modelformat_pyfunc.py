"""Lets ``mlflow.pyfunc.load_model`` load a saved model. Travels with each model, beside `modelformat`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from modelformat import Predictor


class SavedModel:
    """A saved model as MLflow calls it."""

    def __init__(self, predictor: Predictor) -> None:
        self.predictor = predictor

    def predict(self, model_input: Any, params: dict[str, Any] | None = None) -> Any:
        """Predict the rows of a DataFrame.

        Returns:
            float64: (rows,) probabilities of the positive class, (rows, classes) probabilities in the order of the
            manifest's classes, or (rows,) numbers, as the task is.
        """
        names = self.predictor.encoder.names
        return self.predictor.predict({name: model_input[name].to_numpy(dtype=object) for name in names})


def _load_pyfunc(data_path: str) -> SavedModel:
    return SavedModel(Predictor.load(Path(data_path)))
