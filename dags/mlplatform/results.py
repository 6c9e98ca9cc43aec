"""What each container step reports: the versioned content of its ``result.json``. No Airflow import."""

from __future__ import annotations

from datetime import datetime
from typing import Literal

from pydantic import Field

from mlplatform.config import Scalar, Strict, digest


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
    drift: list[str] = Field(default=[])
    """Those of the warnings that are about drift."""
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
    deviation: float | None = None
    """Standard error of the difference of both; None where there is none or it cannot be estimated."""


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
    test_digest: str
    """Identity of the test rows: of the bytes of their files."""
    evaluation_digest: str
    """See `digest_of`; what a decision and an approval are bound to."""
    examples_uri: str
    report_uri: str
    """The evaluation report, HTML."""

    def digest_of(self, registered_model: str, model_digest: str) -> str:
        """Return the digest of all that the gate judges, and of what it is about.

        The latency is among it: an evaluation done again measures another one, so that it is another evaluation, and
        what was decided on the first does not hold for it.

        Args:
            registered_model: name that the versions are of.
            model_digest: of the candidate's files.
        """
        judged = {"candidate", "champion", "rows", "improvement", "slices", "test_digest"}
        return digest(registered_model, model_digest, self.model_dump(mode="json", include=judged))


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


class LiveVariant(Strict):
    """A model version on an endpoint, and the share of the requests that it answers."""

    model_version: str
    share: float
    smoke_rows: int
    smoke_max_difference: float | None
    """Largest difference between a prediction and the expected one; None where none were expected."""


class DeployResult(StepResult):
    """What is live now, and what was before."""

    step: Literal["deploy"] = "deploy"
    purpose: Literal["deploy", "rollback"] = "deploy"
    endpoint_name: str
    endpoint_config_name: str
    previous_endpoint_config_name: str | None = None
    """None where there was no endpoint, or where it ran this configuration already."""
    model_version: str
    previous_version: str | None
    """Champion before; None where there was none, or where it was this version."""
    strategy: str = "all-at-once"
    """How requests moved: ``all-at-once``, ``canary``, ``linear``, ``create``, ``weights`` or ``none``."""
    strategy_reason: str = ""
    """Why, where that is not what the configuration asks for."""
    seconds: float = 0.0
    """From the first change of the endpoint until it was verified; 0 where nothing was changed."""
    alarms: list[str] = Field(default=[])
    """Those that would have rolled it back."""
    checks: list[str] = Field(default=[])
    """What was looked at afterwards, and found to be right."""
    variants: dict[str, LiveVariant] = Field(default={})
    """By name: ``primary``, and in an experiment ``challenger``."""
    smoke_rows: int
    smoke_max_difference: float


class Drifted(Strict):
    """How far a feature, or the prediction, has moved; see `mlplatform.drift`."""

    psi: float
    bins: int
    """Bins compared that either side has rows in."""
    most: str
    """The bin that moved most, its share before and now."""
    before: float
    now: float
    missing: float
    """Share of the rows without a value."""
    unknown: float | None = None
    """Share of the rows with a category that training did not know; None of a number."""


class LiveQuality(Strict):
    """The configured metric on answers whose labels have landed, and the same metric of the evaluation."""

    metric: str
    rows: int
    value: float | None
    interval: Interval | None
    evaluated: float | None
    evaluated_interval: Interval | None = None


class WatchedVersion(Strict):
    """One model version in the window."""

    model_version: str
    requests: int
    rows: int
    reference_rows: int = 0
    """Of the train split."""
    test_rows: int = 0
    """Of the test split, whose predictions are compared with."""
    features: dict[str, Drifted] = Field(default={})
    prediction: Drifted | None = None
    quality: LiveQuality | None = None
    note: str | None = None
    """Why it is not compared with anything."""


class LabelCounts(Strict):
    """What became of the labels that have landed."""

    files: int = 0
    labels: int = 0
    matched: int = 0
    duplicated: int = 0
    """Landed more than once with the same value; used once."""
    contradictory: int = 0
    """Ids and rows that landed with different values; not used."""
    unknown: int = 0
    """For no captured answer of the window."""
    unusable: int = 0
    """Without an id or a value, or with a class that the model does not know."""
    refused_files: list[str] = Field(default=[])
    """Files that are not as the contract says, each with the reason; not used."""


class VariantErrors(Strict):
    """What CloudWatch counted for a variant in the window; captured requests are only those answered well."""

    invocations: float
    client_errors: float
    server_errors: float

    @property
    def error_free_share(self) -> float | None:
        """Share answered well; None without any request."""
        bad = self.client_errors + self.server_errors
        return max(0.0, 1 - bad / self.invocations) if self.invocations else None


class Verdict(Strict):
    """What the measurements mean, and why."""

    outcome: Literal["ok", "drifted", "degraded", "too-few"]
    reasons: list[str]
    versions: dict[str, Literal["ok", "drifted", "degraded", "too-few"]] = Field(default={})


class MonitorResult(StepResult):
    """How the live versions of a dataset did in a window."""

    step: Literal["monitor"] = "monitor"
    endpoint_name: str
    start: datetime
    labels_start: datetime
    end: datetime
    requests: int
    rows: int
    malformed: int
    """Captured lines or bodies that cannot be read; left out."""
    malformed_examples: list[str] = Field(default=[])
    unattributed: int = 0
    """Readable requests whose answer names no model version; left out."""
    versions: list[WatchedVersion]
    labels: LabelCounts = LabelCounts()
    errors: dict[str, VariantErrors] = Field(default={})
    """By variant; empty where CloudWatch could not be asked."""
    verdict: Verdict
    report_uri: str


class StepFailure(Strict):
    """``error.json``: why a step ended without a result and should not be tried again as it is."""

    version: Literal[1] = 1
    step: str
    kind: Literal["bad-input", "bad-config", "rolled-back"]
    message: str
    subjects: list[str] = Field(default=[])
    """URIs of the files at fault, for quarantine."""
