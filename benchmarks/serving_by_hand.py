"""The same booster as one would serve it by hand, for MLflow and BentoML; see `benchmarks.serving`.

Written to be fast: one thread per prediction, no DMatrix, pandas only where the server brings it anyway.
`python serving_by_hand.py MODEL FOLDER` writes FOLDER/mlflow (as MLflow saves an XGBoost model), FOLDER/mlflow-by-hand,
and FOLDER/model.onnx if it can be converted.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import xgboost


class Scores:
    """The booster with its names and categories."""

    def __init__(self, directory: Path) -> None:
        manifest = json.loads((directory / "manifest.json").read_text(encoding="utf-8"))
        self.codes = {
            feature["name"]: {name: code for code, name in enumerate(feature["categories"])}
            if feature["kind"] == "category"
            else None
            for feature in manifest["features"]
        }
        self._booster = xgboost.Booster(model_file=str(directory / manifest["model_file"]))
        self._booster.set_param({"nthread": 1})

    def of_columns(self, columns: Mapping[str, Sequence[Any]]) -> list[float]:
        """Predict columns by name."""
        parts = [
            columns[name] if known is None else list(map(known.get, columns[name]))
            for name, known in self.codes.items()
        ]
        matrix = np.array(parts, dtype=np.float32).T
        predictions: list[float] = self._booster.inplace_predict(matrix, validate_features=False).tolist()
        return predictions

    def of_frame(self, frame: Any) -> list[float]:
        """Predict a pandas DataFrame."""
        return self.of_columns({name: frame[name].tolist() for name in self.codes})


def _write(model: Path, folder: Path) -> None:
    import mlflow

    scores = Scores(model)
    numbers = dict.fromkeys(scores.codes, "double")
    booster = xgboost.Booster(model_file=str(model / "model.ubj"))
    booster.set_param({"nthread": 1})
    mlflow.xgboost.save_model(booster, folder / "mlflow", signature=_signature(numbers), pip_requirements=[])
    texts = {name: "string" if known else "double" for name, known in scores.codes.items()}
    mlflow.pyfunc.save_model(
        folder / "mlflow-by-hand",
        python_model=str(Path(__file__).with_name("serving_mlflow.py")),
        artifacts={"model": str(model)},
        pip_requirements=[],
        signature=_signature(texts),
    )
    try:
        from onnxmltools import convert_xgboost
        from onnxmltools.convert.common.data_types import FloatTensorType

        width = len(scores.codes)
        booster.feature_names = None
        graph = convert_xgboost(booster, initial_types=[("rows", FloatTensorType([None, width]))])
        (folder / "model.onnx").write_bytes(graph.SerializeToString())
    except Exception as error:  # whatever the converter does not know; the floor then runs XGBoost itself
        print(f"no ONNX model: {type(error).__name__}: {error}", file=sys.stderr)


def _signature(kinds: Mapping[str, str]) -> Any:
    from mlflow.models import ModelSignature
    from mlflow.types import ColSpec, Schema

    return ModelSignature(inputs=Schema([ColSpec(kind, name, required=False) for name, kind in kinds.items()]))


if __name__ == "__main__":
    _write(Path(sys.argv[1]), Path(sys.argv[2]))
