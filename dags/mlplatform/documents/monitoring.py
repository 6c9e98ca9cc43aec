"""What the step `monitor` reports, and when a retraining was last asked for."""

from __future__ import annotations

from datetime import datetime
from typing import Literal

from pydantic import Field

from mlplatform.config.base import Strict
from mlplatform.documents.base import Document
from mlplatform.documents.evaluation import Interval
from mlplatform.documents.results import StepResult


class Retraining(Document):
    """``retraining.json``: the last time that one was asked for."""

    at: datetime
    dag_run: str
    reasons: list[str]


class Drifted(Strict):
    """How far a feature, or the prediction, has moved; see `mlplatform.monitoring.drift`."""

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


class MonitoringVerdict(Strict):
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
    verdict: MonitoringVerdict
    report_uri: str
