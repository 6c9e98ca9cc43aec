"""How a model is judged: see `mlplatform.promotion.gate` and docs/promotion.md."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from mlplatform.config.base import LOWER_IS_BETTER, Finite, Level, NotNegative, Positive, Strict

ApprovalKind = Literal["automatic", "manual"]
Tolerance = Literal["allow", "reject"]
GUARDS_VERSION = 1
"""Raised with every guard that is added or changes its meaning, and with it the version of the documents that carry the
policy to the images: an older image would silently drop it."""
MINIMUM_SLICE_ROWS = 50
"""The evaluation scores no category with fewer held-out rows."""


class Comparison(Strict):
    """How a candidate must compare with the champion on the same held-out rows."""

    kind: Literal["improvement", "non-inferiority"] = Field(
        default="improvement",
        description="`improvement`: better by at least the margin. `non-inferiority`: at most the margin worse.",
    )
    margin: NotNegative = Field(default=0.0, description="In the metric's unit. An improvement of 0 is still above 0.")
    judged_on: Literal["interval", "point"] = Field(
        default="interval",
        description="`interval`: the whole confidence interval must be beyond the margin. `point`: the difference "
        "itself, however much of it is chance.",
    )
    level: Level = Field(
        default=0.95, description="Of the interval, two-sided: chance promotes wrongly in at most half of the rest."
    )
    minimum_rows: Annotated[int, Field(ge=2)] = Field(default=100, description="Of fewer held-out rows none is judged.")

    @property
    def bound(self) -> float:
        """What the improvement must at least be, in the metric's unit; negative where a loss is allowed."""
        return self.margin if self.kind == "improvement" else -self.margin


class ColdStart(Strict):
    """The first model of a dataset, that has no champion to be compared with."""

    minimum_quality: Finite | None = Field(default=None, description="Instead of the policy's own.")
    approval: ApprovalKind = "manual"
    minimum_rows: Annotated[int, Field(ge=1)] = Field(default=50, description="Of fewer held-out rows none is judged.")


class SliceLimits(Strict):
    """No category of the dataset's `slices` may get worse than allowed, as far as noise can be told from loss."""

    maximum_loss: NotNegative | None = Field(
        default=None,
        description="Against the champion, in the metric's unit; else what non-inferiority allows the whole, or 0.",
    )
    level: Level = Field(
        default=0.95, description="Chance that a model as good as the champion is blocked by none of its categories."
    )
    minimum_rows: Annotated[int, Field(ge=MINIMUM_SLICE_ROWS)] = Field(
        default=MINIMUM_SLICE_ROWS, description="Categories with fewer held-out rows are not judged."
    )


class CalibrationLimit(Strict):
    """Of binary tasks: how far predicted probabilities may be from what happens."""

    maximum_error: Annotated[float, Field(gt=0, lt=1)] = 0.15


class LatencyLimits(Strict):
    """How long a prediction may take within the evaluation's process, without network or server."""

    maximum_single_ms: Positive = Field(default=100, description="For one row alone.")
    maximum_batch_ms: Positive = Field(default=5, description="Per row, of 1,000 at once.")


class DataQuality(Strict):
    """What becomes of a model whose data passed validation with warnings."""

    warnings: Tolerance = "allow"
    drift: Tolerance = Field(default="allow", description="Of warnings about drift, which do not count as others.")


class Guards(Strict):
    """What a policy has a default for, and an environment may say for all datasets; None leaves a guard out."""

    approval: ApprovalKind = Field(
        default="manual", description="Whether a person must agree once all guards have passed, with a champion."
    )
    comparison: Comparison = Comparison()
    cold_start: ColdStart = ColdStart()
    slices: SliceLimits | None = SliceLimits()
    calibration: CalibrationLimit | None = CalibrationLimit()
    latency: LatencyLimits | None = LatencyLimits()
    maximum_model_mib: Positive | None = Field(default=512, description="Size of the saved model's files.")
    data_quality: DataQuality = DataQuality()


class Policy(Guards):
    """When a candidate may replace the champion."""

    minimum_quality: Finite = Field(description="The candidate's metric on held-out data must be at least this good.")

    @property
    def maximum_slice_loss(self) -> float:
        """What a category may lose against the champion, in the metric's unit."""
        if self.slices is not None and self.slices.maximum_loss is not None:
            return self.slices.maximum_loss
        return max(0.0, -self.comparison.bound)

    def check(self, metric: str) -> None:
        """Refuse what contradicts itself, or what no model can pass.

        Raises:
            ValueError: the message begins with the key.
        """
        lower = metric in LOWER_IS_BETTER
        best, beyond = (0.0, "below") if lower else (1.0, "above")
        first = self.cold_start.minimum_quality
        for key, value in (("minimum_quality", self.minimum_quality), ("cold_start.minimum_quality", first)):
            if value is not None and (value < best if lower else value > best):
                raise ValueError(f"{key}: no model can pass: {metric} is never {beyond} {best:g} (got {value:g})")
        if first is not None and (first > self.minimum_quality if lower else first < self.minimum_quality):
            raise ValueError(
                f"cold_start.minimum_quality: a first model of {first:g} would not be as good as minimum_quality "
                f"({self.minimum_quality:g}) asks of every later one"
            )
        room = abs(best - self.minimum_quality)
        if self.comparison.bound > room:
            raise ValueError(
                f"comparison.margin: no model can pass: {metric} is never {beyond} {best:g}, so nothing is better by "
                f"{self.comparison.margin:g} than a champion of minimum_quality ({self.minimum_quality:g})"
            )
        if self.slices is not None and self.maximum_slice_loss < -self.comparison.bound:
            raise ValueError(
                f"slices.maximum_loss: {self.maximum_slice_loss:g} allows a category less than comparison.margin "
                f"({self.comparison.margin:g}) allows the whole"
            )
        if self.cold_start.approval == "automatic" and self.approval == "manual":
            raise ValueError(
                "cold_start.approval: automatic, while approval is manual: the model with nothing to compare with "
                "would be the only one that nobody looks at"
            )
