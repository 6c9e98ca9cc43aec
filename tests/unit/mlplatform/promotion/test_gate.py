"""The gate must hold in every case where a worse or unknown model could slip through."""

from __future__ import annotations

import math
from statistics import NormalDist
from typing import Any

import pytest

from mlplatform.config.policy import (
    CalibrationLimit,
    ColdStart,
    Comparison,
    DataQuality,
    LatencyLimits,
    Policy,
    SliceLimits,
)
from mlplatform.documents.decisions import Decision, GuardResult
from mlplatform.documents.evaluation import EvaluateResult, Improvement, Interval, Latency
from mlplatform.promotion import gate
from tests.unit.mlplatform.evaluations import category, evaluation, validation

INVALID = [math.nan, math.inf, -math.inf, None]


def policy(minimum_quality: float = 0.6, **changes: Any) -> Policy:
    """What a person need not agree to, a first model neither."""
    chosen = {"approval": "automatic", "cold_start": {"approval": "automatic"}, **changes}
    return Policy.model_validate({"minimum_quality": minimum_quality, **chosen})


def non_inferiority(margin: float, **changes: Any) -> Comparison:
    return Comparison(kind="non-inferiority", margin=margin, **changes)


def decide(found: EvaluateResult, by: Policy | None = None, metric: str = "roc_auc", **changes: Any) -> Decision:
    arguments: dict[str, Any] = {"validation": validation(), "task": "binary", **changes}
    return gate.decide(found, policy=by or policy(), metric=metric, **arguments)


def row(decision: Decision, name: str) -> GuardResult:
    (found,) = [guard for guard in decision.guards if guard.name == name]
    return found


def only_failure(decision: Decision) -> GuardResult:
    (failed,) = [guard for guard in decision.guards if not guard.passed]
    assert decision.outcome == "reject"
    assert decision.reasons == [failed.sentence]
    return failed


# --- The comparison with the champion -----------------------------------------------------------


def test_a_winner_is_promoted_with_all_that_was_found() -> None:
    found = evaluation(0.75, 0.70)
    decision = decide(found)
    assert decision.outcome == "promote"
    assert (decision.candidate_version, decision.candidate_value) == ("2", 0.75)
    assert (decision.champion_version, decision.champion_value) == ("1", 0.70)
    assert decision.improvement == pytest.approx(0.05)
    assert (decision.schema_version, decision.metric) == (2, "roc_auc")
    assert decision.policy == policy()
    assert decision.evaluation_digest == found.evaluation_digest
    assert decision.reasons == [
        "roc_auc is 0.7500; at least 0.6 is required",
        "roc_auc is 0.0500 better than the champion's 0.7000 (version 1), its 95% interval begins at 0.0450 better; "
        "an improvement of more than 0 is required",
        "also passed: held-out rows, slices, calibration error, latency of one row, latency per row of many, "
        "model size, data warnings, data drift",
    ]
    assert [guard.name for guard in decision.guards] == [
        *("held-out rows", "quality", "comparison", "slices", "calibration error", "latency of one row"),
        *("latency per row of many", "model size", "data warnings", "data drift"),
    ]
    assert all(guard.passed for guard in decision.guards)


@pytest.mark.parametrize(
    ("candidate", "champion", "spread", "margin", "outcome"),
    [
        pytest.param(0.75, 0.70, 0.005, 0.0, "promote", id="wins"),
        pytest.param(0.70, 0.75, 0.005, 0.0, "reject", id="loses"),
        pytest.param(0.70, 0.70, 0.0, 0.0, "reject", id="a-tie-is-no-improvement"),
        pytest.param(0.70, 0.70, 0.005, 0.0, "reject", id="a-tie-with-noise"),
        pytest.param(0.71, 0.70, 0.02, 0.0, "reject", id="better-but-the-interval-straddles-zero"),
        pytest.param(0.71, 0.70, 0.005, 0.01, "reject", id="better-but-not-surely-by-the-margin"),
        pytest.param(0.72, 0.70, 0.005, 0.01, "promote", id="surely-better-by-the-margin"),
        pytest.param(0.57 + 0.06, 0.56 + 0.06, 0.0, 0.01, "promote", id="by-exactly-the-margin"),
    ],
)
def test_an_improvement(candidate: float, champion: float, spread: float, margin: float, outcome: str) -> None:
    by = policy(comparison=Comparison(margin=margin))
    assert decide(evaluation(candidate, champion, spread=spread), by).outcome == outcome


@pytest.mark.parametrize(
    ("candidate", "spread", "margin", "outcome"),
    [
        pytest.param(0.70, 0.005, 0.01, "promote", id="a-tie"),
        pytest.param(0.695, 0.004, 0.01, "promote", id="worse-but-surely-within-the-margin"),
        pytest.param(0.695, 0.006, 0.01, "reject", id="worse-and-perhaps-beyond-the-margin"),
        pytest.param(0.705, 0.02, 0.01, "reject", id="better-but-nobody-knows"),
        pytest.param(0.69, 0.0, 0.01, "promote", id="by-exactly-the-margin"),
        pytest.param(0.70, 0.0, 0.0, "promote", id="the-same-answers-without-a-margin"),
        pytest.param(0.80, 0.005, 0.01, "promote", id="wins"),
    ],
)
def test_non_inferiority(candidate: float, spread: float, margin: float, outcome: str) -> None:
    decision = decide(evaluation(candidate, 0.70, spread=spread), policy(comparison=non_inferiority(margin)))
    assert decision.outcome == outcome
    assert f"; at most {margin:g} worse is allowed" in row(decision, "comparison").sentence
    assert row(decision, "comparison").limit == -margin
    assert row(decision, "comparison").value == pytest.approx(candidate - 0.70 - spread)


@pytest.mark.parametrize(
    ("candidate", "comparison", "outcome"),
    [
        (0.71, {}, "promote"),
        (0.70, {}, "reject"),
        (0.71, {"margin": 0.02}, "reject"),
        (0.72, {"margin": 0.02}, "promote"),
        (0.695, {"kind": "non-inferiority", "margin": 0.01}, "promote"),
        (0.685, {"kind": "non-inferiority", "margin": 0.01}, "reject"),
    ],
)
def test_a_point_estimate_decides_only_where_the_policy_says_so(
    candidate: float, comparison: Any, outcome: str
) -> None:
    noisy = evaluation(candidate, 0.70, spread=0.3)
    assert decide(noisy, policy(comparison={**comparison, "judged_on": "point"})).outcome == outcome
    assert decide(noisy, policy(comparison=comparison)).outcome == "reject"
    without = noisy.model_copy(update={"improvement": None})
    assert decide(without, policy(comparison={**comparison, "judged_on": "point"})).outcome == outcome


def test_a_winner_that_is_not_good_enough_is_rejected() -> None:
    failed = only_failure(decide(evaluation(0.59, 0.50)))
    assert (failed.name, failed.sentence) == ("quality", "roc_auc is 0.5900; at least 0.6 is required")


def test_the_comparison_is_told_in_words() -> None:
    worse = row(decide(evaluation(0.70, 0.72)), "comparison")
    assert worse.sentence == (
        "roc_auc is 0.0200 worse than the champion's 0.7200 (version 1), its 95% interval begins at 0.0250 worse; "
        "an improvement of more than 0 is required"
    )
    point = policy(comparison=Comparison(margin=0.03, judged_on="point"))
    assert row(decide(evaluation(0.75, 0.72), point), "comparison").sentence == (
        "roc_auc is 0.0300 better than the champion's 0.7200 (version 1); an improvement of at least 0.03 is required"
    )
    tie = policy(comparison=Comparison(judged_on="point"))
    assert "0.0000 better" in row(decide(evaluation(0.7, 0.7), tie), "comparison").sentence


@pytest.mark.parametrize("invalid", INVALID)
def test_an_interval_that_is_none_gives_no_verdict(invalid: float | None) -> None:
    good = evaluation(0.75, 0.70)
    assert good.improvement is not None
    assert good.improvement.interval is not None
    interval = good.improvement.interval
    broken: list[Improvement | None] = [None, good.improvement.model_copy(update={"interval": None})]
    broken += [good.improvement.model_copy(update={"value": invalid})]
    if invalid is not None:
        for change in ({"low": invalid}, {"high": invalid}, {"level": invalid}):
            broken.append(good.improvement.model_copy(update={"interval": interval.model_copy(update=change)}))
    for improvement in broken:
        failed = only_failure(decide(good.model_copy(update={"improvement": improvement})))
        assert (failed.name, failed.value) == ("comparison", None)
        assert "but there is no 95% interval of it, so no verdict" in failed.sentence


@pytest.mark.parametrize(
    "change",
    [
        {"metric": "accuracy"},
        {"value": -0.05},
        {"value": 0.0501},
        {"interval": Interval(low=0.04, high=0.06, level=0.9, resamples=1000)},
        {"interval": Interval(low=0.06, high=0.04, level=0.95, resamples=1000)},
    ],
    ids=["another-metric", "another-sign", "another-value", "another-level", "ends-swapped"],
)
def test_an_interval_of_something_else_gives_no_verdict(change: Any) -> None:
    good = evaluation(0.75, 0.70)
    assert good.improvement is not None
    changed = good.model_copy(update={"improvement": good.improvement.model_copy(update=change)})
    assert "so no verdict" in only_failure(decide(changed)).sentence


def test_an_interval_may_be_a_point() -> None:
    assert decide(evaluation(0.75, 0.70, spread=0.0)).outcome == "promote"


def test_the_interval_s_level_is_the_policy_s() -> None:
    by = policy(comparison=Comparison(level=0.9))
    assert decide(evaluation(0.75, 0.70, level=0.9), by).outcome == "promote"
    assert "no 90% interval" in only_failure(decide(evaluation(0.75, 0.70), by)).sentence


# --- Which way is better ------------------------------------------------------------------------


@pytest.mark.parametrize("metric", ["log_loss", "brier_score", "rmse", "mae"])
@pytest.mark.parametrize(
    ("candidate", "outcome", "word"),
    [(0.30, "promote", "better"), (0.40, "reject", "better"), (0.45, "reject", "worse")],
)
def test_lower_is_better_for_losses_and_errors(candidate: float, outcome: str, word: str, metric: str) -> None:
    decision = decide(evaluation(candidate, 0.4, metric=metric), policy(0.5), metric)
    assert decision.outcome == outcome
    assert decision.improvement == pytest.approx(0.4 - candidate)
    assert f"{metric} is {abs(0.4 - candidate):.4f} {word}" in row(decision, "comparison").sentence
    assert "at most 0.5 is required" in row(decision, "quality").sentence


@pytest.mark.parametrize(("candidate", "outcome"), [(0.5, "promote"), (0.501, "reject")])
def test_a_loss_above_the_limit_is_not_good_enough(candidate: float, outcome: str) -> None:
    assert decide(evaluation(candidate, metric="log_loss"), policy(0.5), "log_loss").outcome == outcome


@pytest.mark.parametrize(("candidate", "outcome"), [(-0.2, "reject"), (0.4, "promote"), (0.3, "reject")])
def test_r2_may_be_below_zero_and_higher_is_better(candidate: float, outcome: str) -> None:
    assert decide(evaluation(candidate, 0.3, metric="r2"), policy(0.0), "r2", task="regression").outcome == outcome


# --- Numbers that are none ----------------------------------------------------------------------


@pytest.mark.parametrize("value", INVALID)
@pytest.mark.parametrize("metric", ["roc_auc", "log_loss"])
@pytest.mark.parametrize("first", [True, False])
@pytest.mark.parametrize("judged_on", ["interval", "point"])
def test_a_candidate_without_a_finite_metric_never_passes(
    value: float | None, metric: str, first: bool, judged_on: Any
) -> None:
    lenient = policy(
        1e9 if metric == "log_loss" else -1e9, comparison=non_inferiority(1e9, judged_on=judged_on), slices=None
    )
    found = evaluation(value, metric=metric) if first else evaluation(value, 0.5, metric=metric)
    decision = decide(found, lenient, metric)
    assert decision.outcome == "reject"
    assert (decision.candidate_value, decision.improvement) == (None, None)
    written = "missing" if value is None else str(value)
    assert decision.reasons[0] == f"the candidate has no valid {metric} (it is {written})"
    if not first:
        assert decision.reasons[1:] == [f"the candidate has no valid {metric}: they cannot be compared"]


@pytest.mark.parametrize("value", INVALID)
@pytest.mark.parametrize("judged_on", ["interval", "point"])
def test_a_champion_that_cannot_be_scored_blocks_promotion(value: float | None, judged_on: Any) -> None:
    decision = decide(evaluation(0.9, value), policy(comparison=Comparison(judged_on=judged_on)))
    assert "the champion, version 1, has no valid roc_auc" in only_failure(decision).sentence
    assert (decision.champion_version, decision.champion_value, decision.improvement) == ("1", None, None)


def test_a_metric_that_was_not_computed_is_missing() -> None:
    decision = decide(evaluation(0.9, metric="accuracy"))
    assert decision.outcome == "reject"
    assert "missing" in decision.reasons[0]


@pytest.mark.parametrize("value", [*INVALID, -0.01])
def test_a_measurement_that_is_no_number_never_passes(value: float | None) -> None:
    assert only_failure(decide(evaluation(0.9, calibration_error=value))).name == "calibration error"
    latency = None if value is None else Latency(single_ms=value, batch_ms=0.1)
    failed = decide(evaluation(0.9, latency=latency)).guards
    names = [guard.name for guard in failed if not guard.passed]
    assert names == ["latency of one row", *(["latency per row of many"] if value is None else [])]
    if value is not None:
        slow = Latency(single_ms=1.0, batch_ms=value)
        assert only_failure(decide(evaluation(0.9, latency=slow))).name == "latency per row of many"


def test_a_model_of_unknown_size_never_passes() -> None:
    failed = only_failure(decide(evaluation(0.9, model_bytes=None)))
    assert failed.sentence == "model size is missing or not a number; at most 512 MiB is allowed"


# --- Rows, the first model, approval ----------------------------------------------------------


@pytest.mark.parametrize(("rows", "outcome"), [(99, "reject"), (100, "promote")])
def test_too_few_rows_are_no_verdict(rows: int, outcome: str) -> None:
    decision = decide(evaluation(0.9, 0.7, rows=rows))
    assert decision.outcome == outcome
    judged = row(decision, "held-out rows")
    assert (judged.value, judged.limit) == (rows, 100)
    if outcome == "reject":
        assert only_failure(decision).sentence == (
            "99 held-out rows judge it; of fewer than 100 (comparison.minimum_rows) there is none"
        )


@pytest.mark.parametrize(("rows", "outcome"), [(49, "reject"), (50, "promote")])
def test_a_first_model_has_a_number_of_rows_of_its_own(rows: int, outcome: str) -> None:
    decision = decide(evaluation(0.9, rows=rows))
    assert decision.outcome == outcome
    if outcome == "reject":
        assert "of fewer than 50 (cold_start.minimum_rows)" in only_failure(decision).sentence


@pytest.mark.parametrize(("candidate", "outcome"), [(0.6, "promote"), (0.599, "reject")])
def test_a_first_model_needs_only_be_good_enough(candidate: float, outcome: str) -> None:
    decision = decide(evaluation(candidate))
    assert decision.outcome == outcome
    assert (decision.champion_version, decision.champion_value, decision.improvement) == (None, None, None)
    assert not {"comparison", "slices"} & {guard.name for guard in decision.guards}
    if outcome == "promote":
        assert decision.reasons[1] == "there is no champion yet"


def test_a_first_model_may_have_to_be_better_than_a_later_one() -> None:
    by = policy(0.6, cold_start=ColdStart(minimum_quality=0.8, approval="automatic"))
    assert only_failure(decide(evaluation(0.7), by)).limit == 0.8
    assert decide(evaluation(0.8), by).outcome == "promote"
    assert decide(evaluation(0.7, 0.6), by).outcome == "promote"


@pytest.mark.parametrize(
    ("approval", "first_approval", "first", "outcome"),
    [
        ("manual", "manual", True, "needs-approval"),
        ("manual", "manual", False, "needs-approval"),
        ("automatic", "manual", True, "needs-approval"),
        ("automatic", "manual", False, "promote"),
        ("automatic", "automatic", True, "promote"),
        ("automatic", "automatic", False, "promote"),
    ],
)
def test_who_decides_in_the_end(approval: str, first_approval: str, first: bool, outcome: str) -> None:
    by = policy(approval=approval, cold_start={"approval": first_approval})
    decision = decide(evaluation(0.9) if first else evaluation(0.9, 0.7), by)
    assert decision.outcome == outcome
    asked = f"a person must approve {'a first model' if first else 'it'}, as the policy says"
    assert (asked in decision.reasons) == (outcome == "needs-approval")


def test_nobody_is_asked_about_what_failed() -> None:
    by = policy(approval="manual", cold_start={"approval": "manual"})
    assert decide(evaluation(0.5), by).outcome == "reject"
    assert decide(evaluation(0.5, 0.4), by).outcome == "reject"


def test_a_policy_asks_a_person_unless_it_says_otherwise() -> None:
    assert decide(evaluation(0.9), Policy(minimum_quality=0.6)).outcome == "needs-approval"
    assert decide(evaluation(0.9, 0.7), Policy(minimum_quality=0.6)).outcome == "needs-approval"


def test_the_champion_itself_judged_again_stays() -> None:
    decision = decide(evaluation(0.9, 0.9, spread=0.0, candidate_version="1"))
    assert decision.outcome == "promote"
    assert row(decision, "comparison").sentence == "version 1 is the champion already"
    assert row(decision, "comparison").value == 0
    assert decide(evaluation(None, None, candidate_version="1")).outcome == "reject"


def test_a_champion_trained_on_older_data_is_compared_on_the_same_rows_as_any() -> None:
    """What it was trained on is not asked: both are scored on the rows of this evaluation."""
    old = evaluation(0.75, 0.70, champion_version="17")
    assert decide(old).outcome == "promote"
    assert "(version 17)" in row(decide(old), "comparison").sentence


# --- Slices ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("candidate", "champion", "deviation", "passes"),
    [
        pytest.param(0.70, 0.70, 0.001, True, id="as-good"),
        pytest.param(0.80, 0.70, 0.001, True, id="better"),
        pytest.param(0.60, 0.70, 0.001, False, id="surely-worse"),
        pytest.param(0.60, 0.70, 0.2, True, id="worse-by-chance"),
        pytest.param(0.60, 0.70, None, False, id="worse-and-chance-unknown"),
        pytest.param(0.60, 0.70, math.nan, False, id="worse-and-chance-not-a-number"),
        pytest.param(0.60, 0.70, math.inf, False, id="worse-and-chance-infinite"),
        pytest.param(0.70, 0.70, None, True, id="as-good-and-chance-unknown"),
        pytest.param(None, 0.70, 0.001, False, id="candidate-missing"),
        pytest.param(0.70, None, 0.001, False, id="champion-missing"),
        pytest.param(math.nan, 0.70, 0.2, False, id="candidate-not-a-number"),
        pytest.param(0.70, math.inf, 0.2, False, id="champion-infinite"),
        pytest.param(None, None, None, True, id="undefined-of-both"),
    ],
)
def test_a_category(candidate: float | None, champion: float | None, deviation: float | None, passes: bool) -> None:
    decision = decide(evaluation(0.9, 0.7, slices=[category(candidate, champion, deviation)]))
    assert decision.outcome == ("promote" if passes else "reject")
    if not passes:
        assert only_failure(decision).name == "slice depot north"


def test_one_category_worse_is_named_among_those_that_are_not() -> None:
    slices = [category(0.8, 0.7, name="north"), category(0.6, 0.7, 0.01, name="south"), category(0.7, 0.7, name=None)]
    failed = only_failure(decide(evaluation(0.9, 0.7, slices=slices)))
    assert (failed.name, failed.value, failed.limit) == ("slice depot south", pytest.approx(0.1), 0)
    noise = NormalDist().inv_cdf(1 - 0.05 / 3) * 0.01
    assert failed.sentence == (
        f"depot south: roc_auc is 0.1000 worse on 200 rows; 0 worse is allowed, and chance explains {noise:.4f}"
    )


def test_every_category_that_is_worse_is_a_row() -> None:
    slices = [category(0.6, 0.7, name="south"), category(0.5, 0.7, None, name=None), category(0.7, 0.7)]
    decision = decide(evaluation(0.9, 0.7, slices=slices))
    assert [guard.name for guard in decision.guards if not guard.passed] == ["slice depot south", "slice depot missing"]
    assert "slices" not in {guard.name for guard in decision.guards}
    assert "chance explains an unknown loss" in decision.reasons[1]


def test_of_categories_that_pass_the_worst_is_shown() -> None:
    slices = [category(0.8, 0.7, name="north"), category(0.695, 0.7, name="south"), category(0.7, 0.7, name="west")]
    decision = decide(evaluation(0.9, 0.7, slices=slices), policy(slices=SliceLimits(maximum_loss=0.01)))
    shown = row(decision, "slices")
    assert (shown.value, shown.limit) == (pytest.approx(0.005), 0.01)
    assert shown.sentence.startswith(
        "of 3 categories none is worse than allowed; at most, depot south: roc_auc is 0.0050"
    )


def test_what_a_category_may_lose() -> None:
    slices = [category(0.68, 0.7, 0.0)]
    found = evaluation(0.9, 0.7, slices=slices)
    assert decide(found).outcome == "reject"
    assert decide(found, policy(slices=SliceLimits(maximum_loss=0.02))).outcome == "promote", "exactly so much"
    assert decide(found, policy(slices=SliceLimits(maximum_loss=0.019))).outcome == "reject"
    assert decide(found, policy(comparison=non_inferiority(0.02))).outcome == "promote", "as the whole may"
    assert decide(found, policy(comparison=Comparison(margin=0.02))).outcome == "reject", "a margin is no loss"
    assert decide(found, policy(slices=None)).outcome == "promote"
    assert "slices" not in {guard.name for guard in decide(found, policy(slices=None)).guards}


def test_a_loss_that_chance_just_explains_is_excused() -> None:
    deviation = 0.01
    noise = deviation * NormalDist().inv_cdf(1 - (1 - 0.95))
    assert decide(evaluation(0.9, 0.7, slices=[category(0.0, noise, deviation)])).outcome == "promote"
    assert decide(evaluation(0.9, 0.7, slices=[category(-1e-9, noise, deviation)])).outcome == "reject"


def test_lower_is_better_within_a_category_too() -> None:
    by = policy(0.5, slices=SliceLimits(maximum_loss=0.01))
    for candidate, outcome in ((0.3, "promote"), (0.45, "reject")):
        found = evaluation(0.3, 0.4, metric="log_loss", slices=[category(candidate, 0.4)])
        assert decide(found, by, "log_loss").outcome == outcome


def test_a_category_of_few_rows_is_not_judged() -> None:
    slices = [category(0.1, 0.7, rows=199)]
    by = policy(slices=SliceLimits(minimum_rows=200))
    decision = decide(evaluation(0.9, 0.7, slices=slices), by)
    assert decision.outcome == "promote"
    assert row(decision, "slices").sentence == "no category has 200 held-out rows to be judged by"
    assert (row(decision, "slices").value, row(decision, "slices").limit) == (None, 0)
    assert decide(evaluation(0.9, 0.7, slices=[category(0.1, 0.7, rows=200)]), by).outcome == "reject"


def test_chance_is_shared_among_the_categories_that_are_judged() -> None:
    """A loss of 2 deviations is beyond chance for one category, not for one of ten; the undefined do not count."""
    suspect = category(0.68, 0.70, 0.01)
    assert decide(evaluation(0.9, 0.7, slices=[suspect])).outcome == "reject"
    fine = [category(0.7, 0.7, name=str(index)) for index in range(9)]
    assert decide(evaluation(0.9, 0.7, slices=[suspect, *fine])).outcome == "promote"
    undefined = [category(None, None, name=str(index)) for index in range(9)]
    assert decide(evaluation(0.9, 0.7, slices=[suspect, *undefined])).outcome == "reject"
    strict = policy(slices=SliceLimits(level=0.8))
    assert decide(evaluation(0.9, 0.7, slices=[category(0.69, 0.70, 0.01)])).outcome == "promote"
    assert decide(evaluation(0.9, 0.7, slices=[category(0.69, 0.70, 0.01)]), strict).outcome == "reject"


# --- What else people and machines depend on ------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "limits", "name"),
    [
        ({"calibration_error": 0.2}, {"calibration": CalibrationLimit(maximum_error=0.2)}, "calibration error"),
        (
            {"latency": Latency(single_ms=20.0, batch_ms=0.1)},
            {"latency": LatencyLimits(maximum_single_ms=20)},
            "latency of one row",
        ),
        (
            {"latency": Latency(single_ms=1.0, batch_ms=2.0)},
            {"latency": LatencyLimits(maximum_batch_ms=2)},
            "latency per row of many",
        ),
        ({"model_bytes": 3 * 2**20}, {"maximum_model_mib": 3}, "model size"),
    ],
)
def test_a_limit_is_what_is_just_allowed(change: Any, limits: Any, name: str) -> None:
    at = decide(evaluation(0.9, **change), policy(**limits))
    assert at.outcome == "promote"
    key, limit = next(iter(limits.items()))
    lower = {"maximum_model_mib": 2.999}
    if not isinstance(limit, int):
        field = {"calibration error": "maximum_error", "latency of one row": "maximum_single_ms"}.get(
            name, "maximum_batch_ms"
        )
        lower = {key: limit.model_copy(update={field: getattr(limit, field) * 0.999})}
    failed = only_failure(decide(evaluation(0.9, **change), policy(**lower)))
    assert failed.name == name
    assert failed.value == row(at, name).value > failed.limit  # type: ignore[operator]
    off: dict[str, Any] = {key: None}
    assert name not in {guard.name for guard in decide(evaluation(0.9, **change), policy(**off)).guards}


def test_a_measurement_of_nothing_is_allowed() -> None:
    nothing: dict[str, Any] = {"calibration_error": 0.0, "latency": Latency(single_ms=0, batch_ms=0), "model_bytes": 0}
    assert decide(evaluation(0.9, **nothing)).outcome == "promote"


def test_limits_are_told_with_their_units() -> None:
    decision = decide(evaluation(0.9))
    assert [row(decision, name).sentence for name in ("calibration error", "latency of one row", "model size")] == [
        "calibration error is 0.02; at most 0.15 is allowed",
        "latency of one row is 1 ms; at most 100 ms is allowed",
        "model size is 1 MiB; at most 512 MiB is allowed",
    ]
    assert row(decision, "latency per row of many").sentence.endswith("is 0.01 ms; at most 5 ms is allowed")


@pytest.mark.parametrize("task", ["multiclass", "regression"])
def test_only_a_binary_task_has_a_calibration_error(task: Any) -> None:
    decision = decide(evaluation(0.9, calibration_error=None), task=task)
    assert decision.outcome == "promote"
    assert "calibration error" not in {guard.name for guard in decision.guards}


@pytest.mark.parametrize(
    ("warnings", "drift", "quality", "failed"),
    [
        ([], [], {"warnings": "reject", "drift": "reject"}, []),
        (["few rows"], ["weight moved"], {}, []),
        (["few rows"], [], {"warnings": "reject"}, ["data warnings"]),
        ([], ["weight moved"], {"warnings": "reject"}, []),
        ([], ["weight moved"], {"drift": "reject"}, ["data drift"]),
        (["few rows"], [], {"drift": "reject"}, []),
        (["few rows"], ["weight moved"], {"warnings": "reject", "drift": "reject"}, ["data warnings", "data drift"]),
    ],
)
def test_what_validation_warned_of(warnings: list[str], drift: list[str], quality: Any, failed: list[str]) -> None:
    by = policy(data_quality=DataQuality.model_validate(quality))
    decision = decide(evaluation(0.9), by, validation=validation(warnings, drift))
    assert [guard.name for guard in decision.guards if not guard.passed] == failed
    assert (row(decision, "data warnings").value, row(decision, "data drift").value) == (len(warnings), len(drift))
    expected = [0 if quality.get(key) == "reject" else None for key in ("warnings", "drift")]
    assert [row(decision, name).limit for name in ("data warnings", "data drift")] == expected
    told = {0: "data warnings: none", 1: "data warnings: 1, the first: few rows"}[len(warnings)]
    assert row(decision, "data warnings").sentence.startswith(told)
    assert ("none is allowed" in row(decision, "data drift").sentence) == (quality.get("drift") == "reject")


def test_data_that_was_never_validated_is_rejected() -> None:
    failed = only_failure(decide(evaluation(0.9), validation=None))
    assert (failed.name, failed.limit) == ("data quality", None)
    assert "no result of the validation" in failed.sentence


def test_all_reasons_against_are_given() -> None:
    poor = evaluation(
        0.5,
        0.7,
        rows=10,
        slices=[category(0.5, 0.7)],
        calibration_error=0.5,
        latency=Latency(single_ms=1e3, batch_ms=1e3),
        model_bytes=2**40,
    )
    by = policy(data_quality=DataQuality(warnings="reject", drift="reject"))
    decision = decide(poor, by, validation=validation(["few rows"], ["weight moved"]))
    assert decision.outcome == "reject"
    assert len(decision.reasons) == len(decision.guards) == 10
    assert not any(guard.passed for guard in decision.guards)
    assert decision.reasons == [guard.sentence for guard in decision.guards]
