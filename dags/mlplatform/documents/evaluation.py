"""What the step `evaluate` reports: candidate and champion on the same held-out rows."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import Field
from pydantic_core import from_json

from mlplatform.config.base import Scalar, Strict
from mlplatform.documents.base import Document
from mlplatform.documents.digests import digest
from mlplatform.documents.results import StepResult


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


_JUDGED = {"candidate", "champion", "rows", "improvement", "slices", "test_digest"}


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

        Only fields that the document has count. A later release that knows more fields finds the same digest, but one
        of an evaluation that was never written has to be made by `with_digest`.

        Args:
            registered_model: name that the versions are of.
            model_digest: of the candidate's files.
        """
        judged = self.model_dump(mode="json", include=_JUDGED, exclude_unset=True)
        return digest(registered_model, model_digest, judged)

    def with_digest(self, registered_model: str, model_digest: str) -> Self:
        """Return the evaluation with the digest that whoever reads it will find."""
        judged = from_json(self.model_dump_json(include=_JUDGED))
        return self.model_copy(update={"evaluation_digest": digest(registered_model, model_digest, judged)})


class Example(Strict):
    """A held-out row: what to send, what the model answers, what really happened."""

    features: dict[str, Scalar | None]
    prediction: float | list[float]
    """Probability of the positive class, probability of each class, or the number."""
    target: Scalar
    """What really happened, as the prepared data has it."""
    references: dict[str, Scalar | None]


class Examples(Document):
    """``examples.json``: a few held-out rows, used for the smoke test of a live endpoint and shown to people."""

    examples: list[Example]
