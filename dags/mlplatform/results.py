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


class Split(Strict):
    """One part of the prepared data: a Parquet file with features, target, references and the split column."""

    uri: str
    rows: int
    positive_share: float
    start: datetime
    end: datetime


class PrepareResult(StepResult):
    """Where the three parts of the data are."""

    step: Literal["prepare"] = "prepare"
    train: Split
    validation: Split
    test: Split
    dropped_rows: int = 0


class TrainResult(StepResult):
    """One trained and logged trial."""

    step: Literal["train"] = "train"
    trial: int
    family: str
    params: dict[str, Scalar]
    metrics: dict[str, float | None]
    """Metrics on the validation split, by name; None where a metric could not be computed."""
    run_id: str
    """MLflow run of the trial; the saved model is its artifact ``model``."""
    model_uri: str
    """Where the registry finds the model (a ``runs:/`` or ``mlflow-artifacts:/`` or ``models:/`` URI)."""
    model_digest: str
    fit_seconds: float


class Score(Strict):
    """A model version's metrics on the held-out test split."""

    model_version: str
    run_id: str
    metrics: dict[str, float | None]


class EvaluateResult(StepResult):
    """Candidate and champion, scored by one process on the same rows."""

    step: Literal["evaluate"] = "evaluate"
    candidate: Score
    champion: Score | None
    rows: int
    test_uri: str
    evaluation_digest: str
    examples_uri: str


class Example(Strict):
    """A held-out row: what to send, what the model answers, what really happened."""

    features: dict[str, Scalar | None]
    prediction: float
    target: float
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
