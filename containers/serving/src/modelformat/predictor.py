"""Loads a saved model and predicts, with the one engine it needs."""

from __future__ import annotations

import importlib
import logging
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from modelformat.integrity import digest
from modelformat.manifest import Manifest, ModelFormatError, read_manifest
from modelformat.one_row import Call, OneRow, call_lightgbm, call_onnx, call_trees, call_xgboost, probe_rows
from modelformat.onnx_session import open_session
from modelformat.transform import Column, Encoder
from modelformat.trees import MAX_FILE_BYTES, UnknownTreesError

_log = logging.getLogger(__name__)

Engine = Callable[[NDArray[np.float32]], NDArray[Any]]
# Makes the engine's prediction of the one row in a buffer.
MakeCall = Callable[[NDArray[np.float32]], Call]


class Predictor:
    """A saved model, ready to predict. Thread-safe."""

    def __init__(
        self, manifest: Manifest, engine: Engine, model_digest: str, make_calls: Sequence[MakeCall] = ()
    ) -> None:
        self.manifest = manifest
        self.encoder = Encoder(manifest.features)
        self.digest = model_digest
        self._engine = engine
        self._make_calls = make_calls
        # Shape of a prediction without its rows.
        self._one: tuple[int, ...] = (len(manifest.classes or ()),) if manifest.task == "multiclass" else ()

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
        path = directory / manifest.model_file
        engine, make_calls = _OPEN[manifest.engine](path, threads)
        predictor = cls(manifest, engine, digest(directory), make_calls)
        # A file that loads may still not take these inputs; one prediction of an empty row tells now, not later.
        try:
            answer = predictor.predict({name: [None] for name in predictor.encoder.names})
        except Exception as error:
            raise ModelFormatError(f"{path}: does not fit its manifest: {_first_line(error)}") from error
        if answer.shape != (1, *predictor._one):
            raise ModelFormatError(
                f"{path}: one row gave an answer of shape {answer.shape}; a {manifest.task} model of "
                f"{manifest.classes or 'numbers'} answers {(1, *predictor._one)}"
            )
        return predictor

    def predict(self, columns: Mapping[str, Column]) -> NDArray[np.float64]:
        """Predict, as the task is.

        Returns:
            float64: of a binary task (rows,), the probability of the second class; of several classes
            (rows, classes), their probabilities in the order of ``manifest.classes``; of a regression (rows,), the
            numbers.

        Args:
            columns: values by feature name; see `Encoder.encode`. Other names are ignored.

        Raises:
            InputError: the columns are not what the model was trained on.
        """
        return self.predict_encoded(self.encoder.encode(columns))

    def one_row(self) -> OneRow | None:
        """Return what predicts single rows fastest, for one thread, or None where all that is faster answers otherwise.

        It is tried with rows of all kinds: it must give exactly what `predict` gives.
        """
        rows, names = probe_rows(self.manifest.features), self.encoder.names
        expected = [self.predict({name: [row[i]] for i, name in enumerate(names)}).reshape(-1).tolist() for row in rows]
        for make_call in self._make_calls:
            # The engine keeps the address; the buffer lives in what is returned.
            buffer = np.zeros((1, self.encoder.width), dtype=np.float32)
            try:
                one_row = OneRow(self.manifest.features, buffer, make_call(buffer), single=not self._one)
                if [one_row.predict(row) for row in rows] == expected:
                    return one_row
            except Exception as error:  # another version of the library, or a model that the way does not know
                _log.info("no fast path: %s: %s", type(error).__name__, _first_line(error))
        return None

    def predict_encoded(self, encoded: NDArray[np.float32]) -> NDArray[np.float64]:
        """Like `predict`, for a matrix (rows, width) that is encoded already."""
        if not len(encoded):
            return np.empty((0, *self._one), dtype=np.float64)
        answer = self._engine(encoded).astype(np.float64, copy=False)
        # ONNX graphs commonly answer with a column; of both classes the second is the positive one.
        if not self._one and answer.ndim == 2 and answer.shape[1] <= (2 if self.manifest.task == "binary" else 1):
            return answer[:, -1]
        return answer


def _first_line(error: BaseException) -> str:
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__


def import_xgboost() -> Any:
    """Import XGBoost alone: 0.2 s instead of 2 s where scikit-learn and pandas are installed too.

    XGBoost copes with a missing scikit-learn and a missing wrapper for it, so both are hidden while it is
    imported, unless they are there already. Whoever needs ``XGBClassifier`` imports ``xgboost`` before.
    """
    return _import_without("xgboost", "sklearn", "xgboost.sklearn")


def import_lightgbm() -> Any:
    """Import LightGBM alone, without its wrappers for other libraries; see `import_xgboost`."""
    return _import_without("lightgbm", "sklearn", "pandas", "lightgbm.sklearn", "lightgbm.plotting", "lightgbm.dask")


def _import_without(name: str, *unneeded: str) -> Any:
    if name in sys.modules:
        return sys.modules[name]
    hidden = [module for module in unneeded if module not in sys.modules]
    try:
        for module in hidden:
            sys.modules[module] = None  # type: ignore[assignment]  # makes importing it an ImportError
        return importlib.import_module(name)
    finally:
        for module in hidden:
            sys.modules.pop(module, None)


def _open_xgboost(path: Path, threads: int | None) -> tuple[Engine, tuple[MakeCall, ...]]:
    xgboost = import_xgboost()
    booster = xgboost.Booster()
    try:
        booster.load_model(path)
    except (xgboost.core.XGBoostError, UnicodeDecodeError) as error:  # its message may quote the file's bytes
        raise ModelFormatError(f"{path}: not an XGBoost model: {_first_line(error)}") from None
    if threads is not None:
        booster.set_param({"nthread": threads})

    def predict(encoded: NDArray[np.float32]) -> NDArray[np.float32]:
        answer: NDArray[np.float32] = booster.inplace_predict(encoded, validate_features=False)
        return answer

    def through_trees(buffer: NDArray[np.float32]) -> Call:
        if path.stat().st_size > MAX_FILE_BYTES:
            raise UnknownTreesError(f"more than {MAX_FILE_BYTES} bytes")
        return call_trees(bytes(booster.save_raw("json")), buffer)

    return predict, (through_trees, lambda buffer: call_xgboost(xgboost, booster, buffer))


def _open_lightgbm(path: Path, threads: int | None) -> tuple[Engine, tuple[MakeCall, ...]]:
    lightgbm = import_lightgbm()
    try:
        text = path.read_text(encoding="utf-8")
        _check_lightgbm(text)
        booster = lightgbm.Booster(model_str=text)
    except (lightgbm.basic.LightGBMError, ValueError) as error:
        raise ModelFormatError(f"{path}: not a LightGBM model: {_first_line(error)}") from None
    options = {} if threads is None else {"num_threads": threads}

    def predict(encoded: NDArray[np.float32]) -> NDArray[np.float64]:
        answer: NDArray[np.float64] = booster.predict(encoded, **options)
        return answer

    return predict, (lambda buffer: call_lightgbm(lightgbm, booster, buffer),)


def _check_lightgbm(text: str) -> None:
    """Check that a LightGBM model has all of its trees: the library ends the process where one is cut off.

    Raises:
        ValueError: it does not.
    """
    head, _, rest = text.partition("\n\n")
    sizes = [line.removeprefix("tree_sizes=") for line in head.splitlines() if line.startswith("tree_sizes=")]
    if not head.startswith("tree\n") or len(sizes) != 1:
        raise ValueError("it does not begin as one")
    if not rest[sum(map(int, sizes[0].split())) :].startswith("end of trees\n") or "\nend of parameters\n" not in rest:
        raise ValueError("it is cut short")


def _usable_cores() -> int:
    """Cores this process may use; the engine's own default counts those of the machine and pins threads to them."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _open_onnx(path: Path, threads: int | None) -> tuple[Engine, tuple[MakeCall, ...]]:
    try:
        session = open_session(str(path), threads or _usable_cores())
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

    def predict(encoded: NDArray[np.float32]) -> NDArray[Any]:
        answer: NDArray[Any] = session.run(output, {feed: encoded})[0]
        return answer

    return predict, (lambda buffer: call_onnx(session, feed, output, buffer),)


_OPEN: dict[str, Callable[[Path, int | None], tuple[Engine, tuple[MakeCall, ...]]]] = {
    "xgboost": _open_xgboost,
    "lightgbm": _open_lightgbm,
    "onnx": _open_onnx,
}
