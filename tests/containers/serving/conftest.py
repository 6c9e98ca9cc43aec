"""Real saved models: XGBoost trained here, scikit-learn as ONNX from ``fixtures/``."""

from __future__ import annotations

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

from modelformat import Manifest, encode, feature_types, import_xgboost, write_manifest


@pytest.fixture(scope="session")
def xgboost_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A saved XGBoost model with a category and missing values."""
    xgboost = import_xgboost()
    columns = some_columns(2000)
    late = (columns["distance"] / 1000 + (columns["carrier"] == "UA") + np.nan_to_num(columns["wind"]) > 1.5).astype(
        float
    )
    matrix = xgboost.DMatrix(
        encode(FEATURES, columns), label=late, feature_types=feature_types(FEATURES), enable_categorical=True
    )
    booster = xgboost.train({"objective": "binary:logistic", "max_depth": 4, "seed": 0}, matrix, 20)
    directory = tmp_path_factory.mktemp("xgboost")
    booster.save_model(directory / "model.ubj")
    manifest = Manifest(family="xgboost", task="binary", target="late", features=FEATURES, model_file="model.ubj")
    write_manifest(directory, manifest)
    return directory


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


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[..., Server]]:
    """Start ``python -m serving serve`` on a free port; with ``ready=False`` do not wait for /ping."""
    started: list[subprocess.Popen[bytes]] = []

    def start(model: Path, *, ready: bool = True, **environment: str) -> Server:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        log = tmp_path / f"server-{len(started)}.log"
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

    yield start
    for process in started:
        if process.poll() is None:
            process.kill()
            process.wait(10)
