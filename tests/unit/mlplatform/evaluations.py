"""Evaluations as the step writes them, with numbers of the test's choice."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from mlplatform.config.base import LOWER_IS_BETTER
from mlplatform.documents.evaluation import EvaluateResult, Improvement, Interval, Latency, Score, SliceScore
from mlplatform.documents.results import ValidateResult

NOW = datetime(2026, 1, 1, tzinfo=UTC)
UNSET: Any = object()


def score(version: str, value: float | None, metric: str = "roc_auc", **changes: Any) -> Score:
    """A model that is small, quick and honest."""
    return Score(
        **{
            "model_version": version,
            "run_id": f"run-{version}",
            "metrics": {metric: value},
            "calibration_error": 0.02,
            "latency": Latency(single_ms=1.0, batch_ms=0.01),
            "model_bytes": 2**20,
            **changes,
        }
    )


def evaluation(
    candidate: float | None,
    champion: float | None = UNSET,
    *,
    metric: str = "roc_auc",
    spread: float = 0.005,
    level: float = 0.95,
    rows: int = 1000,
    slices: list[SliceScore] | None = None,
    candidate_version: str = "2",
    champion_version: str = "1",
    registered_model: str = "parcels",
    model_digest: str = "digest",
    **changes: Any,
) -> EvaluateResult:
    """A candidate's evaluation, against a champion where one is given.

    Args:
        spread: from the improvement to either end of its interval.
        changes: of the candidate's score.
    """
    other = None if champion is UNSET else score(champion_version, champion, metric)
    improvement = None
    if other is not None:
        better = None
        if candidate is not None and champion is not None:
            better = champion - candidate if metric in LOWER_IS_BETTER else candidate - champion
        interval = None
        if better is not None:
            interval = Interval(low=better - spread, high=better + spread, level=level, resamples=1000)
        improvement = Improvement(metric=metric, value=better, interval=interval)
    result = EvaluateResult(
        run_key="key",
        started_at=NOW,
        finished_at=NOW,
        candidate=score(candidate_version, candidate, metric, **changes),
        champion=other,
        rows=rows,
        improvement=improvement,
        slices=slices or [],
        test_uris=["s3://data/t"],
        test_digest="rows",
        evaluation_digest="",
        examples_uri="s3://data/examples.json",
        report_uri="s3://data/evaluation.html",
    )
    return result.with_digest(registered_model, model_digest)


def category(
    candidate: float | None,
    champion: float | None,
    deviation: float | None = 0.001,
    *,
    name: str | None = "north",
    rows: int = 200,
) -> SliceScore:
    """A category of the feature `depot`."""
    return SliceScore(
        feature="depot", category=name, rows=rows, candidate=candidate, champion=champion, deviation=deviation
    )


def validation(warnings: list[str] | None = None, drift: list[str] | None = None) -> ValidateResult:
    """What validation found of the data that the candidate was trained on."""
    return ValidateResult(
        run_key="key",
        started_at=NOW,
        finished_at=NOW,
        files=[],
        warnings=[*(warnings or []), *(drift or [])],
        drift=drift or [],
        report_uri="s3://data/validation.html",
        profile_uri="s3://data/profile.json",
    )
