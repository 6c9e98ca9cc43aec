"""A saved model as an MLflow model directory.

::

    MLmodel              flavour, signature, input example; see https://mlflow.org/docs/latest/ml/model/
    data/                the model itself, in the format of `modelformat`
    code/                `modelformat` and the loader, so that ``mlflow.pyfunc.load_model`` needs nothing of ours
    requirements.txt, python_env.yaml, conda.yaml, input_example.json

Written by hand: ``mlflow.pyfunc`` costs a second of import (pandas) and infers what is known here.
"""

from __future__ import annotations

import json
import platform
import shutil
from collections.abc import Mapping
from datetime import datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import yaml

import modelformat
from mlplatform.config.base import Scalar
from modelformat import CategoryFeature, Manifest

DATA = "data"
"""Where in the MLflow model the saved model is."""

_ENGINES = {"xgboost": "xgboost-cpu", "lightgbm": "lightgbm", "onnx": "onnxruntime"}
"""Distribution that brings an engine; predicting needs no CUDA, whatever the model was trained with."""


def requirements(manifest: Manifest) -> list[str]:
    """Return what predicting with a model needs, pinned to what it was tested with."""
    # mlflow.pyfunc needs pandas, training does not have it.
    pinned = {name: version(name) for name in ("mlflow-skinny", "numpy", "pydantic")}
    engine = _ENGINES[manifest.engine]
    pinned[engine] = _installed(engine)
    return ["pandas<4", *(f"{name}=={found}" for name, found in pinned.items())]


def _installed(engine: str) -> str:
    try:
        return version(engine)
    except PackageNotFoundError:  # image trainer_cuda has the same release under the name of the wheel with CUDA
        return version(engine.removesuffix("-cpu"))


def _outputs(manifest: Manifest) -> list[dict[str, Any]]:
    """Return the answer's type: a number per row, or of several classes a probability each."""
    shape = [-1, len(manifest.classes or ())] if manifest.task == "multiclass" else [-1]
    return [{"type": "tensor", "tensor-spec": {"dtype": "float64", "shape": shape}}]


def package(
    model: Path,
    destination: Path,
    *,
    run_id: str,
    created_at: datetime,
    example: Mapping[str, Scalar | None],
    metadata: Mapping[str, Any],
) -> None:
    """Write the MLflow model directory of a saved model.

    Args:
        model: directory of the saved model.
        destination: must not exist.
        example: one row of input, by feature name.
        metadata: shown by MLflow beside the model.
    """
    manifest = modelformat.read_manifest(model)
    destination.mkdir(parents=True)
    shutil.copytree(model, destination / DATA)
    code = destination / "code"
    here = Path(modelformat.__file__).parent
    shutil.copytree(here, code / here.name, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(Path(__file__).with_name("modelformat_pyfunc.py"), code)
    (destination / "input_example.json").write_text(
        json.dumps({"columns": list(example), "data": [list(example.values())]}), encoding="utf-8"
    )
    needed = requirements(manifest)
    python = platform.python_version()
    (destination / "requirements.txt").write_text("\n".join(needed) + "\n", encoding="utf-8")
    _write_yaml(
        destination / "python_env.yaml",
        {"python": python, "build_dependencies": ["pip"], "dependencies": ["-r requirements.txt"]},
    )
    _write_yaml(
        destination / "conda.yaml",
        {
            "name": "mlflow-env",
            "channels": ["conda-forge"],
            "dependencies": [f"python={python}", "pip", {"pip": needed}],
        },
    )
    signature = [
        {
            "type": "string" if isinstance(feature, CategoryFeature) else "double",
            "name": feature.name,
            "required": False,
        }
        for feature in manifest.features
    ]
    _write_yaml(
        destination / "MLmodel",
        {
            "artifact_path": "model",
            "flavors": {
                "python_function": {
                    "loader_module": "modelformat_pyfunc",
                    "data": DATA,
                    "code": "code",
                    "env": {"conda": "conda.yaml", "virtualenv": "python_env.yaml"},
                    "python_version": python,
                }
            },
            "metadata": dict(metadata),
            "mlflow_version": version("mlflow-skinny"),
            "model_size_bytes": sum(path.stat().st_size for path in (destination / DATA).rglob("*") if path.is_file()),
            "run_id": run_id,
            "saved_input_example_info": {
                "artifact_path": "input_example.json",
                "pandas_orient": "split",
                "type": "dataframe",
            },
            "signature": {
                "inputs": json.dumps(signature),
                "outputs": json.dumps(_outputs(manifest)),
                "params": None,
            },
            "utc_time_created": created_at.replace(tzinfo=None).isoformat(sep=" "),
        },
    )


def _write_yaml(path: Path, content: Mapping[str, Any]) -> None:
    path.write_text(yaml.safe_dump(dict(content), sort_keys=False), encoding="utf-8")
