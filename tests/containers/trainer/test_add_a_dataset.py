"""`docs/how-to/add-a-dataset.md`, followed to the letter: a YAML file and Parquet files are all that it takes."""

from __future__ import annotations

import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers import Columns, Run, parquet

from mlplatform.config.loading import load_model
from mlplatform.documents.run import Candidate, Trial
from mlplatform.errors import ConfigError
from mlplatform.storage import read_bytes
from trainer import tracking

ROOT = Path(__file__).parents[3]
PAGE = ROOT / "docs/how-to/add-a-dataset.md"
NAME = "subscriptions"


def example() -> str:
    (found,) = re.findall(r"```yaml\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    return str(found)


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    """A bundle with the example as its only dataset, and the families as they are."""
    (tmp_path / "config/models").mkdir(parents=True)
    shutil.copytree(ROOT / "config/families", tmp_path / "config/families")
    (tmp_path / f"config/models/{NAME}.yaml").write_text(example(), encoding="utf-8")
    return tmp_path


@pytest.fixture
def run(tracked: Run, bundle: Path) -> Run:
    tracked.model = load_model(NAME, bundle).model_dump(mode="json")
    return tracked


def customers(rows: int = 2000, first: int = 1, seed: int = 3) -> Columns:
    """Customers who stay longer the longer they have stayed and the more they visit."""
    draw = np.random.default_rng(seed)
    months, visits = draw.integers(0, 60, rows), draw.gamma(2.0, 3.0, rows)
    leaves = draw.random(rows) < 1 / (1 + np.exp(0.06 * months + 0.25 * visits - 1.5))
    return {
        "customer": list(range(first, first + rows)),
        "plan": draw.choice(["basic", "family"], rows).tolist(),
        "country": draw.choice(["AT", "CH", "DE"], rows).tolist(),
        "months": months.tolist(),
        "visits": [None if row % 10 == 0 else float(value) for row, value in enumerate(visits)],
        "cancelled": leaves.tolist(),
    }


def land(run: Run, content: Columns) -> None:
    run.land("plans", parquet({"plan": ["basic", "family"], "price": [9.9, 19.9]}))
    run.land("customers", parquet(content), "2026-01")


def test_the_example_is_a_valid_configuration(bundle: Path) -> None:
    model = load_model(NAME, bundle)
    assert (model.task, model.trigger_table, set(model.families)) == (
        "binary",
        "customers",
        {"xgboost", "sklearn", "lightgbm", "pytorch"},
    )


def test_a_mistake_in_it_is_refused_by_file_and_key(bundle: Path) -> None:
    path = bundle / f"config/models/{NAME}.yaml"
    path.write_text(example().replace("severity: warn", "severity: shrug"), encoding="utf-8")
    with pytest.raises(
        ConfigError, match=r"config/models/subscriptions.yaml: tables.customers.columns.visits.severity"
    ):
        load_model(NAME, bundle)


def test_its_files_are_validated(run: Run) -> None:
    land(run, customers())
    assert run.done("validate").warnings == []
    assert b"Passed: all that is expected holds" in read_bytes(f"{run.prefix}/validate/report.html")


def test_a_file_that_is_not_as_described_is_refused(run: Run) -> None:
    land(run, {**customers(), "country": ["XX"] * 2000, "visits": [-1.0] * 2000})
    failure = run.refused("validate")
    assert failure.subjects == [run.objects[-1].uri]
    assert "column country" in failure.message
    assert "visits" not in failure.message  # a warning


def test_every_table_of_the_page_is_of_the_schema() -> None:
    from mlplatform.config.dataset import Checks, Column, Table

    known = {*Column.model_fields, *Table.model_fields, *Checks.model_fields}
    rows = re.findall(r"^\| (?:column|table|`checks`) \| (.*?) \|", PAGE.read_text(encoding="utf-8"), re.MULTILINE)
    keys = [key for row in rows for key in re.findall(r"`(\w+)", row)]
    assert len(keys) > 10
    assert set(keys) <= known


@pytest.mark.parametrize(("family", "params"), [("xgboost", {"n_estimators": 60}), ("sklearn", {"max_iter": 60})])
def test_the_steps_run_from_landed_files_to_an_evaluation(run: Run, family: str, params: dict[str, Any]) -> None:
    run.family = family
    run.trials = [Trial(index=0, params=params)]
    land(run, customers())
    run.done("validate")
    prepared = run.done("prepare")
    assert prepared.train.rows + prepared.validation.rows + prepared.test.rows == 2000
    (trial,) = run.done("train").trials
    assert trial.status == "succeeded", trial.reason
    assert trial.metrics["roc_auc"] > 0.65
    registry = tracking.connect(run.tracking_uri)
    name = run.model["registered_model"]
    if not registry.search_registered_models(f"name = '{name}'"):
        registry.create_registered_model(name)
    version = registry.create_model_version(name, source=trial.model_uri, run_id=trial.run_id)
    run.candidate = Candidate(version=str(version.version), run_id=trial.run_id, model_digest=trial.model_digest)
    evaluated = run.done("evaluate")
    assert evaluated.candidate.metrics["roc_auc"] > run.model["policy"]["minimum_quality"]
