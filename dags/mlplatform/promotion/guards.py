"""What a candidate must pass. Each guard is a pure function, and an entry in `GUARDS`.

Every comparison is written so that it fails for a number that is not one: what is missing, NaN or infinite never
passes. docs/promotion.md says what the guards mean, docs/how-to/add-a-guard.md how to add one.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from statistics import NormalDist

from mlplatform.config.base import LOWER_IS_BETTER, TaskKind
from mlplatform.config.policy import Policy
from mlplatform.documents.decisions import GuardResult
from mlplatform.documents.evaluation import EvaluateResult, Improvement, SliceScore
from mlplatform.documents.results import ValidateResult

# Decimal metrics are not exact in binary: 0.57 - 0.56 is below 0.01.
_ROUNDING = 1e-12


@dataclass(frozen=True)
class Case:
    """What is judged, and by what.

    Attributes:
        evaluation: both models' scores on the same held-out rows.
        validation: of the data that the candidate was trained on; None where there is no result of it.
        policy: the effective one: of the dataset, the environment and the run.
        task: kind of the dataset's task.
        metric: the dataset's.
    """

    evaluation: EvaluateResult
    validation: ValidateResult | None
    policy: Policy
    task: TaskKind
    metric: str

    @property
    def ours(self) -> float | None:
        """The candidate's metric, None where it is no number."""
        return finite(self.evaluation.candidate.metrics.get(self.metric))

    @property
    def theirs(self) -> float | None:
        """The champion's metric, None where it is no number or there is no champion."""
        champion = self.evaluation.champion
        return finite(champion.metrics.get(self.metric)) if champion else None

    @property
    def improvement(self) -> float | None:
        """How much better the candidate is, in the metric's unit; None where one of them has no metric."""
        ours, theirs = self.ours, self.theirs
        return None if ours is None or theirs is None else better(ours, theirs, self.metric)


type Guard = Callable[[Case], list[GuardResult]]
"""Returns what it found, one result or several; none where the policy leaves it out or there is nothing to judge."""


# --- How good it is ---------------------------------------------------------------------------


def held_out_rows(case: Case) -> list[GuardResult]:
    """Ask for enough rows to judge by."""
    evaluation, policy = case.evaluation, case.policy
    key = "comparison" if evaluation.champion else "cold_start"
    limit = (policy.comparison if evaluation.champion else policy.cold_start).minimum_rows
    enough = evaluation.rows >= limit
    told = f"at least {limit} are required" if enough else f"of fewer than {limit} ({key}.minimum_rows) there is none"
    sentence = f"{evaluation.rows} held-out rows judge it; {told}"
    return [GuardResult(name="held-out rows", value=evaluation.rows, limit=limit, passed=enough, sentence=sentence)]


def quality(case: Case) -> list[GuardResult]:
    """Ask for a metric that is good enough, whatever the champion's is."""
    evaluation, policy, metric = case.evaluation, case.policy, case.metric
    limit = policy.minimum_quality
    if evaluation.champion is None and policy.cold_start.minimum_quality is not None:
        limit = policy.cold_start.minimum_quality
    written = evaluation.candidate.metrics.get(metric)
    value = case.ours
    if value is None:
        passed = False
        sentence = f"the candidate has no valid {metric} (it is {'missing' if written is None else written})"
    else:
        passed = value <= limit if metric in LOWER_IS_BETTER else value >= limit
        word = "at most" if metric in LOWER_IS_BETTER else "at least"
        sentence = f"{metric} is {value:.4f}; {word} {limit:g} is required"
    return [GuardResult(name="quality", value=value, limit=limit, passed=passed, sentence=sentence)]


def comparison(case: Case) -> list[GuardResult]:
    """Judge what the improvement is at least, as far as chance can be told from it."""
    candidate, champion = case.evaluation.candidate, case.evaluation.champion
    if champion is None:
        return []
    wanted, metric, theirs, improvement = case.policy.comparison, case.metric, case.theirs, case.improvement

    def verdict(passed: bool, value: float | None, sentence: str) -> list[GuardResult]:
        return [GuardResult(name="comparison", value=value, limit=wanted.bound, passed=passed, sentence=sentence)]

    if candidate.model_version == champion.model_version:
        return verdict(True, improvement, f"version {champion.model_version} is the champion already")
    if theirs is None or improvement is None:
        who = f"the champion, version {champion.model_version}," if theirs is None else "the candidate"
        return verdict(False, None, f"{who} has no valid {metric}: they cannot be compared")
    found = f"{metric} is {_compared(improvement)} than the champion's {theirs:.4f} (version {champion.model_version})"
    least = improvement
    if wanted.judged_on == "interval":
        low = _low(case.evaluation.improvement, metric, improvement, wanted.level)
        if low is None:
            return verdict(False, None, f"{found}, but there is no {wanted.level:.0%} interval of it, so no verdict")
        least = low
        found += f", its {wanted.level:.0%} interval begins at {_compared(low)}"
    passed = least >= wanted.bound - _ROUNDING
    asked = f"at most {wanted.margin:g} worse is allowed"
    if wanted.kind == "improvement":
        passed = passed and least > _ROUNDING
        asked = f"an improvement of {f'at least {wanted.margin:g}' if wanted.margin else 'more than 0'} is required"
    return verdict(passed, least, f"{found}; {asked}")


def _low(stated: Improvement | None, metric: str, improvement: float, level: float) -> float | None:
    """Return the lower end of the improvement's interval, if it is one of this metric, difference and level."""
    if stated is None or stated.metric != metric or stated.interval is None or stated.value is None:
        return None
    interval = stated.interval
    fits = math.isclose(stated.value, improvement, abs_tol=1e-9) and math.isclose(interval.level, level)
    return interval.low if fits and -math.inf < interval.low <= interval.high < math.inf else None


def slices(case: Case) -> list[GuardResult]:
    """Block a loss in a category that is larger than allowed, and larger than chance explains.

    Here, unlike in the comparison, the doubt is the candidate's: of so few rows non-inferiority could never be shown.
    The level holds for all categories together (Bonferroni), else the more of them the likelier a false alarm. A loss
    whose chance is unknown is not excused.
    """
    evaluation, policy, metric = case.evaluation, case.policy, case.metric
    if evaluation.champion is None or policy.slices is None:
        return []
    fewest, allowed = policy.slices.minimum_rows, policy.maximum_slice_loss
    judged = [
        one
        for one in evaluation.slices
        if one.rows >= fewest and (one.candidate is not None or one.champion is not None)
    ]
    if not judged:
        sentence = f"no category has {fewest} held-out rows to be judged by"
        return [GuardResult(name="slices", value=None, limit=allowed, passed=True, sentence=sentence)]
    chance = NormalDist().inv_cdf(1 - (1 - policy.slices.level) / len(judged))
    verdicts = [_slice(one, metric, allowed, chance) for one in judged]
    if failed := [verdict for verdict in verdicts if not verdict.passed]:
        return failed
    worst = max(verdicts, key=lambda verdict: verdict.value or 0.0)
    sentence = f"of {len(judged)} categories none is worse than allowed; at most, {worst.sentence}"
    return [GuardResult(name="slices", value=worst.value, limit=allowed, passed=True, sentence=sentence)]


def _slice(one: SliceScore, metric: str, allowed: float, chance: float) -> GuardResult:
    name = f"{one.feature} {one.category or 'missing'}"
    ours, theirs = finite(one.candidate), finite(one.champion)
    if ours is None or theirs is None:
        sentence = f"{name}: {metric} of candidate or champion is not valid, so that they cannot be compared"
        return GuardResult(name=f"slice {name}", value=None, limit=allowed, passed=False, sentence=sentence)
    loss = better(theirs, ours, metric)
    noise = None if one.deviation is None else finite(one.deviation * chance)
    passed = loss <= allowed + _ROUNDING or (noise is not None and loss <= noise)
    sentence = (
        f"{name}: {metric} is {_compared(-loss)} on {one.rows} rows; {allowed:g} worse is allowed, and chance "
        f"explains {'an unknown loss' if noise is None else f'{noise:.4f}'}"
    )
    return GuardResult(name=f"slice {name}", value=loss, limit=allowed, passed=passed, sentence=sentence)


# --- What else people and machines depend on -----------------------------------------------------


def calibration(case: Case) -> list[GuardResult]:
    """Ask for probabilities that are near what happens."""
    limit = case.policy.calibration
    if limit is None or case.task != "binary":
        return []
    return [_at_most("calibration error", case.evaluation.candidate.calibration_error, limit.maximum_error)]


def latency(case: Case) -> list[GuardResult]:
    """Ask for predictions that come fast enough."""
    limits, measured = case.policy.latency, case.evaluation.candidate.latency
    if limits is None:
        return []
    single, batch = (measured.single_ms, measured.batch_ms) if measured else (None, None)
    return [
        _at_most("latency of one row", single, limits.maximum_single_ms, " ms"),
        _at_most("latency per row of many", batch, limits.maximum_batch_ms, " ms"),
    ]


def model_size(case: Case) -> list[GuardResult]:
    """Ask for files that fit."""
    limit, size = case.policy.maximum_model_mib, case.evaluation.candidate.model_bytes
    if limit is None:
        return []
    return [_at_most("model size", None if size is None else size / 2**20, limit, " MiB")]


def data_quality(case: Case) -> list[GuardResult]:
    """Ask for data whose validation warned of nothing that the policy does not allow."""
    validation, tolerance = case.validation, case.policy.data_quality
    if validation is None:
        sentence = "there is no result of the validation: nobody knows whether the data is sound"
        return [GuardResult(name="data quality", value=None, limit=None, passed=False, sentence=sentence)]
    other = [warning for warning in validation.warnings if warning not in validation.drift]
    return [
        _warnings("data warnings", other, tolerance.warnings),
        _warnings("data drift", validation.drift, tolerance.drift),
    ]


def _warnings(name: str, found: list[str], tolerance: str) -> GuardResult:
    allowed = tolerance == "allow"
    told = f"{len(found)}, the first: {found[0]}" if found else "none"
    return GuardResult(
        name=name,
        value=len(found),
        limit=None if allowed else 0,
        passed=allowed or not found,
        sentence=f"{name}: {told} ({'allowed' if allowed else 'none is allowed'})",
    )


GUARDS: list[Guard] = [
    held_out_rows,
    quality,
    comparison,
    slices,
    calibration,
    latency,
    model_size,
    data_quality,
]
"""All must pass; people read their results in this order."""


# --- Numbers ------------------------------------------------------------------------------------


def _at_most(name: str, value: float | None, limit: float, unit: str = "") -> GuardResult:
    value = finite(value)
    found = "missing or not a number" if value is None else f"{value:.4g}{unit}"
    return GuardResult(
        name=name,
        value=value,
        limit=limit,
        passed=value is not None and 0 <= value <= limit,
        sentence=f"{name} is {found}; at most {limit:g}{unit} is allowed",
    )


def better(one: float, other: float, metric: str) -> float:
    """By how much a value is better than another."""
    return other - one if metric in LOWER_IS_BETTER else one - other


def _compared(improvement: float) -> str:
    return f"{abs(improvement):.4f} {'better' if improvement >= 0 else 'worse'}"


def finite(value: float | None) -> float | None:
    """Return a number, and None for what is none."""
    return value if value is not None and math.isfinite(value) else None
