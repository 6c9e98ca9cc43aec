"""The evaluation report: complete in itself, the same each time, and true to the numbers."""

from __future__ import annotations

import re
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import numpy as np
import pytest
from helpers import MODEL, ROOT, TASKS
from pages import Page

from mlplatform.config.base import TaskKind
from mlplatform.config.dataset import ModelConfig
from mlplatform.config.loading import load_family
from mlplatform.documents.evaluation import EvaluateResult, Improvement, Latency, Score
from mlplatform.documents.results import PrepareResult, Split
from mlplatform.documents.run import Candidate, RunConfig
from trainer import reports
from trainer.evaluation.bootstrap import intervals
from trainer.evaluation.calibration import calibration_error
from trainer.evaluation.slices import slice_scores
from trainer.metrics import score_all
from trainer.reports.evaluation.inputs import Evaluation
from trainer.reports.evaluation.page import evaluation_report

KINDS: list[TaskKind] = ["binary", "multiclass", "regression"]
NOW = datetime(2026, 5, 4, 12, 30, tzinfo=UTC)
EVIL = "<script>alert('x')</script>\"&$\\frac{1}{2}$ #0072b2 \x00\u202e"


def answers(kind: TaskKind, rows: int, noise: float, seed: int = 1) -> tuple[Any, Any]:
    draw = np.random.default_rng(seed)
    hidden = draw.normal(0, 1, rows)
    if kind == "regression":
        return hidden * 10, hidden * 10 + draw.normal(0, 5 * noise, rows)
    if kind == "binary":
        return (hidden > 0.5).astype(float), 1 / (1 + np.exp(-(hidden + draw.normal(0, noise, rows))))
    odds = np.exp(-((hidden[:, None] - [-1.3, 0, 1.2]) ** 2) + draw.normal(0, noise, (rows, 3)))
    return np.digitize(hidden, [-0.7, 0.4]).astype(float), odds / odds.sum(axis=1, keepdims=True)


def evaluation(
    kind: TaskKind = "binary",
    rows: int = 600,
    *,
    champion: bool = True,
    itself: bool = False,
    slices: dict[str, Any] | None = None,
    candidate: Any = None,
    classes: list[str] | None = None,
    target: Any = None,
    **model: Any,
) -> Evaluation:
    """What the step would report of made-up predictions."""
    found, ours = answers(kind, rows, 0.5)
    theirs = answers(kind, rows, 2.0)[1]
    target = found if target is None else target
    ours = ours if candidate is None else candidate
    if slices is None:
        slices = {"depot": np.array(["north", "south", None] * (rows // 3), dtype=object)}
    content = {**MODEL, **TASKS[kind], "slices": [name for name in slices if name == "depot"], **model}
    config = ModelConfig.model_validate(content)
    metric = config.metric
    compared = champion and not itself
    sure = intervals(kind, metric, target, ours, theirs if compared else None, seed=1, resamples=50)

    def score(version: str, predictions: Any, interval: Any) -> Score:
        return Score(
            model_version=version,
            run_id=f"run-{version}",
            metrics=score_all(kind, target, predictions),
            interval=interval,
            calibration_error=calibration_error(target, predictions) if kind == "binary" else None,
            latency=Latency(single_ms=0.25, batch_ms=0.002),
            model_bytes=2048,
        )

    own = score("7", ours, sure.candidate)
    other = own if itself else score("5", theirs, sure.champion) if champion else None
    value = None
    if other is not None and own.metrics[metric] is not None and other.metrics[metric] is not None:
        sign = -1 if metric in ("log_loss", "rmse") else 1
        value = sign * (own.metrics[metric] - other.metrics[metric])
    split = Split(uris=["s3://data/x"], rows=rows, class_shares=None, target_mean=None, start=NOW, end=NOW)
    return Evaluation(
        config=RunConfig(
            run_key="f00",
            seed=1,
            family=load_family("xgboost", ROOT),
            model=config,
            policy=config.policy,
            tracking_uri="http://127.0.0.1:9",
            region="us-east-1",
            lineage={"git_sha": "0123abc"},
            candidate=Candidate(version="7", run_id="run-7", model_digest="d1g"),
        ),
        prepared=PrepareResult(
            run_key="f00",
            started_at=NOW,
            finished_at=NOW,
            engine="duckdb",
            train=split,
            validation=split,
            test=split,
            profile_uri="s3://data/profile.json",
        ),
        result=EvaluateResult(
            run_key="f00",
            started_at=NOW,
            finished_at=NOW,
            candidate=own,
            champion=other,
            rows=rows,
            improvement=None if other is None else Improvement(metric=metric, value=value, interval=sure.improvement),
            slices=slice_scores(kind, metric, target, ours, theirs if compared else None, slices),
            test_uris=["s3://data/x"],
            test_digest="c0de",
            evaluation_digest="e7a1",
            examples_uri="s3://data/examples.json",
            report_uri="s3://data/report.html",
        ),
        target=target,
        candidate=ours,
        champion=theirs if compared else None,
        classes=classes or {"binary": ["0", "1"], "multiclass": ["a", "b", "c"], "regression": None}[kind],
        candidate_family="xgboost",
        champion_family="sklearn" if champion else None,
        importance={"weight": 0.7, "depot": 0.3, "load": 0.0},
        champion_importance={"weight": 1.0},
        history=[{"step": n, "log_loss": 0.6 - n / 100, "train_log_loss": 0.5 - n / 100} for n in range(20)],
        data_digest="da7a",
    )


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("champion", [True, False])
def test_the_page_is_complete_in_itself_and_the_same_each_time(kind: TaskKind, champion: bool) -> None:
    given = evaluation(kind, champion=champion)
    content = evaluation_report(given)
    assert content == evaluation_report(given)
    page = Page(content)
    assert not [tag for tag, _ in page.tags if tag in ("script", "link", "iframe", "img", "object")]
    assert not re.search(r"https?://|@import|url\((?!#)", content)
    assert len(page.named("h1")) == 1
    drawings = page.named("svg")
    assert len(drawings) >= 4
    assert all(one["role"] == "img" and one["aria-label"] for one in drawings)
    assert len(page.named("caption")) == len(page.named("table"))
    assert len(page.named("figcaption")) == len(page.named("figure")) == len(drawings)
    used = re.findall(r'(?:url\(#|href="#)([^")]+)', content)
    ids = re.findall(r' id="([^"]+)"', content)
    assert set(used) <= set(ids)


@pytest.mark.parametrize("kind", KINDS)
def test_the_numbers_are_those_of_the_result(kind: TaskKind) -> None:
    given = evaluation(kind)
    page, result = Page(evaluation_report(given)), given.result
    assert result.champion is not None
    for key, value in result.candidate.metrics.items():
        assert len([row for row in page.named("tr") if row.get("data-metric") == key]) == 1
        name = {"roc_auc": "ROC AUC", "r2": "R²", "rmse": "RMSE", "mae": "MAE", "macro_f1": "Macro F1"}.get(
            key, key.replace("_", " ").capitalize()
        )
        cells = page.row(name)
        assert cells[2:4] == [reports.decimal(value), reports.decimal(result.champion.metrics[key])]
        assert value is not None
        assert float(cells[2].replace("−", "-")) == pytest.approx(value, abs=6e-4 * max(1, abs(value)))
        assert ("better" in cells[4]) != ("worse" in cells[4])
    assert result.improvement is not None
    assert result.improvement.interval is not None
    for number in (result.improvement.value, result.improvement.interval.low, result.improvement.interval.high):
        assert reports.signed(number) in page.text
    for one in result.slices:
        cells = page.row("(missing)" if one.category is None else one.category)
        assert cells[1:] == [str(one.rows), reports.decimal(one.candidate), reports.decimal(one.champion)]
    for fact in ("f00", "0123abc", "d1g", "e7a1", "da7a", "run-7", "run-5", "2.0 KiB", "0.25 ms", "2 µs"):
        assert fact in page.text
    assert "The candidate is better than the champion" in page.text


def test_a_worse_and_an_equal_candidate_are_called_so() -> None:
    _, noisy = answers("binary", 600, 9.0)
    assert "The candidate is worse than the champion" in evaluation_report(evaluation(candidate=noisy))
    hidden = np.random.default_rng(1).normal(0, 1, 600)
    as_noisy = 1 / (1 + np.exp(-(hidden + np.random.default_rng(2).normal(0, 2, 600))))
    assert "do not tell the two apart" in evaluation_report(evaluation(candidate=as_noisy))


def test_the_champion_itself_is_not_compared_with_itself() -> None:
    page = Page(evaluation_report(evaluation(itself=True)))
    assert "The candidate is the champion already" in page.text
    assert "Difference" not in page.text
    assert page.row("ROC AUC")[1:] == ["higher", reports.decimal(evaluation().result.candidate.metrics["roc_auc"])]


@pytest.mark.parametrize("kind", KINDS)
def test_predictions_that_are_no_numbers_are_told_and_not_drawn(kind: TaskKind) -> None:
    broken = answers(kind, 600, 0.5)[1].copy()
    broken[3] = np.nan
    given = evaluation(kind, candidate=broken)
    page = Page(evaluation_report(given))
    assert "The candidate has no valid" in page.text
    assert "1 of the candidate's 600 predictions are not finite" in page.text
    assert reports.NOTHING in page.row({"binary": "ROC AUC", "multiclass": "Log loss", "regression": "RMSE"}[kind])
    assert page.named("figure")  # of the champion
    alone = replace(
        given, champion=None, champion_family=None, result=given.result.model_copy(update={"champion": None})
    )
    assert "There is nothing to draw" in evaluation_report(alone)


@pytest.mark.parametrize("kind", KINDS)
def test_one_row_and_one_class_and_constant_answers(kind: TaskKind) -> None:
    """Nothing to divide by, nothing to rank: the page says so instead of failing."""
    one = {"depot": np.array(["north"], dtype=object)}
    target, prediction = answers(kind, 1, 0.5)
    few = evaluation(kind, 1, champion=False, slices=one, candidate=prediction, target=target)
    assert "No category of depot has enough test rows" in evaluation_report(few)
    same = np.zeros(60)
    flat = np.full((60, 3), 1 / 3) if kind == "multiclass" else np.full(60, 0.5)
    content = evaluation_report(evaluation(kind, 60, champion=False, candidate=flat, target=same))
    assert ("All test rows are of one class" in content) == (kind != "regression")


@pytest.mark.parametrize("kind", KINDS)
def test_no_rows_at_all(kind: TaskKind) -> None:
    nothing = np.empty((0, 3)) if kind == "multiclass" else np.empty(0)
    none = {"depot": np.empty(0, dtype=object)}
    content = evaluation_report(evaluation(kind, 0, champion=False, slices=none, candidate=nothing, target=np.empty(0)))
    assert "The test split has no rows" in content


def test_missing_artifacts_and_slices_are_told() -> None:
    given = replace(evaluation(slices={}), importance=None, champion_importance=None, history=None)
    page = Page(evaluation_report(given)).text
    assert "Feature importance is missing" in page
    assert "Training history is missing" in page
    assert "None are configured" in page
    assert "no feature importance of their own" in evaluation_report(replace(given, importance={}))


@pytest.mark.parametrize("artifact", ["text", 5, ["x", None], [{"step": "a"}], {"a": "b"}, {"a": float("nan")}])
def test_artifacts_of_another_shape_are_left_out(artifact: Any) -> None:
    given = replace(evaluation(), importance=artifact, champion_importance=artifact, history=artifact)
    page = Page(evaluation_report(given)).text
    assert "Feature importance is missing" in page
    assert "Training history is missing" in page


def test_text_from_data_stays_text() -> None:
    given = evaluation(
        "multiclass",
        classes=[EVIL, "b", "</svg><img src=x>"],
        slices={"depot": np.array([EVIL, "--><b>", "]]>"] * 200, dtype=object)},
        description=EVIL,
    )
    config = given.config.model_copy(update={"lineage": {EVIL: EVIL}})
    content = evaluation_report(
        replace(given, config=config, importance={EVIL: 1.0}, history=[{"step": n, EVIL: n} for n in range(3)])
    )
    page = Page(content)
    assert not [tag for tag, _ in page.tags if tag in ("script", "img", "b", "frac")]
    assert "\x00" not in content
    assert "\u202e" not in content
    assert "$\\frac" in page.text  # not taken for a formula
    assert "#0072b2" in page.text  # nor for a colour


def test_a_page_of_many_rows_classes_and_categories_is_small() -> None:
    rows, many = 20_000, 40
    draw = np.random.default_rng(1)
    target = draw.integers(0, many, rows).astype(float)
    odds = draw.random((rows, many)) + 2 * (target[:, None] == np.arange(many))
    given = evaluation(
        "multiclass",
        rows,
        champion=False,
        target=target,
        candidate=odds / odds.sum(axis=1, keepdims=True),
        classes=[f"class {n}" for n in range(many)],
        slices={"depot": np.array([f"depot {n}" for n in draw.integers(0, 500, rows)], dtype=object)},
        metric="accuracy",
    )
    content = evaluation_report(given)
    assert len(content) < 1_000_000
    assert "all others" in content
    assert f"The 30 most frequent of {many} classes" in content
    regression = evaluation_report(evaluation("regression", rows, slices={}))
    assert len(regression) < 1_000_000
    assert max(len(re.findall(r"<path|<use", svg)) for svg in regression.split("<svg ")[1:]) < 4_000
