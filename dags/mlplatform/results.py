"""What each container step reports: the versioned content of its ``result.json``. No Airflow import."""

from __future__ import annotations

from datetime import datetime
from typing import Literal

from pydantic import Field

from mlplatform.config import Scalar, Strict


class StepResult(Strict):
    """Fields every step reports."""

    version: Literal[1] = 1
    step: str
    run_key: str
    started_at: datetime
    finished_at: datetime


class FileReport(Strict):
    """One validated file."""

    uri: str
    table: str
    rows: int


class ValidateResult(StepResult):
    """Only written when every file passed; a refused one ends the step with ``error.json`` instead."""

    step: Literal["validate"] = "validate"
    files: list[FileReport]
    warnings: list[str] = Field(default=[])
    report_uri: str
    """The readable report, HTML."""
    profile_uri: str
    """`mlplatform.profile.DataProfile` of each landed table's columns (JSON object by table)."""


class Split(Strict):
    """One part of the prepared data: Parquet files with features, target, references and the split columns."""

    uris: list[str]
    """One or more files, in order."""
    rows: int
    class_shares: dict[str, float] | None
    """Share of each class, by its name; None for a regression."""
    target_mean: float | None
    """None for several classes."""
    start: datetime | None = None
    end: datetime | None = None
    """First and last time, under a split by time."""


class PrepareResult(StepResult):
    """Where the three parts of the data are."""

    step: Literal["prepare"] = "prepare"
    engine: Literal["duckdb", "spark"]
    train: Split
    validation: Split
    test: Split
    dropped_rows: int = 0
    profile_uri: str
    """`mlplatform.profile.DataProfile` of the train split: what transformations are fitted from."""


class TrialResult(Strict):
    """What became of one trial."""

    trial: int
    status: Literal["succeeded", "pruned", "failed", "skipped"]
    reason: str | None = None
    """Why it did not succeed."""
    family: str
    params: dict[str, Scalar]
    metrics: dict[str, float | None] = Field(default={})
    """Metrics on the validation split, by name; None where a metric could not be computed."""
    run_id: str | None = None
    """MLflow run of the trial; the saved model of a successful one is its artifact ``model``."""
    model_uri: str | None = None
    """Where the registry finds the model (a ``runs:/`` or ``mlflow-artifacts:/`` or ``models:/`` URI)."""
    model_digest: str | None = None
    fit_seconds: float = 0.0
    gpu_seconds: float = 0.0


class TrainResult(StepResult):
    """The trials of one training pod. A pod whose trials all failed still has a result, unless it was refused."""

    step: Literal["train"] = "train"
    trials: list[TrialResult]


class Interval(Strict):
    """Where a metric lies, as far as the held-out rows can tell: percentiles of a bootstrap."""

    low: float
    high: float
    level: float
    """Share of the resamples that are within."""
    resamples: int


class Latency(Strict):
    """How long one process takes for a prediction, without network or server; medians of a measurement."""

    single_ms: float
    """Milliseconds for one row alone."""
    batch_ms: float
    """Milliseconds per row when 1,000 are asked for at once."""


class Score(Strict):
    """A model version on the held-out test split."""

    model_version: str
    run_id: str
    metrics: dict[str, float | None]
    interval: Interval | None = None
    """Of the configured metric; None where it is undefined."""
    calibration_error: float | None = None
    """Mean distance of predicted probability and observed share over ten bins of as many rows; binary tasks only."""
    latency: Latency | None = None
    model_bytes: int | None = None
    """Size of the saved model's files."""


class Improvement(Strict):
    """How much better the candidate is than the champion; negative where it is worse."""

    metric: str
    value: float | None
    """In the metric's unit; None where one of them has no metric."""
    interval: Interval | None = None
    """Both are scored on the same resamples of the rows."""


class SliceScore(Strict):
    """The configured metric on the rows of one category."""

    feature: str
    category: str | None
    """None for the rows that have none."""
    rows: int
    candidate: float | None
    champion: float | None


class EvaluateResult(StepResult):
    """Candidate and champion, scored by one process on the same rows."""

    step: Literal["evaluate"] = "evaluate"
    candidate: Score
    champion: Score | None
    rows: int
    improvement: Improvement | None = None
    """None without a champion."""
    slices: list[SliceScore] = Field(default=[])
    """By `ModelConfig.slices`, each with its largest categories first; categories of few rows are left out."""
    test_uris: list[str]
    evaluation_digest: str
    """Covers versions, the test rows and all numbers but the latency, which is another at each measurement."""
    examples_uri: str
    report_uri: str
    """The evaluation report, HTML."""


class Example(Strict):
    """A held-out row: what to send, what the model answers, what really happened."""

    features: dict[str, Scalar | None]
    prediction: float | list[float]
    """Probability of the positive class, probability of each class, or the number."""
    target: Scalar
    """What really happened, as the prepared data has it."""
    references: dict[str, Scalar | None]


class Examples(Strict):
    """``examples.json``: a few held-out rows, used for the smoke test of a live endpoint and shown to people."""

    examples: list[Example]


class DeployResult(StepResult):
    """What is live now, and what was before."""

    step: Literal["deploy"] = "deploy"
    endpoint_name: str
    endpoint_config_name: str
    model_version: str
    previous_version: str | None
    smoke_rows: int
    smoke_max_difference: float


class StepFailure(Strict):
    """``error.json``: why a step ended without a result and should not be tried again as it is."""

    version: Literal[1] = 1
    step: str
    kind: Literal["bad-input", "bad-config", "rolled-back"]
    message: str
    subjects: list[str] = Field(default=[])
    """URIs of the files at fault, for quarantine."""
