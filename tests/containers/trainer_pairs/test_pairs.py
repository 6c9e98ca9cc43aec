"""Every dataset with every family that its configuration names, through all steps, at small sizes."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from helpers import Run

from mlplatform.config.base import METRICS, Scalar
from mlplatform.config.loading import load_model, model_names
from mlplatform.documents.evaluation import EvaluateResult, Examples
from mlplatform.documents.run import Candidate, Trial
from mlplatform.promotion.registry import get_version
from mlplatform.storage import read_bytes, read_document
from modelformat import Predictor
from trainer import tracking

ROOT = Path(__file__).parents[3]
SMALL: dict[str, dict[str, Scalar]] = {
    "xgboost": {"n_estimators": 20},
    "lightgbm": {"n_estimators": 20},
    "sklearn": {"max_iter": 30},
    "pytorch": {"epochs": 2, "width": 16, "layers": 1},
}
PAIRS = [(dataset, family) for dataset in model_names(ROOT) for family in sorted(load_model(dataset, ROOT).families)]
# The packages with the data are in the development environment only.
DUMP = """
import sys
from pathlib import Path
from local.datasets import landing, load
for table, rows in load(sys.argv[1]).batch_tables(1).items():
    Path(sys.argv[2], table).write_bytes(landing.parquet_bytes(rows))
"""


@pytest.fixture(scope="session")
def prepared(mlflow_uri: str, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Run]:
    """Return a dataset's run with its first batch landed, validated and prepared; done once for each."""
    runs: dict[str, Run] = {}

    def prepare(dataset: str) -> Run:
        if dataset not in runs:
            folder = tmp_path_factory.mktemp(dataset)
            python = ROOT / ".local/envs/dev/bin/python"
            subprocess.run([python, "-c", DUMP, dataset, folder], check=True, cwd=ROOT, env={"PYTHONPATH": str(ROOT)})
            run = Run(dataset, tracking_uri=mlflow_uri, model=load_model(dataset, ROOT).model_dump(mode="json"))
            for path in sorted(folder.iterdir()):
                run.land(path.name, path.read_bytes())
            run.done("validate")
            run.done("prepare")
            runs[dataset] = run
        return runs[dataset]

    return prepare


def test_all_families_and_datasets_are_here() -> None:
    assert len(PAIRS) == 16
    assert {family for _, family in PAIRS} == set(SMALL)


@pytest.mark.parametrize(("dataset", "family"), PAIRS)
def test_a_pair_is_trained_registered_and_evaluated(
    prepared: Callable[[str], Run], dataset: str, family: str, tmp_path: Path
) -> None:
    run = prepared(dataset)
    run.family, run.trials = family, [Trial(index=0, params=SMALL[family])]
    (trial,) = run.done("train", f"{family}/train").trials
    assert trial.status == "succeeded", trial.reason
    assert trial.family == family
    assert all(trial.params[name] == value for name, value in SMALL[family].items())
    task = run.model["task"]
    assert set(trial.metrics) == set(METRICS[task])
    assert trial.metrics[run.model["metric"]] is not None

    client = tracking.connect(run.tracking_uri)
    name = run.model["registered_model"]
    if not client.search_registered_models(f"name = '{name}'"):
        client.create_registered_model(name)
    version = client.create_model_version(name, trial.model_uri, trial.run_id)
    run.candidate = Candidate(
        version=str(version.version), run_id=str(trial.run_id), model_digest=str(trial.model_digest)
    )
    evaluated: EvaluateResult = run.done("evaluate", f"{family}/evaluate")
    assert evaluated.candidate.metrics[run.model["metric"]] is not None
    assert read_bytes(evaluated.report_uri).startswith(b"<!doctype html>")

    # What is served answers as what was evaluated.
    registered = get_version(run.tracking_uri, name, run.candidate.version)
    predictor = Predictor.load(tracking.download_model(run.tracking_uri, registered, tmp_path / "model"))
    examples = read_document(evaluated.examples_uri, Examples).examples
    columns = {feature: [example.features[feature] for example in examples] for feature in predictor.encoder.names}
    answers = predictor.predict(columns)
    assert answers.shape == ((len(examples), len(predictor.manifest.classes or [])) if task == "multiclass" else (20,))
    np.testing.assert_allclose(answers, [example.prediction for example in examples], rtol=1e-5, atol=1e-6)
