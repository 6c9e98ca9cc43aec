"""What container steps report in ``result.json`` and ``error.json``, and which trial was selected."""

from __future__ import annotations

from datetime import datetime
from typing import Literal

from pydantic import Field

from mlplatform.config.base import Scalar, Strict
from mlplatform.documents.base import Document


class StepResult(Document):
    """Fields every step reports."""

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
    drift: list[str] = Field(default=[])
    """Those of the warnings that are about drift."""
    report_uri: str
    """The readable report, HTML."""
    profile_uri: str
    """`mlplatform.documents.profiles.DataProfile` of each landed table's columns (JSON object by table)."""


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
    """`mlplatform.documents.profiles.DataProfile` of the train split: what transformations are fitted from."""


class TrialResult(Document):
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


class StepFailure(Document):
    """``error.json``: why a step ended without a result and should not be tried again as it is."""

    step: str
    kind: Literal["bad-input", "bad-config", "rolled-back"]
    message: str
    subjects: list[str] = Field(default=[])
    """URIs of the files at fault, for quarantine."""


class Selection(Document):
    """``selection.json``: all trials of a run, and which one goes on."""

    schema_version: int = 2
    oldest_readable = 2
    metric: str
    best: int
    summary: str
    """What became of the trials, for people."""
    gpu_hours: float
    trials: list[TrialResult]
