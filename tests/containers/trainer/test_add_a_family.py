"""`docs/how-to/add-a-family.md`, followed to the letter: a module and a YAML file are all that it takes."""

from __future__ import annotations

import re
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from helpers import Run

from mlplatform.config import family, loading
from mlplatform.documents.run import Candidate, RunConfig, Trial
from mlplatform.errors import ConfigError
from trainer import tracking

ROOT = Path(__file__).parents[3]
PAGE = (ROOT / "docs/how-to/add-a-family.md").read_text(encoding="utf-8")


def block(language: str) -> str:
    (found,) = re.findall(rf"```{language}\n(.*?)```", PAGE, re.DOTALL)
    return str(found)


@pytest.fixture
def bundle(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The project's families and the page's; its module is found beside the others."""
    shutil.copytree(ROOT / "config/families", tmp_path / "config/families")
    (tmp_path / "config/families/discriminant.yaml").write_text(block("yaml"), encoding="utf-8")
    (tmp_path / "families").mkdir()
    (tmp_path / "families/discriminant.py").write_text(block("python"), encoding="utf-8")
    import trainer.families

    monkeypatch.setattr(trainer.families, "__path__", [*trainer.families.__path__, str(tmp_path / "families")])
    yield tmp_path
    sys.modules.pop("trainer.families.discriminant", None)


def test_its_parameters_are_checked_by_its_file(bundle: Path) -> None:
    spec = loading.load_family("discriminant", bundle)
    assert family.effective_params("trial", spec, {}) == {"shrinkage": 0.1}
    with pytest.raises(ConfigError, match=r"trial\.shrinkage: must be at most 1 "):
        family.effective_params("trial", spec, {"shrinkage": 2.0})


def test_the_steps_run_with_it(prepared: Run, bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    spec = loading.load_family("discriminant", bundle)
    prepared.model["families"]["discriminant"] = {}
    prepared.trials = [Trial(index=0, params={"shrinkage": 0.01})]
    written = prepared.config
    monkeypatch.setattr(prepared, "config", lambda: RunConfig(**{**dict(written()), "family": spec}))
    (trial,) = prepared.done("train").trials
    assert trial.status == "succeeded", trial.reason
    assert (trial.family, trial.params) == ("discriminant", {"shrinkage": 0.01})
    assert (trial.metrics["roc_auc"] or 0) > 0.8

    registry = tracking.connect(prepared.tracking_uri)
    name = prepared.model["registered_model"]
    registry.create_registered_model(name)
    version = registry.create_model_version(name, source=trial.model_uri, run_id=trial.run_id)
    prepared.candidate = Candidate(version=str(version.version), run_id=trial.run_id, model_digest=trial.model_digest)
    assert prepared.done("evaluate").candidate.metrics["roc_auc"] > 0.7
