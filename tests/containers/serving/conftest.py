"""Real saved models: XGBoost and LightGBM trained here, scikit-learn as ONNX from ``fixtures/``."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parent))  # for `helpers`, in pytest's import mode "importlib"

from helpers import FEATURES, FIXTURES, Server, some_columns

from modelformat import Manifest, encode, feature_types, import_lightgbm, import_xgboost, write_manifest

CLASSES = {"binary": ["0", "1"], "multiclass": ["early", "late", "lost"], "regression": None}


def make_target(task: str, columns: dict[str, Any]) -> Any:
    delay = columns["distance"] / 1000 + (columns["carrier"] == "UA") + np.nan_to_num(columns["wind"])
    if task == "regression":
        return delay * 100
    return (delay > 1.5).astype(float) + ((delay > 2.5).astype(float) if task == "multiclass" else 0)


def train_xgboost(task: str, directory: Path) -> Path:
    """Train and save a model with a category and missing values."""
    xgboost = import_xgboost()
    columns = some_columns(2000)
    matrix = xgboost.DMatrix(
        encode(FEATURES, columns),
        label=make_target(task, columns),
        feature_types=feature_types(FEATURES),
        enable_categorical=True,
    )
    objective = {"binary": "binary:logistic", "multiclass": "multi:softprob", "regression": "reg:squarederror"}[task]
    settings = {"objective": objective, "max_depth": 4, "seed": 0} | ({"num_class": 3} if task == "multiclass" else {})
    xgboost.train(settings, matrix, 20).save_model(directory / "model.ubj")
    save_manifest(directory, "xgboost", task, "model.ubj")
    return directory


def train_lightgbm(task: str, directory: Path) -> Path:
    """Train and save a model with a category and missing values."""
    lightgbm = import_lightgbm()
    columns = some_columns(2000)
    data = lightgbm.Dataset(encode(FEATURES, columns), make_target(task, columns), categorical_feature=[1])
    settings = {"objective": task, "num_leaves": 15, "verbosity": -1, "deterministic": True, "force_row_wise": True}
    settings |= {"num_class": 3} if task == "multiclass" else {}
    lightgbm.train(settings, data, 20).save_model(directory / "model.txt")
    save_manifest(directory, "lightgbm", task, "model.txt")
    return directory


def save_manifest(directory: Path, engine: Any, task: Any, model_file: str) -> None:
    manifest = Manifest(
        family=engine,
        engine=engine,
        task=task,
        target="late",
        classes=CLASSES[task],
        features=FEATURES,
        model_file=model_file,
    )
    write_manifest(directory, manifest)


@pytest.fixture(scope="session")
def saved_models(tmp_path_factory: pytest.TempPathFactory) -> dict[tuple[str, str], Path]:
    """A saved model of each engine of trees and each task."""
    train = {"xgboost": train_xgboost, "lightgbm": train_lightgbm}
    return {
        (engine, task): train[engine](task, tmp_path_factory.mktemp(f"{engine}-{task}"))
        for engine in train
        for task in CLASSES
    }


@pytest.fixture(scope="session")
def xgboost_model(saved_models: dict[tuple[str, str], Path]) -> Path:
    return saved_models["xgboost", "binary"]


@pytest.fixture(scope="session")
def lightgbm_model(saved_models: dict[tuple[str, str], Path]) -> Path:
    return saved_models["lightgbm", "binary"]


@pytest.fixture(scope="session")
def logistic() -> dict[str, Any]:
    """What scikit-learn itself answered for the model in ``fixtures/``."""
    content: dict[str, Any] = json.loads((FIXTURES / "logistic.json").read_text(encoding="utf-8"))
    return content


@pytest.fixture(scope="session")
def sklearn_model(tmp_path_factory: pytest.TempPathFactory, logistic: dict[str, Any]) -> Path:
    """A saved scikit-learn model."""
    directory = tmp_path_factory.mktemp("sklearn")
    shutil.copy(FIXTURES / "logistic.onnx", directory / "model.onnx")
    write_manifest(directory, Manifest.model_validate_json(json.dumps(logistic["manifest"])))
    return directory


@contextlib.contextmanager
def starting(folder: Path) -> Iterator[Callable[..., Server]]:
    """Start ``python -m serving serve`` on a free port; with ``ready=False`` do not wait for /ping."""
    started: list[subprocess.Popen[bytes]] = []

    def start(model: Path, *, ready: bool = True, **environment: str) -> Server:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        log = folder / f"server-{len(started)}.log"
        env = {**os.environ, "SM_MODEL_DIR": str(model), "SAGEMAKER_BIND_TO_PORT": str(port), **environment}
        with log.open("wb") as output:
            process = subprocess.Popen(
                [sys.executable, "-m", "serving", "serve"], env=env, stdout=output, stderr=subprocess.STDOUT
            )
        started.append(process)
        server = Server(process, f"http://127.0.0.1:{port}", log)
        deadline = time.monotonic() + 20
        while ready:
            assert process.poll() is None, log.read_text()
            assert time.monotonic() < deadline, log.read_text()
            try:
                httpx.get(f"{server.url}/ping", timeout=5)
                break
            except httpx.TransportError:
                time.sleep(0.05)
        return server

    try:
        yield start
    finally:
        for process in started:
            if process.poll() is None:
                process.kill()
                process.wait(10)


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[..., Server]]:
    """Start servers for a test; see `starting`."""
    with starting(tmp_path) as start:
        yield start


@pytest.fixture(scope="module")
def start_for_module(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., Server]]:
    """Start servers for all tests of a module; see `starting`."""
    with starting(tmp_path_factory.mktemp("servers")) as start:
        yield start
