from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers import Run

import modelformat
from mlplatform import storage
from mlplatform.config import Trial
from mlplatform.results import PrepareResult
from modelformat import Predictor
from trainer import data, tracking
from trainer.families.xgboost import XGBoost
from trainer.metrics import score_all

FAMILIES = {"xgboost": {"max_depth": 3}, "sklearn": {"estimator": "logistic_regression"}}


def client(run: Run) -> Any:
    return tracking.connect(run.tracking_uri)


def runs(run: Run) -> list[Any]:
    experiment = client(run).get_experiment_by_name(run.model["name"])
    return list(client(run).search_runs([experiment.experiment_id])) if experiment else []


def validation(run: Run, folder: Path) -> data.Dataset:
    prepared = storage.read_document(f"{run.prefix}/prepare/result.json", PrepareResult)
    kinds: dict[str, data.Kind] = {name: feature["type"] for name, feature in run.model["features"].items()}
    return data.load(data.fetch(prepared.validation, folder), kinds, run.model["target"])


@pytest.mark.parametrize("family", FAMILIES)
def test_a_trial_becomes_a_run_with_a_model_that_anyone_can_load(prepared: Run, family: str, tmp_path: Path) -> None:
    prepared.family = family
    prepared.trial = Trial(index=4, params=FAMILIES[family])  # type: ignore[arg-type]
    result = prepared.done("train", "trials/004")
    assert (result.trial, result.family) == (4, family)
    assert result.params == {**prepared.model["families"][family]["params"], **FAMILIES[family]}
    assert result.metrics["roc_auc"] > 0.7

    (found,) = runs(prepared)
    assert (found.info.run_id, found.info.status) == (result.run_id, "FINISHED")
    expected = {"run_key": prepared.name, "trial": "4", "dataset": prepared.model["name"], "git_sha": "0123abc"}
    assert expected.items() <= found.data.tags.items()
    assert found.data.params["family"] == family
    assert found.data.metrics["roc_auc"] == pytest.approx(result.metrics["roc_auc"])

    registry = client(prepared)
    registry.create_registered_model(prepared.model["registered_model"])
    registered = registry.create_model_version(prepared.model["registered_model"], result.model_uri, result.run_id)
    assert registered.status == "READY"

    # In a process of its own that knows nothing of ours: no PYTHONPATH, no access to S3.
    script = """
import json, sys
import mlflow
mlflow.set_tracking_uri(sys.argv[1])
model = mlflow.pyfunc.load_model(sys.argv[2])
import pandas
rows = pandas.DataFrame(json.loads(sys.argv[3]))
print(json.dumps([model.predict(model.input_example).tolist(), model.predict(rows).tolist()]))
"""
    rows = validation(prepared, tmp_path)
    sample = {name: [None if v != v else v for v in values[:9].tolist()] for name, values in rows.columns.items()}
    uri = f"models:/{prepared.model['registered_model']}/{registered.version}"
    answer = subprocess.run(
        [sys.executable, "-c", script, prepared.tracking_uri, uri, json.dumps(sample)],
        env={"PATH": os.environ["PATH"], "HOME": str(tmp_path)},
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )
    assert answer.returncode == 0, answer.stderr
    example, predictions = json.loads(answer.stdout.splitlines()[-1])
    assert len(example) == 1

    saved = tracking.download_model(
        prepared.tracking_uri, tracking.get_version(registry, registered.name, registered.version), tmp_path / "saved"
    )
    assert modelformat.digest(saved) == result.model_digest
    predictor = Predictor.load(saved)
    assert predictions == pytest.approx(predictor.predict(sample).tolist(), abs=1e-6)
    # No skew: the metrics reported are those of the saved model on the prepared file, to the last bit.
    assert score_all(rows.target, predictor.predict(rows.columns)) == result.metrics
    one_by_one = [float(predictor.predict({k: v[i : i + 1] for k, v in rows.columns.items()})[0]) for i in range(20)]
    assert one_by_one == pytest.approx(predictor.predict(rows.columns)[:20].tolist(), abs=1e-6)


def test_a_second_run_of_a_finished_trial_does_nothing(prepared: Run, caplog: pytest.LogCaptureFixture) -> None:
    first = prepared.done("train")
    caplog.set_level("INFO")
    assert prepared.done("train") == first
    assert "nothing to do" in caplog.text
    assert len(runs(prepared)) == 1


def test_a_failed_trial_leaves_its_run_failed_and_a_retry_finishes_the_same_run(
    prepared: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise RuntimeError("out of luck")

    with monkeypatch.context() as broken:
        broken.setattr(XGBoost, "fit", fail)
        with pytest.raises(RuntimeError, match="out of luck"):
            prepared.step("train")
    (failed,) = runs(prepared)
    assert failed.info.status == "FAILED"
    result = prepared.done("train")
    (finished,) = runs(prepared)
    assert finished.info.run_id == failed.info.run_id == result.run_id
    assert finished.info.status == "FINISHED"


def test_a_trial_whose_result_was_lost_gives_the_same_model_again(prepared: Run) -> None:
    first = prepared.done("train")
    storage.client().delete_object(Bucket="data", Key=f"runs/{prepared.name}/train/result.json")
    second = prepared.done("train")
    assert second.model_digest == first.model_digest
    assert second.metrics == first.metrics
    (found,) = runs(prepared)
    assert found.info.status == "FINISHED"


def test_an_evicted_trial_closes_its_run_and_can_be_tried_again(prepared: Run) -> None:
    prepared.model["families"]["xgboost"]["params"] = {"n_estimators": 100_000, "early_stopping_rounds": 100_000}
    prepared.trial = Trial(index=0, params={"max_depth": 8, "learning_rate": 0.001})
    prepared.write()
    process = subprocess.Popen(
        [sys.executable, "-m", "trainer", *prepared.arguments("train")], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    deadline = time.monotonic() + 60
    while not [found for found in runs(prepared) if found.info.status == "RUNNING"]:
        assert process.poll() is None, process.stderr and process.stderr.read()
        assert time.monotonic() < deadline
        time.sleep(0.2)
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=60)
    assert process.returncode == 128 + signal.SIGTERM
    assert prepared.failure("train") is None
    (killed,) = runs(prepared)
    assert killed.info.status == "KILLED"
    prepared.model["families"]["xgboost"]["params"] = {"n_estimators": 10}
    assert prepared.done("train").run_id == killed.info.run_id


@pytest.mark.parametrize(
    ("params", "expected"), [({"depth": 3}, "families.xgboost: depth"), ({"max_depth": 0}, "max_depth")]
)
def test_wrong_parameters_are_refused_and_the_run_is_failed(
    prepared: Run, params: dict[str, int], expected: str
) -> None:
    prepared.trial = Trial(index=0, params=params)  # type: ignore[arg-type]
    failure = prepared.refused("train")
    assert failure.kind == "bad-config"
    assert expected in failure.message
    assert [found.info.status for found in runs(prepared)] == ["FAILED"]


def test_no_trial_and_no_prepared_data_are_refused(tracked: Run) -> None:
    assert "prepare" in tracked.refused("train").message
    tracked.trial = None
    assert "trial: not set" in tracked.refused("train").message


def test_a_metric_that_cannot_be_computed_is_none_and_not_tracked(
    prepared: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Predictor, "predict", lambda self, columns: np.full(len(columns["weight"]), np.nan))
    assert set(prepared.done("train").metrics.values()) == {None}
    (found,) = runs(prepared)
    assert "roc_auc" not in found.data.metrics
