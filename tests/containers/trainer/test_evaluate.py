from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers import Run

from mlplatform import storage
from mlplatform.config.base import LOWER_IS_BETTER, METRICS
from mlplatform.documents.evaluation import EvaluateResult, Examples
from mlplatform.documents.results import PrepareResult
from mlplatform.documents.run import Candidate, Trial
from mlplatform.promotion.registry import get_version
from modelformat import Predictor
from trainer import tracking

TASKS = ["binary", "multiclass", "regression"]


def register(run: Run, index: int, **params: Any) -> Candidate:
    """Train a trial and register its model, as the orchestrator does."""
    run.trials = [Trial(index=index, params=params)]
    (trained,) = run.done("train", f"train/{index:03d}").trials
    assert trained.status == "succeeded", trained.reason
    client = tracking.connect(run.tracking_uri)
    name = run.model["registered_model"]
    if not client.search_registered_models(f"name = '{name}'"):
        client.create_registered_model(name)
    version = client.create_model_version(name, trained.model_uri, trained.run_id)
    return Candidate(version=str(version.version), run_id=trained.run_id, model_digest=trained.model_digest)


def crown(run: Run, version: str) -> None:
    tracking.connect(run.tracking_uri).set_registered_model_alias(run.model["registered_model"], "champion", version)


def prepare_again(run: Run) -> None:
    storage.client().delete_object(Bucket="data", Key=f"runs/{run.name}/prepare/result.json")
    run.done("prepare")


def saved_model(run: Run, candidate: Candidate, folder: Path) -> Predictor:
    version = get_version(run.tracking_uri, run.model["registered_model"], candidate.version)
    return Predictor.load(tracking.download_model(run.tracking_uri, version, folder))


def page_of(result: EvaluateResult) -> str:
    return storage.read_bytes(result.report_uri).decode()


@pytest.mark.parametrize("task", TASKS)
def test_without_champion_the_candidate_stands_alone(tracked: Run, task: str, tmp_path: Path) -> None:
    tracked.use_task(task)
    tracked.model["slices"] = ["depot"]
    tracked.land_good()
    tracked.done("prepare")
    candidate = tracked.candidate = register(tracked, 0, max_depth=3)
    result = tracked.done("evaluate")
    assert (result.champion, result.improvement) == (None, None)
    own, metric = result.candidate, tracked.model["metric"]
    assert (own.model_version, own.run_id) == (candidate.version, candidate.run_id)
    assert set(own.metrics) == set(METRICS[task])  # type: ignore[index]
    assert own.interval.low < own.metrics[metric] < own.interval.high
    assert (own.calibration_error is not None) == (task == "binary")
    assert 0 < own.latency.batch_ms < own.latency.single_ms
    test = storage.read_document(f"{tracked.prefix}/prepare/result.json", PrepareResult).test
    assert (result.test_uris, result.rows) == (test.uris, test.rows)
    assert {one.category for one in result.slices} <= {"north", "south", "west"}
    assert all(one.rows >= 50 and one.champion is None and one.candidate is not None for one in result.slices)

    examples = storage.read_document(result.examples_uri, Examples).examples
    assert len(examples) == 20
    assert [set(example.references) for example in examples] == [{"id", "sent", "delay"}] * 20
    assert len({example.references["id"] for example in examples}) == 20
    assert any(example.features["weight"] is None for example in examples)
    predictor = saved_model(tracked, candidate, tmp_path / "saved")
    assert own.model_bytes == sum(path.stat().st_size for path in (tmp_path / "saved").rglob("*") if path.is_file())
    columns = {name: [example.features[name] for example in examples] for name in tracked.model["features"]}
    answers = predictor.predict(columns)
    np.testing.assert_allclose(answers, [example.prediction for example in examples], atol=1e-6)

    def outcome(delay: Any) -> Any:
        classes = "very late" if delay > 20 else "late" if delay > 10 else "on time"
        return {"binary": float(delay > 15), "multiclass": classes, "regression": delay}[task]

    assert [example.target for example in examples] == [outcome(example.references["delay"]) for example in examples]

    page = page_of(result)
    assert "There is no champion yet" in page
    client = tracking.connect(tracked.tracking_uri)
    assert [item.path for item in client.list_artifacts(candidate.run_id, "evaluation")] == ["evaluation/report.html"]
    logged = client.download_artifacts(candidate.run_id, "evaluation/report.html", str(tmp_path))
    assert Path(logged).read_text(encoding="utf-8") == page
    assert "Feature importance</h3>" in page  # its artifact is there, and read
    assert "Training:" in page


@pytest.mark.parametrize("task", TASKS)
def test_candidate_and_champion_are_compared(tracked: Run, task: str, tmp_path: Path) -> None:
    tracked.use_task(task)
    tracked.model["slices"] = ["depot"]
    tracked.land_good()
    tracked.done("prepare")
    champion = register(tracked, 0, max_depth=1, learning_rate=0.01, n_estimators=1)
    crown(tracked, champion.version)
    tracked.candidate = register(tracked, 1, max_depth=3)
    result, metric = tracked.done("evaluate"), tracked.model["metric"]
    ours, theirs = result.candidate.metrics[metric], result.champion.metrics[metric]
    better = theirs - ours if metric in LOWER_IS_BETTER else ours - theirs
    assert result.improvement.metric == metric
    assert result.improvement.value == better > 0
    assert 0 < result.improvement.interval.low < better < result.improvement.interval.high
    assert all(one.candidate is not None and one.champion is not None for one in result.slices)
    assert "The candidate is better than the champion" in page_of(result)


def test_both_answer_the_same_rows_in_the_same_process(prepared: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    crown(prepared, register(prepared, 0, max_depth=1).version)
    prepared.candidate = register(prepared, 1, max_depth=3)
    whole = Predictor.predict
    asked: dict[str, dict[str, list[str]]] = {}

    def noted(self: Predictor, columns: Any) -> Any:
        rows = {name: list(map(str, values)) for name, values in columns.items()}
        if len(rows["weight"]) > 1:  # one row alone is asked when a model is loaded
            asked.setdefault(self.digest, rows)
        return whole(self, columns)

    monkeypatch.setattr(Predictor, "predict", noted)
    result = prepared.done("evaluate")
    assert len(asked) == 2
    candidate, champion = (
        {name: asked[digest][name] for name in prepared.model["features"]} for digest in sorted(asked)
    )
    assert candidate == champion
    assert {len(values) for values in candidate.values()} == {result.rows}


def test_the_test_split_may_be_several_files(prepared: Run, tmp_path: Path) -> None:
    import duckdb

    prepared.candidate = register(prepared, 0, max_depth=3)
    whole = prepared.done("evaluate", "whole")
    uri = f"{prepared.prefix}/prepare/result.json"
    before = storage.read_document(uri, PrepareResult)
    source = storage.download(before.test.uris[0], tmp_path / "test.parquet")
    uris = []
    for name, part in (("a", "< 40"), ("b", ">= 40")):
        path = tmp_path / f"{name}.parquet"
        duckdb.execute(
            f"copy (select * exclude (n) from (select *, row_number() over () - 1 as n from '{source}') "
            f"where n {part}) to '{path}'"
        )
        uris.append(storage.upload(path, f"{prepared.prefix}/prepare/test/{path.name}"))
    parts = before.test.model_copy(update={"uris": uris})
    storage.write_document(uri, before.model_copy(update={"test": parts}))
    result = prepared.done("evaluate", "parts")
    assert result.candidate.metrics == whole.candidate.metrics
    assert storage.read_bytes(result.examples_uri) == storage.read_bytes(whole.examples_uri)


def test_a_prediction_that_is_no_number_leaves_no_metric(prepared: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    prepared.model["slices"] = ["depot"]
    crown(prepared, register(prepared, 0, max_depth=2).version)
    prepared.candidate = register(prepared, 1, max_depth=3)
    whole = Predictor.predict

    def broken(self: Predictor, columns: Any) -> Any:
        answers = whole(self, columns)
        if self.digest == prepared.candidate.model_digest and len(answers) > 1:  # type: ignore[union-attr]
            answers[1] = np.nan
        return answers

    monkeypatch.setattr(Predictor, "predict", broken)
    result = prepared.done("evaluate")
    assert set(result.candidate.metrics.values()) == {None}
    assert result.candidate.interval is result.candidate.calibration_error is None
    assert result.improvement.value is result.improvement.interval is None
    assert result.champion.metrics["roc_auc"] > 0.5
    assert result.champion.interval is not None
    examples = storage.read_document(result.examples_uri, Examples).examples
    assert len(examples) == 20
    assert all(np.isfinite(example.prediction) for example in examples)
    page = page_of(result)
    assert "The candidate has no valid ROC AUC" in page
    assert f"1 of the candidate&#39;s {result.rows:,} predictions" in page


def test_slices_need_not_be_features_of_the_model(prepared: Run) -> None:
    """A candidate registered before the configuration changed is judged by today's slices."""
    del prepared.model["features"]["depot"]
    prepared.candidate = register(prepared, 0, max_depth=3)
    prepared.model["features"]["depot"] = {"type": "category"}
    prepared.model["slices"] = ["depot"]
    result = prepared.done("evaluate")
    assert result.slices
    assert "depot" not in storage.read_document(result.examples_uri, Examples).examples[0].features


def test_a_run_without_importance_is_reported_on(prepared: Run) -> None:
    prepared.candidate = register(prepared, 0, max_depth=3)
    prefix = tracking.connect(prepared.tracking_uri).get_run(prepared.candidate.run_id).info.artifact_uri
    key = "mlflow/" + prefix.removeprefix("mlflow-artifacts:/").lstrip("/")
    storage.client().delete_object(Bucket="artifacts", Key=f"{key}/importance.json")
    storage.client().put_object(Bucket="artifacts", Key=f"{key}/history.json", Body=b"{broken")
    page = page_of(prepared.done("evaluate"))
    assert "Feature importance is missing" in page
    assert "Training history is missing" in page


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
    assert (result.improvement.value, result.improvement.interval.low, result.improvement.interval.high) == (0, 0, 0)
    assert "The candidate is the champion already" in page_of(result)


def test_the_digest_binds_all_that_is_judged(prepared: Run) -> None:
    prepared.candidate = register(prepared, 0, max_depth=3)
    first, again = prepared.done("evaluate", "one"), prepared.done("evaluate", "two")
    name, model_digest = prepared.model["registered_model"], prepared.candidate.model_digest
    assert first.evaluation_digest == first.digest_of(name, model_digest)
    assert again.evaluation_digest != first.evaluation_digest, "another latency was measured"
    same = again.candidate.model_copy(update={"latency": first.candidate.latency})
    assert again.model_copy(update={"candidate": same}).digest_of(name, model_digest) == first.evaluation_digest
    assert (
        first.model_copy(update={"test_digest": "other rows"}).digest_of(name, model_digest) != first.evaluation_digest
    )
    assert first.digest_of(name, "other files") != first.evaluation_digest
    assert first.digest_of("other-model", model_digest) != first.evaluation_digest
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
    prepare_again(prepared)
    failure = prepared.refused("evaluate")
    assert "champion" in failure.message
    assert "load" in failure.message
    assert "query" in failure.message


def test_a_champion_for_another_target_is_refused(prepared: Run) -> None:
    crown(prepared, register(prepared, 0, max_depth=3).version)
    prepared.model["query"] = prepared.model["query"].replace(" as late", " as tardy")
    prepared.model["target"] = "tardy"
    prepare_again(prepared)
    prepared.candidate = register(prepared, 1, max_depth=3)
    assert "predicts 'late', not 'tardy'" in prepared.refused("evaluate").message


def test_a_champion_for_another_kind_of_task_is_refused(prepared: Run) -> None:
    crown(prepared, register(prepared, 0, max_depth=3).version)
    prepared.use_task("multiclass")
    prepare_again(prepared)
    prepared.candidate = register(prepared, 1, max_depth=3)
    message = prepared.refused("evaluate").message
    assert "champion" in message
    assert "was trained for a binary task, not a multiclass one" in message


def test_a_champion_with_other_classes_is_refused(tracked: Run) -> None:
    tracked.use_task("multiclass")
    tracked.land_good()
    tracked.done("prepare")
    crown(tracked, register(tracked, 0, max_depth=3).version)
    tracked.model["query"] = tracked.model["query"].replace("'very late'", "'lost'")
    prepare_again(tracked)
    tracked.candidate = register(tracked, 1, max_depth=3)
    message = tracked.refused("evaluate").message
    assert "only the champion has 'very late', only the candidate 'lost'" in message


def test_a_candidate_for_another_kind_of_task_is_refused(prepared: Run) -> None:
    prepared.candidate = register(prepared, 0, max_depth=3)
    prepared.use_task("regression")
    assert "was trained for a binary task, configured is regression" in prepared.refused("evaluate").message


def test_no_candidate_and_an_unknown_version_are_refused(prepared: Run) -> None:
    assert "candidate: not set" in prepared.refused("evaluate").message
    register(prepared, 0, max_depth=3)
    prepared.candidate = Candidate(version="99", run_id="x", model_digest="x")
    assert "/99: no such version" in prepared.refused("evaluate").message
