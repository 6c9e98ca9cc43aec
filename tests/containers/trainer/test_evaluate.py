from __future__ import annotations

from typing import Any

import pytest
from helpers import Run

from mlplatform import storage
from mlplatform.config import Candidate, Trial
from mlplatform.results import Examples, PrepareResult
from modelformat import Predictor
from trainer import tracking


def register(run: Run, index: int, **params: Any) -> Candidate:
    """Train a trial and register its model, as the orchestrator does."""
    run.trial = Trial(index=index, params=params)
    trained = run.done("train", f"trials/{index:03d}")
    client = tracking.connect(run.tracking_uri)
    name = run.model["registered_model"]
    if not client.search_registered_models(f"name = '{name}'"):
        client.create_registered_model(name)
    version = client.create_model_version(name, trained.model_uri, trained.run_id)
    return Candidate(version=str(version.version), run_id=trained.run_id, model_digest=trained.model_digest)


def crown(run: Run, version: str) -> None:
    tracking.connect(run.tracking_uri).set_registered_model_alias(run.model["registered_model"], "champion", version)


def test_without_champion_the_candidate_stands_alone(prepared: Run, tmp_path: Any) -> None:
    prepared.candidate = register(prepared, 0, max_depth=3)
    result = prepared.done("evaluate")
    assert result.champion is None
    assert result.candidate.model_version == prepared.candidate.version
    assert result.candidate.run_id == prepared.candidate.run_id
    assert result.candidate.metrics["roc_auc"] > 0.7
    test = storage.read_document(f"{prepared.prefix}/prepare/result.json", PrepareResult).test
    assert (result.test_uri, result.rows) == (test.uri, test.rows)

    examples = storage.read_document(result.examples_uri, Examples).examples
    assert len(examples) == 20
    assert [set(example.references) for example in examples] == [{"id", "sent", "delay"}] * 20
    assert len({example.references["id"] for example in examples}) == 20
    assert any(example.features["weight"] is None for example in examples)
    saved = tracking.download_model(
        prepared.tracking_uri,
        tracking.get_version(
            tracking.connect(prepared.tracking_uri), prepared.model["registered_model"], prepared.candidate.version
        ),
        tmp_path / "saved",
    )
    columns = {name: [example.features[name] for example in examples] for name in prepared.model["features"]}
    answers = Predictor.load(saved).predict(columns)
    assert answers.tolist() == pytest.approx([example.prediction for example in examples], abs=1e-6)
    assert all((example.references["delay"] > 15) == (example.target == 1) for example in examples)


def test_champion_and_candidate_are_scored_on_the_same_rows(prepared: Run) -> None:
    champion = register(prepared, 0, max_depth=1, learning_rate=0.01)
    crown(prepared, champion.version)
    prepared.candidate = register(prepared, 1, max_depth=3)
    result = prepared.done("evaluate")
    assert result.champion.model_version == champion.version
    assert result.champion.metrics["log_loss"] > result.candidate.metrics["log_loss"]


def test_a_champion_of_another_family_is_scored(prepared: Run) -> None:
    prepared.family = "sklearn"
    champion = register(prepared, 0, estimator="hist_gradient_boosting")
    crown(prepared, champion.version)
    prepared.family = "xgboost"
    prepared.candidate = register(prepared, 1, max_depth=3)
    assert prepared.done("evaluate").champion.metrics["roc_auc"] > 0.7


def test_a_candidate_that_is_champion_already_is_reported_as_both(prepared: Run) -> None:
    prepared.candidate = register(prepared, 0, max_depth=3)
    crown(prepared, prepared.candidate.version)
    result = prepared.done("evaluate")
    assert result.champion == result.candidate


def test_the_digest_binds_versions_metrics_and_test_rows(prepared: Run) -> None:
    prepared.candidate = register(prepared, 0, max_depth=3)
    first = prepared.done("evaluate", "one")
    assert prepared.done("evaluate", "two").evaluation_digest == first.evaluation_digest
    crown(prepared, register(prepared, 1, max_depth=2).version)
    assert prepared.done("evaluate", "three").evaluation_digest != first.evaluation_digest


def test_a_model_that_is_not_the_one_trained_is_refused(prepared: Run) -> None:
    candidate = register(prepared, 0, max_depth=3)
    prepared.candidate = candidate.model_copy(update={"model_digest": "0" * 64})
    failure = prepared.refused("evaluate")
    assert candidate.model_digest in failure.message
    assert "0" * 64 in failure.message


def test_a_champion_that_lacks_a_column_is_refused_until_the_query_has_it(prepared: Run) -> None:
    crown(prepared, register(prepared, 0, max_depth=3).version)
    whole = prepared.model["query"]
    del prepared.model["features"]["load"]
    # No longer a feature, still in the query: the champion can be compared.
    assert prepared.step("prepare", "prepare") == 0
    prepared.candidate = register(prepared, 1, max_depth=3)
    assert prepared.done("evaluate", "with column").champion is not None
    # Gone from the query too: it cannot.
    prepared.model["query"] = whole.replace("p.weight / (d.staff - 3) as load, ", "")
    storage.client().delete_object(Bucket="data", Key=f"runs/{prepared.name}/prepare/result.json")
    prepared.done("prepare")
    failure = prepared.refused("evaluate")
    assert "champion" in failure.message
    assert "load" in failure.message
    assert "query" in failure.message


def test_a_champion_for_another_target_is_refused(prepared: Run) -> None:
    crown(prepared, register(prepared, 0, max_depth=3).version)
    prepared.model["query"] = prepared.model["query"].replace(" as late", " as tardy")
    prepared.model["target"] = "tardy"
    storage.client().delete_object(Bucket="data", Key=f"runs/{prepared.name}/prepare/result.json")
    prepared.done("prepare")
    prepared.candidate = register(prepared, 1, max_depth=3)
    assert "predicts 'late', not 'tardy'" in prepared.refused("evaluate").message


def test_no_candidate_and_an_unknown_version_are_refused(prepared: Run) -> None:
    assert "candidate: not set" in prepared.refused("evaluate").message
    register(prepared, 0, max_depth=3)
    prepared.candidate = Candidate(version="99", run_id="x", model_digest="x")
    assert "has no version 99" in prepared.refused("evaluate").message
