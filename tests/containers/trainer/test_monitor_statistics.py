"""How often the monitoring errs, counted: alarms where nothing moved, and silence where something did."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from references import judged, predicted, reference, simulated

from mlplatform.config.environment import Monitoring
from mlplatform.documents.monitoring import MonitoringVerdict
from trainer.monitoring.tally import Tally

RESAMPLES = 50
LIMITS = Monitoring()
TASKS = ("binary", "multiclass", "regression")


def windows(
    train: int,
    test: int,
    live: int,
    task: str = "binary",
    shift: float = 0.0,
    limits: Monitoring = LIMITS,
    **change: Any,
) -> list[MonitoringVerdict]:
    """Train on rows, answer others, and judge: as often as there are resamples, each with its own rows."""
    verdicts = []
    for seed in range(RESAMPLES):
        draw = np.random.default_rng(seed)
        tally = Tally(reference(simulated(draw, train), predicted(draw, test, task), task))
        tally.add("primary", simulated(draw, live, **change), predicted(draw, live, task, shift))
        verdicts.append(judged(tally, limits))
    return verdicts


def alarms(verdicts: list[MonitoringVerdict]) -> int:
    return sum(verdict.outcome == "drifted" for verdict in verdicts)


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize(
    ("train", "test", "live"), [(75, 15, 200), (400, 80, 200), (400, 80, 3000), (5000, 1000, 1000)]
)
def test_the_same_distribution_seldom_raises_an_alarm(task: str, train: int, test: int, live: int) -> None:
    """At a level of 0.99 one of a hundred may: more than three of fifty come once in six hundred times."""
    assert alarms(windows(train, test, live, task)) <= 3


@pytest.mark.parametrize(("train", "test", "live"), [(75, 15, 200), (400, 80, 200), (5000, 1000, 5000)])
def test_chance_is_told_from_drift_however_small_the_limit(train: int, test: int, live: int) -> None:
    """With a limit of nearly 0 the bound for chance decides alone."""
    limits = Monitoring(maximum_feature_psi=1e-6, maximum_prediction_psi=1e-6)
    assert alarms(windows(train, test, live, limits=limits)) <= 4


def test_without_the_bound_for_chance_few_rows_would_raise_one_often() -> None:
    """What the bound is for: the usual limit alone, on as few rows."""
    above = 0
    for seed in range(RESAMPLES):
        draw = np.random.default_rng(seed)
        tally = Tally(reference(simulated(draw, 75), predicted(draw, 15, "binary")))
        tally.add("primary", simulated(draw, 200), predicted(draw, 200, "binary"))
        above += max(one.psi for one in tally.features().values()) > LIMITS.maximum_feature_psi
    assert above > RESAMPLES / 5


@pytest.mark.parametrize(
    ("feature", "change"),
    [
        ("weight", {"heavier": 2.2}),
        ("weight", {"gaps": 0.6}),
        ("express", {"express": 0.4}),
        ("depot", {"depot": "place 2"}),
        ("depot", {"depot": "nowhere before"}),
    ],
)
def test_what_really_moved_is_found_and_nothing_else(feature: str, change: dict[str, Any]) -> None:
    verdicts = windows(600, 120, 300, **change)
    named = [
        [reason for reason in verdict.reasons if f"feature {feature} has drifted" in reason] for verdict in verdicts
    ]
    assert sum(map(len, named)) == RESAMPLES
    others = [reason for verdict in verdicts for reason in verdict.reasons if "drifted" in reason]
    assert len(others) - RESAMPLES <= 2


@pytest.mark.parametrize(("task", "shift"), [("binary", 1.5), ("multiclass", 3.0), ("regression", 1.5)])
def test_predictions_that_really_moved_are_found(task: str, shift: float) -> None:
    verdicts = windows(600, 120, 300, task, shift)
    assert sum("the prediction has drifted" in " ".join(verdict.reasons) for verdict in verdicts) >= RESAMPLES - 1


def test_too_few_rows_are_never_judged() -> None:
    assert {verdict.outcome for verdict in windows(600, 120, LIMITS.minimum_rows - 1, heavier=9)} == {"too-few"}


def test_many_requests_count_as_one_of_all_their_rows() -> None:
    draw = np.random.default_rng(1)
    known = reference(simulated(draw, 500), predicted(draw, 100, "regression"), "regression")
    rows, answers = simulated(draw, 300), predicted(draw, 300, "regression")
    whole, parts = Tally(known), Tally(known)
    whole.add("primary", rows, answers)
    for index in range(300):
        one = {name: values[index : index + 1] for name, values in rows.items()}
        parts.add("challenger" if index % 3 else "primary", one, answers[index : index + 1])
    assert (whole.features(), whole.prediction()) == (parts.features(), parts.prediction())
    assert whole.mean == pytest.approx(answers.mean())
    assert parts.mean == pytest.approx(answers.mean())
    assert parts.variants == {"primary": 100, "challenger": 200}
