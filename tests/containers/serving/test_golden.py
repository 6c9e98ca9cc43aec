"""Models that earlier releases have saved are read, and answer as they did then."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from local.golden.predict import main as ask
from modelformat import read_manifest
from tests.golden.sets import SETS

MODELS = [path for golden in SETS for path in golden.models().values()]


def close(values: Any) -> Any:
    """As exact as float32, which the trees of XGBoost and ONNX compute in."""
    return pytest.approx(values, rel=1e-6, abs=1e-7)


@pytest.mark.parametrize("folder", MODELS, ids=lambda folder: f"{folder.parents[1].name}-{folder.name}")
def test_a_model_answers_as_it_did(folder: Path) -> None:
    kept = json.loads((folder / "answers.json").read_bytes())
    now = ask(folder / "model", kept["instances"])
    assert now["digest"] == kept["digest"]
    assert now["classes"] == kept["classes"]
    for way in ("predictions", "alone"):
        assert len(now[way]) == len(kept[way]) == len(kept["instances"])
        for found, expected in zip(now[way], kept[way], strict=True):
            assert found == close(expected)


@pytest.mark.parametrize("golden", SETS, ids=lambda golden: golden.folder.name)
def test_a_set_has_a_model_of_every_family_and_task(golden: Any) -> None:
    manifests = [read_manifest(folder / "model") for folder in golden.models().values()]
    assert {(manifest.family, manifest.task) for manifest in manifests} >= {
        *((family, task) for family in ("xgboost", "lightgbm", "sklearn") for task in ("binary", "multiclass")),
        ("lightgbm", "regression"),
        ("pytorch", "multiclass"),
    }
