"""What holds of the gate for every evaluation: drawn by chance, from fixed seeds."""

from __future__ import annotations

import math
import random
from collections.abc import Callable
from typing import Any

import pytest

from mlplatform.config.base import LOWER_IS_BETTER
from mlplatform.config.policy import Policy
from mlplatform.documents.decisions import Decision
from mlplatform.documents.evaluation import EvaluateResult, Interval, Latency, SliceScore
from mlplatform.promotion.gate import decide
from tests.unit.mlplatform.evaluations import category, evaluation, validation

DRAWS = 200
METRICS = ["roc_auc", "log_loss"]
RANK = {"reject": 0, "needs-approval": 1, "promote": 1}


def a_policy(draw: random.Random, lower: bool) -> Policy:
    kind = draw.choice(["improvement", "non-inferiority"])
    margin = draw.choice([0.0, 0.01, 0.05])
    return Policy.model_validate(
        {
            "minimum_quality": draw.uniform(0.55, 0.9) if lower else draw.uniform(0.1, 0.45),
            "approval": draw.choice(["automatic", "manual"]),
            "comparison": {
                "kind": kind,
                "margin": margin,
                "judged_on": draw.choice(["interval", "interval", "point"]),
                "minimum_rows": draw.choice([2, 100]),
            },
            "slices": draw.choice([None, {}, {"maximum_loss": 0.1}]),
            "data_quality": {"warnings": draw.choice(["allow", "reject"])},
        }
    )


def an_evaluation(draw: random.Random, metric: str) -> EvaluateResult:
    champion = draw.uniform(0.4, 0.6)
    candidate = champion + draw.uniform(-0.12, 0.12)
    slices = [
        category(
            champion + draw.uniform(-0.1, 0.1), champion, draw.choice([None, 0.01, 0.05, 0.2]), name=str(index), rows=99
        )
        for index in range(draw.choice([0, 1, 5]))
    ]
    return evaluation(
        candidate,
        champion,
        metric=metric,
        spread=draw.choice([0.0, 0.01, 0.05]),
        rows=draw.choice([50, 500, 500]),
        slices=slices,
        latency=Latency(single_ms=draw.choice([1.0, 99.0]), batch_ms=0.1),
    )


def judge(found: EvaluateResult, by: Policy, metric: str) -> Decision:
    return decide(found, validation(["few rows"][: found.rows % 2]), by, "binary", metric)


def improved(found: EvaluateResult, metric: str, by: float) -> EvaluateResult:
    """The same evaluation of a candidate that is better by so much, everywhere."""
    step = -by if metric in LOWER_IS_BETTER else by
    assert found.improvement is not None
    assert found.improvement.interval is not None
    interval = found.improvement.interval
    values = {metric: (found.candidate.metrics[metric] or 0.0) + step}

    def moved(one: SliceScore) -> SliceScore:
        return one.model_copy(update={"candidate": (one.candidate or 0.0) + step})

    better = found.improvement.model_copy(
        update={
            "value": (found.improvement.value or 0.0) + by,
            "interval": interval.model_copy(update={"low": interval.low + by, "high": interval.high + by}),
        }
    )
    return found.model_copy(
        update={
            "candidate": found.candidate.model_copy(update={"metrics": values}),
            "improvement": better,
            "slices": [moved(one) for one in found.slices],
        }
    )


def mirrored(found: EvaluateResult, metric: str) -> EvaluateResult:
    """The same evaluation by a metric whose sign is the other one."""

    def mirror(value: float | None) -> float | None:
        return None if value is None else 1 - value

    def scored(score: Any) -> Any:
        return score.model_copy(update={"metrics": {metric: mirror(next(iter(score.metrics.values())))}})

    assert found.improvement is not None
    return found.model_copy(
        update={
            "candidate": scored(found.candidate),
            "champion": scored(found.champion),
            "improvement": found.improvement.model_copy(update={"metric": metric}),
            "slices": [
                one.model_copy(update={"candidate": mirror(one.candidate), "champion": mirror(one.champion)})
                for one in found.slices
            ],
        }
    )


def swapped(found: EvaluateResult) -> EvaluateResult:
    """The same evaluation with the two in each other's place."""
    assert found.champion is not None
    assert found.improvement is not None
    assert found.improvement.interval is not None
    interval = found.improvement.interval
    other = Interval(low=-interval.high, high=-interval.low, level=interval.level, resamples=interval.resamples)
    better = found.improvement.model_copy(update={"value": -(found.improvement.value or 0.0), "interval": other})
    slices = [one.model_copy(update={"candidate": one.champion, "champion": one.candidate}) for one in found.slices]
    return found.model_copy(
        update={"candidate": found.champion, "champion": found.candidate, "improvement": better, "slices": slices}
    )


def for_all(check: Callable[[random.Random], bool], draws: int = DRAWS) -> None:
    """Check so many draws; what is checked must have come up in some of them, and not in all."""
    seen = [check(random.Random(seed)) for seed in range(draws)]
    assert any(seen)
    assert not all(seen)


@pytest.mark.parametrize("metric", METRICS)
def test_a_better_candidate_is_never_judged_worse(metric: str) -> None:
    def check(draw: random.Random) -> bool:
        by = a_policy(draw, metric in LOWER_IS_BETTER)
        found = an_evaluation(draw, metric)
        before = judge(found, by, metric)
        after = judge(improved(found, metric, draw.choice([0.001, 0.02, 0.3])), by, metric)
        assert RANK[after.outcome] >= RANK[before.outcome], (before, after)
        return RANK[after.outcome] > RANK[before.outcome]

    for_all(check)


def test_what_is_better_the_lower_it_is_mirrors_what_is_better_the_higher() -> None:
    def check(draw: random.Random) -> bool:
        by = a_policy(draw, lower=False)
        found = an_evaluation(draw, "roc_auc")
        one = judge(found, by, "roc_auc")
        turned = by.model_copy(update={"minimum_quality": 1 - by.minimum_quality})
        other = judge(mirrored(found, "log_loss"), turned, "log_loss")
        assert one.outcome == other.outcome
        assert [guard.passed for guard in one.guards] == [guard.passed for guard in other.guards]
        assert one.improvement == pytest.approx(other.improvement)
        return one.outcome == "reject"

    for_all(check)


@pytest.mark.parametrize("metric", METRICS)
def test_no_two_models_are_each_an_improvement_on_the_other(metric: str) -> None:
    def check(draw: random.Random) -> bool:
        by = a_policy(draw, metric in LOWER_IS_BETTER)
        if by.comparison.kind != "improvement":
            return False
        found = an_evaluation(draw, metric)
        there = judge(found, by, metric)
        back = judge(swapped(found), by, metric)
        assert there.improvement == pytest.approx(-(back.improvement or 0.0))
        assert "reject" in (there.outcome, back.outcome)
        return there.outcome != back.outcome

    for_all(check)


@pytest.mark.parametrize("metric", METRICS)
def test_a_wider_interval_never_helps(metric: str) -> None:
    def check(draw: random.Random) -> bool:
        by = a_policy(draw, metric in LOWER_IS_BETTER)
        found = an_evaluation(draw, metric)
        assert found.improvement is not None
        assert found.improvement.interval is not None
        interval = found.improvement.interval
        wider = interval.model_copy(update={"low": interval.low - 0.03, "high": interval.high + 0.03})
        doubtful = found.model_copy(update={"improvement": found.improvement.model_copy(update={"interval": wider})})
        before, after = judge(found, by, metric), judge(doubtful, by, metric)
        assert RANK[after.outcome] <= RANK[before.outcome]
        return RANK[after.outcome] < RANK[before.outcome]

    for_all(check)


def test_reasons_against_are_the_guards_that_failed() -> None:
    def check(draw: random.Random) -> bool:
        decision = judge(an_evaluation(draw, "roc_auc"), a_policy(draw, lower=False), "roc_auc")
        failed = [guard.sentence for guard in decision.guards if not guard.passed]
        assert (decision.outcome == "reject") == bool(failed)
        assert not failed or decision.reasons == failed
        return bool(failed)

    for_all(check)


NUMBERS: list[tuple[str, Callable[[EvaluateResult, Any], EvaluateResult]]] = [
    (
        "metric",
        lambda found, value: found.model_copy(
            update={"candidate": found.candidate.model_copy(update={"metrics": {"roc_auc": value}})}
        ),
    ),
    (
        "champion",
        lambda found, value: found.model_copy(
            update={"champion": found.champion and found.champion.model_copy(update={"metrics": {"roc_auc": value}})}
        ),
    ),
    (
        "calibration",
        lambda found, value: found.model_copy(
            update={"candidate": found.candidate.model_copy(update={"calibration_error": value})}
        ),
    ),
    ("slice", lambda found, value: found.model_copy(update={"slices": [category(value, 0.7, name="bad")]})),
]


@pytest.mark.parametrize("value", [None, math.nan, math.inf, -math.inf])
@pytest.mark.parametrize(("name", "broken"), NUMBERS, ids=[name for name, _ in NUMBERS])
def test_one_number_that_is_none_spoils_a_winner(name: str, broken: Any, value: float | None) -> None:
    winner = evaluation(0.95, 0.5, slices=[category(0.95, 0.5)])
    by = Policy(minimum_quality=0.2)
    assert judge(winner, by, "roc_auc").outcome == "needs-approval"
    assert judge(broken(winner, value), by, "roc_auc").outcome == "reject"
