"""The gate: may a candidate replace the champion? One pure function.

`decide` asks a guard after the other and keeps each one's verdict. Every comparison is written so that it fails for a
number that is not one: what is missing, NaN or infinite never passes. docs/promotion.md says what the guards mean.
"""

from __future__ import annotations

import math
from statistics import NormalDist
from typing import Literal

from mlplatform.config.base import LOWER_IS_BETTER, TaskKind
from mlplatform.config.policy import Policy
from mlplatform.documents.decisions import Decision, GuardResult
from mlplatform.documents.evaluation import EvaluateResult, Improvement, SliceScore
from mlplatform.documents.results import ValidateResult

# Decimal metrics are not exact in binary: 0.57 - 0.56 is below 0.01.
_ROUNDING = 1e-12


def decide(
    evaluation: EvaluateResult, validation: ValidateResult | None, policy: Policy, task: TaskKind, metric: str
) -> Decision:
    """Judge a candidate by the policy, and against the champion if there is one.

    All guards must pass. A champion without a valid metric blocks promotion, because then nobody knows what would be
    lost; look at the evaluation, or move the alias by hand.

    Args:
        evaluation: both models' scores on the same held-out rows.
        validation: of the data that the candidate was trained on; None where there is no result of it.
        policy: the effective one: of the dataset, the environment and the run.
        task: kind of the dataset's task.
        metric: the dataset's.
    """
    candidate, champion = evaluation.candidate, evaluation.champion
    ours = _finite(candidate.metrics.get(metric))
    theirs = _finite(champion.metrics.get(metric)) if champion else None
    improvement = None if ours is None or theirs is None else _better(ours, theirs, metric)
    guards = [_rows(evaluation, policy), _quality(evaluation, policy, metric)]
    if champion is not None:
        guards += [_comparison(evaluation, policy, metric, improvement), *_slices(evaluation, policy, metric)]
    guards += [*_calibration(evaluation, policy, task), *_running(evaluation, policy), *_data(validation, policy)]
    refusals = [guard.sentence for guard in guards if not guard.passed]
    manual = (policy.approval if champion else policy.cold_start.approval) == "manual"
    outcome: Literal["promote", "reject", "needs-approval"] = "needs-approval" if manual else "promote"
    if refusals:
        outcome = "reject"
    return Decision(
        outcome=outcome,
        reasons=refusals or _grounds(guards, first=champion is None, manual=manual),
        guards=guards,
        metric=metric,
        candidate_version=candidate.model_version,
        candidate_value=ours,
        champion_version=champion.model_version if champion else None,
        champion_value=theirs,
        improvement=improvement,
        policy=policy,
        evaluation_digest=evaluation.evaluation_digest,
    )


def _grounds(guards: list[GuardResult], *, first: bool, manual: bool) -> list[str]:
    """Return what speaks for a candidate that passed: how good it is, what else was looked at, and who decides now."""
    telling = [guard.sentence for guard in guards if guard.name in ("quality", "comparison")]
    others = [guard.name for guard in guards if guard.name not in ("quality", "comparison")]
    return [
        *telling,
        *(["there is no champion yet"] if first else []),
        f"also passed: {', '.join(others)}",
        *([f"a person must approve {'a first model' if first else 'it'}, as the policy says"] if manual else []),
    ]


def _rows(evaluation: EvaluateResult, policy: Policy) -> GuardResult:
    key = "comparison" if evaluation.champion else "cold_start"
    limit = (policy.comparison if evaluation.champion else policy.cold_start).minimum_rows
    enough = evaluation.rows >= limit
    return GuardResult(
        name="held-out rows",
        value=evaluation.rows,
        limit=limit,
        passed=enough,
        sentence=f"{evaluation.rows} held-out rows judge it; "
        + (f"at least {limit} are required" if enough else f"of fewer than {limit} ({key}.minimum_rows) there is none"),
    )


def _quality(evaluation: EvaluateResult, policy: Policy, metric: str) -> GuardResult:
    limit = policy.minimum_quality
    if evaluation.champion is None and policy.cold_start.minimum_quality is not None:
        limit = policy.cold_start.minimum_quality
    written = evaluation.candidate.metrics.get(metric)
    value = _finite(written)
    if value is None:
        passed = False
        sentence = f"the candidate has no valid {metric} (it is {'missing' if written is None else written})"
    else:
        passed = value <= limit if metric in LOWER_IS_BETTER else value >= limit
        word = "at most" if metric in LOWER_IS_BETTER else "at least"
        sentence = f"{metric} is {value:.4f}; {word} {limit:g} is required"
    return GuardResult(name="quality", value=value, limit=limit, passed=passed, sentence=sentence)


def _comparison(evaluation: EvaluateResult, policy: Policy, metric: str, improvement: float | None) -> GuardResult:
    """Judge what the improvement is at least, as far as chance can be told from it."""
    candidate, champion, wanted = evaluation.candidate, evaluation.champion, policy.comparison
    assert champion is not None
    theirs = _finite(champion.metrics.get(metric))

    def verdict(passed: bool, value: float | None, sentence: str) -> GuardResult:
        return GuardResult(name="comparison", value=value, limit=wanted.bound, passed=passed, sentence=sentence)

    if candidate.model_version == champion.model_version:
        return verdict(True, improvement, f"version {champion.model_version} is the champion already")
    if theirs is None or improvement is None:
        who = f"the champion, version {champion.model_version}," if theirs is None else "the candidate"
        return verdict(False, None, f"{who} has no valid {metric}: they cannot be compared")
    found = f"{metric} is {_told(improvement)} than the champion's {theirs:.4f} (version {champion.model_version})"
    least = improvement
    if wanted.judged_on == "interval":
        low = _low(evaluation.improvement, metric, improvement, wanted.level)
        if low is None:
            return verdict(False, None, f"{found}, but there is no {wanted.level:.0%} interval of it, so no verdict")
        least = low
        found += f", its {wanted.level:.0%} interval begins at {_told(low)}"
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


def _slices(evaluation: EvaluateResult, policy: Policy, metric: str) -> list[GuardResult]:
    """Block a loss in a category that is larger than allowed, and larger than chance explains.

    Here, unlike in the comparison, the doubt is the candidate's: of so few rows non-inferiority could never be shown.
    The level holds for all categories together (Bonferroni), else the more of them the likelier a false alarm. A loss
    whose chance is unknown is not excused.
    """
    if policy.slices is None:
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
    ours, theirs = _finite(one.candidate), _finite(one.champion)
    if ours is None or theirs is None:
        sentence = f"{name}: {metric} of candidate or champion is not valid, so that they cannot be compared"
        return GuardResult(name=f"slice {name}", value=None, limit=allowed, passed=False, sentence=sentence)
    loss = _better(theirs, ours, metric)
    noise = None if one.deviation is None else _finite(one.deviation * chance)
    passed = loss <= allowed + _ROUNDING or (noise is not None and loss <= noise)
    sentence = (
        f"{name}: {metric} is {_told(-loss)} on {one.rows} rows; {allowed:g} worse is allowed, and chance explains "
        f"{'an unknown loss' if noise is None else f'{noise:.4f}'}"
    )
    return GuardResult(name=f"slice {name}", value=loss, limit=allowed, passed=passed, sentence=sentence)


def _calibration(evaluation: EvaluateResult, policy: Policy, task: TaskKind) -> list[GuardResult]:
    if policy.calibration is None or task != "binary":
        return []
    return [_at_most("calibration error", evaluation.candidate.calibration_error, policy.calibration.maximum_error)]


def _running(evaluation: EvaluateResult, policy: Policy) -> list[GuardResult]:
    latency, size = evaluation.candidate.latency, evaluation.candidate.model_bytes
    verdicts = []
    if policy.latency is not None:
        single, batch = (latency.single_ms, latency.batch_ms) if latency else (None, None)
        verdicts = [
            _at_most("latency of one row", single, policy.latency.maximum_single_ms, " ms"),
            _at_most("latency per row of many", batch, policy.latency.maximum_batch_ms, " ms"),
        ]
    if policy.maximum_model_mib is not None:
        mib = None if size is None else size / 2**20
        verdicts.append(_at_most("model size", mib, policy.maximum_model_mib, " MiB"))
    return verdicts


def _at_most(name: str, value: float | None, limit: float, unit: str = "") -> GuardResult:
    value = _finite(value)
    found = "missing or not a number" if value is None else f"{value:.4g}{unit}"
    return GuardResult(
        name=name,
        value=value,
        limit=limit,
        passed=value is not None and 0 <= value <= limit,
        sentence=f"{name} is {found}; at most {limit:g}{unit} is allowed",
    )


def _data(validation: ValidateResult | None, policy: Policy) -> list[GuardResult]:
    if validation is None:
        sentence = "there is no result of the validation: nobody knows whether the data is sound"
        return [GuardResult(name="data quality", value=None, limit=None, passed=False, sentence=sentence)]
    other = [warning for warning in validation.warnings if warning not in validation.drift]
    return [
        _warnings("data warnings", other, policy.data_quality.warnings),
        _warnings("data drift", validation.drift, policy.data_quality.drift),
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


def _better(one: float, other: float, metric: str) -> float:
    """By how much a value is better than another."""
    return other - one if metric in LOWER_IS_BETTER else one - other


def _told(improvement: float) -> str:
    return f"{abs(improvement):.4f} {'better' if improvement >= 0 else 'worse'}"


def _finite(value: float | None) -> float | None:
    return value if value is not None and math.isfinite(value) else None
