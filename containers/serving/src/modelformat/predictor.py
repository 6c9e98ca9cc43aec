"""Loads a saved model and predicts, with the one engine its family needs."""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from modelformat.integrity import digest
from modelformat.manifest import Manifest, ModelFormatError, read_manifest
from modelformat.transform import Column, Encoder

Engine = Callable[[NDArray[np.float32]], NDArray[np.float32]]


class Predictor:
    """A saved model, ready to predict. Thread-safe."""

    def __init__(self, manifest: Manifest, engine: Engine, model_digest: str) -> None:
        self.manifest = manifest
        self.encoder = Encoder(manifest.features)
        self.digest = model_digest
        self._engine = engine

    @classmethod
    def load(cls, directory: Path, *, threads: int | None = None) -> Self:
        """Load the model saved in a directory.

        Args:
            directory: holds ``manifest.json`` and the file it names.
            threads: how many threads one prediction may use; None leaves it to the engine.

        Raises:
            ModelFormatError: the directory does not hold a usable model.
        """
        manifest = read_manifest(directory)
        open_engine = {"xgboost": _open_xgboost, "sklearn": _open_onnx}[manifest.family]
        predictor = cls(manifest, open_engine(directory / manifest.model_file, threads), digest(directory))
        # A file that loads may still not take these inputs; one prediction of an empty row tells now, not later.
        try:
            answer = predictor.predict({name: [None] for name in predictor.encoder.names})
        except Exception as error:
            raise ModelFormatError(
                f"{directory / manifest.model_file}: does not fit its manifest: {_first_line(error)}"
            ) from error
        if answer.shape != (1,):
            raise ModelFormatError(f"{directory / manifest.model_file}: one row gave an answer of shape {answer.shape}")
        return predictor

    def predict(self, columns: Mapping[str, Column]) -> NDArray[np.float64]:
        """Return the probability of the positive class per row, float64 (rows,).

        Args:
            columns: values by feature name; see `Encoder.encode`. Other names are ignored.

        Raises:
            InputError: the columns are not what the model was trained on.
        """
        return self.predict_encoded(self.encoder.encode(columns))

    def predict_encoded(self, encoded: NDArray[np.float32]) -> NDArray[np.float64]:
        """Like `predict`, for a matrix (rows, width) that is encoded already."""
        if not len(encoded):
            return np.empty(0, dtype=np.float64)
        return self._engine(encoded).astype(np.float64)


def _first_line(error: BaseException) -> str:
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__


def import_xgboost() -> Any:
    """Import XGBoost alone: 0.2 s instead of 2 s where scikit-learn and pandas are installed too.

    XGBoost copes with a missing scikit-learn and a missing wrapper for it, so both are hidden while it is
    imported, unless they are there already. Whoever needs ``XGBClassifier`` imports ``xgboost`` before.
    """
    if "xgboost" in sys.modules:
        return sys.modules["xgboost"]
    hidden = [name for name in ("sklearn", "xgboost.sklearn") if name not in sys.modules]
    try:
        for name in hidden:
            sys.modules[name] = None  # type: ignore[assignment]  # makes importing it an ImportError
        return importlib.import_module("xgboost")
    finally:
        for name in hidden:
            sys.modules.pop(name, None)


def _open_xgboost(path: Path, threads: int | None) -> Engine:
    xgboost = import_xgboost()
    booster = xgboost.Booster()
    try:
        booster.load_model(path)
    except xgboost.core.XGBoostError as error:
        raise ModelFormatError(f"{path}: not an XGBoost model: {_first_line(error)}") from None
    if threads is not None:
        booster.set_param({"nthread": threads})

    def predict(encoded: NDArray[np.float32]) -> NDArray[np.float32]:
        answer: NDArray[np.float32] = booster.inplace_predict(encoded, validate_features=False)
        return answer

    return predict


def _usable_cores() -> int:
    """Cores this process may use; the engine's own default counts those of the machine and pins threads to them."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _open_onnx(path: Path, threads: int | None) -> Engine:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    # Idle threads that spin would take the cores from everything else in the container.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.intra_op_num_threads = threads or _usable_cores()
    options.inter_op_num_threads = 1
    try:
        session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime's exceptions have no common base
        raise ModelFormatError(f"{path}: not an ONNX model: {_first_line(error)}") from None
    inputs = [item.name for item in session.get_inputs()]
    outputs = [item.name for item in session.get_outputs() if item.type in ("tensor(float)", "tensor(double)")]
    if len(inputs) != 1 or not outputs:
        raise ModelFormatError(
            f"{path}: expected one input and an output tensor of probabilities, found inputs {inputs} and outputs "
            f"{[f'{item.name}: {item.type}' for item in session.get_outputs()]}; convert it with zipmap off"
        )
    (feed,), output = inputs, outputs[-1:]

    def predict(encoded: NDArray[np.float32]) -> NDArray[np.float32]:
        answer: NDArray[np.float32] = session.run(output, {feed: encoded})[0]
        return answer[:, -1] if answer.ndim == 2 else answer

    return predict
