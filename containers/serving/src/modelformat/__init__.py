"""The saved-model format: what training writes, and what evaluation and serving read, with the same code.

A saved model is a directory of ``manifest.json`` and one native file (``model.ubj`` of XGBoost, ``model.txt`` of
LightGBM, ``model.onnx`` of any other). Nothing in it is pickled, so reading one cannot run foreign code.

Names are resolved when first used: whoever only needs `digest` does not pay for numpy.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from modelformat.integrity import digest
    from modelformat.manifest import (
        CategoryFeature,
        Feature,
        Manifest,
        ModelFormatError,
        NumberFeature,
        read_manifest,
        write_manifest,
    )
    from modelformat.predictor import Predictor, import_lightgbm, import_xgboost
    from modelformat.transform import Encoder, InputError, encode, feature_types, width

_HOME = {
    "digest": "integrity",
    "CategoryFeature": "manifest",
    "Feature": "manifest",
    "Manifest": "manifest",
    "ModelFormatError": "manifest",
    "NumberFeature": "manifest",
    "read_manifest": "manifest",
    "write_manifest": "manifest",
    "Predictor": "predictor",
    "import_lightgbm": "predictor",
    "import_xgboost": "predictor",
    "Encoder": "transform",
    "InputError": "transform",
    "encode": "transform",
    "feature_types": "transform",
    "width": "transform",
}

__all__ = [
    "CategoryFeature",
    "Encoder",
    "Feature",
    "InputError",
    "Manifest",
    "ModelFormatError",
    "NumberFeature",
    "Predictor",
    "digest",
    "encode",
    "feature_types",
    "import_lightgbm",
    "import_xgboost",
    "read_manifest",
    "width",
    "write_manifest",
]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'modelformat' has no attribute {name!r}")
    return getattr(import_module(f"modelformat.{_HOME[name]}"), name)
