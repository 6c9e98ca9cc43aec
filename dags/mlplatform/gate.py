"""The gate: may a candidate replace the champion? One pure function. No Airflow import."""

from __future__ import annotations

import math
from typing import Literal

from mlplatform.config import LOWER_IS_BETTER, Policy, Strict
from mlplatform.results import Score

# Decimal metrics are not exact in binary: 0.57 - 0.56 is below 0.01.
_ROUNDING = 1e-12


class Decision(Strict):
    """``decision.json``: the outcome, in reasons a person can read, and the numbers behind it."""

    version: Literal[1] = 1
    outcome: Literal["promote", "reject"]
    reasons: list[str]
    metric: str
    candidate_version: str
    candidate_value: float | None
    champion_version: str | None
    champion_value: float | None
    improvement: float | None
    """How much better the candidate is, in the metric's unit; negative when it is worse."""
    policy: Policy
    evaluation_digest: str = ""
    """Of the evaluation that was judged, so that a decision cannot be carried over to another one."""


def decide(
    candidate: Score, champion: Score | None, policy: Policy, metric: str, evaluation_digest: str = ""
) -> Decision:
    """Judge a candidate against the policy and against the champion, scored on the same rows.

    The rules, each of which must hold:

    * the candidate's metric is a finite number and at least ``policy.minimum_quality`` (at most, where
      lower is better);
    * with a champion, the champion's metric is a finite number and the candidate is better by at least
      ``policy.minimum_improvement``. At 0 a tie is enough: as good, and trained on newer data. A champion
      that cannot be scored blocks promotion, because then nobody knows what would be lost; look at the
      evaluation, or move the alias by hand.

    With no champion the first rule decides alone.
    """
    lower = metric in LOWER_IS_BETTER
    value = _finite(candidate.metrics.get(metric))
    rejections: list[str] = []
    grounds: list[str] = []
    word = "at most" if lower else "at least"
    if not math.isfinite(policy.minimum_quality) or not math.isfinite(policy.minimum_improvement):
        rejections.append("the policy's thresholds must be finite numbers; nothing passes until they are")
    if value is None:
        raw = candidate.metrics.get(metric)
        rejections.append(f"the candidate has no valid {metric} (it is {'missing' if raw is None else raw})")
    else:
        enough = value <= policy.minimum_quality if lower else value >= policy.minimum_quality
        text = f"{metric} is {value:.4f}; {word} {policy.minimum_quality:g} is required"
        (grounds if enough else rejections).append(text)
    champion_value = improvement = None
    if champion is None:
        grounds.append("there is no champion yet")
    else:
        champion_value = _finite(champion.metrics.get(metric))
        if champion_value is None:
            rejections.append(
                f"the champion, version {champion.model_version}, has no valid {metric}: they cannot be compared"
            )
        elif value is not None:
            improvement = champion_value - value if lower else value - champion_value
            enough = improvement >= policy.minimum_improvement - _ROUNDING
            text = (
                f"{metric} is {abs(improvement):.4f} {'better' if improvement >= 0 else 'worse'} than the champion's "
                f"{champion_value:.4f} (version {champion.model_version}); an improvement of at least "
                f"{policy.minimum_improvement:g} is required"
            )
            (grounds if enough else rejections).append(text)
    return Decision(
        outcome="reject" if rejections else "promote",
        reasons=rejections or grounds,
        metric=metric,
        candidate_version=candidate.model_version,
        candidate_value=value,
        champion_version=champion.model_version if champion else None,
        champion_value=champion_value,
        improvement=improvement,
        policy=policy,
        evaluation_digest=evaluation_digest,
    )


def _finite(value: float | None) -> float | None:
    return value if value is not None and math.isfinite(value) else None
