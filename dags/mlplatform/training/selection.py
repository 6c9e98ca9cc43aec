"""What became of a search, and which of its trials is the best one."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence

from mlplatform.config.base import LOWER_IS_BETTER
from mlplatform.documents.results import TrainResult, TrialResult
from mlplatform.documents.run import Trial
from mlplatform.errors import NonRetryableError

_NAMED = 5


def outcomes(
    family: str, planned: Sequence[Trial], result: TrainResult | None, reason: str | None
) -> list[TrialResult]:
    """Return what became of a pod's trials; those it has not reported on have failed.

    Args:
        family: of the trials.
        planned: the pod's trials.
        result: what the pod reported, None if it came to no end.
        reason: why it did not, None if nothing is known.
    """
    reported = {trial.trial: trial for trial in result.trials} if result is not None else {}
    why = reason or ("no result; see the log of its task" if result is None else "its pod reported nothing about it")
    return [
        reported.get(trial.index)
        or TrialResult(trial=trial.index, status="failed", reason=why, family=family, params=trial.params)
        for trial in planned
    ]


def select_best(trials: Sequence[TrialResult], metric: str, minimum_share: float) -> TrialResult:
    """Return the trial with the best validation metric; the earliest of equals.

    A trial succeeded when it has a model and its metric is a finite number: NaN never wins. One that was pruned did
    its job: it showed that its parameters are not worth more time. One that was skipped, as the GPU-hours were used
    up, counts neither way.

    Args:
        trials: what became of each.
        metric: name of the metric to compare.
        minimum_share: share of the trials not skipped that must have succeeded or been pruned, above 0 to 1.

    Raises:
        NonRetryableError: no trial succeeded, or too many failed; the message says why each of the first ones failed.
    """
    counts = count(trials, metric)
    succeeded = [trial for trial in trials if _status(trial, metric) == "succeeded"]
    tried = len(trials) - counts["skipped"]
    if not succeeded or counts["succeeded"] + counts["pruned"] < minimum_share * tried:
        others = "".join(f", {counts[status]} {status}" for status in ("pruned", "skipped") if counts[status])
        why = [
            f"trial {trial.trial}: {_why(trial, metric)}"
            for trial in trials
            if _status(trial, metric) == "failed" or not succeeded
        ]
        raise NonRetryableError(
            f"{counts['succeeded']} of {len(trials)} trials succeeded{others}, {minimum_share:.0%} are needed "
            f"(training.minimum_successful_share); nothing is registered or deployed. {_first(why)}"
        )
    sign = -1 if metric in LOWER_IS_BETTER else 1
    return max(succeeded, key=lambda trial: (sign * (trial.metrics[metric] or 0.0), -trial.trial))


def count(trials: Sequence[TrialResult], metric: str) -> Counter[str]:
    """Return how many trials succeeded, were pruned, failed and were skipped; without a score a trial has failed."""
    return Counter(_status(trial, metric) for trial in trials)


def gpu_hours(trials: Sequence[TrialResult]) -> float:
    """Return the GPU-hours the trials have used, as far as they have reported."""
    return sum(trial.gpu_seconds for trial in trials) / 3600


def summary(trials: Sequence[TrialResult], metric: str) -> str:
    """Return in one line what became of the trials; those that were skipped are named."""
    counts = count(trials, metric)
    parts = [f"{counts[status]} {status}" for status in ("succeeded", "pruned", "failed", "skipped") if counts[status]]
    text = f"{len(trials)} trial{'' if len(trials) == 1 else 's'}: {', '.join(parts)}"
    if hours := gpu_hours(trials):
        text += f"; {hours:.2f} GPU-hours"
    skipped = [f"trial {trial.trial}: {trial.reason or 'no reason'}" for trial in trials if trial.status == "skipped"]
    return f"{text}; skipped: {_first(skipped)}" if skipped else text


def _first(items: Sequence[str]) -> str:
    more = f"; and {len(items) - _NAMED} more" if len(items) > _NAMED else ""
    return "; ".join(items[:_NAMED]) + more


def _status(trial: TrialResult, metric: str) -> str:
    if trial.status != "succeeded":
        return trial.status
    value = trial.metrics.get(metric)
    scored = value is not None and math.isfinite(value)
    return "succeeded" if scored and trial.run_id and trial.model_uri and trial.model_digest else "failed"


def _why(trial: TrialResult, metric: str) -> str:
    if trial.status != "succeeded":
        return trial.reason or trial.status
    value = trial.metrics.get(metric)
    if value is None or not math.isfinite(value):
        return f"{metric} is {value}"
    return "it has no model"
