from __future__ import annotations

import math
from typing import Any

import pytest

from mlplatform.selection import select_best
from mlplatform.steps import Refused


def best(
    results: list[Any], metric: str = "roc_auc", share: float = 0.5, reasons: list[str | None] | None = None
) -> int:
    return select_best(results, reasons or [None] * len(results), metric, share).trial


def test_the_highest_score_wins(make_trained: Any) -> None:
    assert best([make_trained(0, roc_auc=0.7), make_trained(1, roc_auc=0.8), make_trained(2, roc_auc=0.75)]) == 1


def test_the_lowest_loss_wins(make_trained: Any) -> None:
    results = [make_trained(0, log_loss=0.7), make_trained(1, log_loss=0.8), make_trained(2, log_loss=0.65)]
    assert best(results, "log_loss") == 2


def test_the_earliest_of_equals_wins(make_trained: Any) -> None:
    assert best([make_trained(0, roc_auc=0.7), make_trained(1, roc_auc=0.8), make_trained(2, roc_auc=0.8)]) == 1


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf, None])
@pytest.mark.parametrize("metric", ["roc_auc", "log_loss"])
def test_a_metric_that_is_no_number_never_wins(make_trained: Any, bad: float | None, metric: str) -> None:
    assert best([make_trained(0, **{metric: bad}), make_trained(1, **{metric: 0.5})], metric) == 1


def test_a_zero_is_a_number(make_trained: Any) -> None:
    assert best([make_trained(0, log_loss=0.0), make_trained(1, log_loss=0.5)], "log_loss") == 0


def test_failed_trials_are_done_without_while_enough_succeeded(make_trained: Any) -> None:
    results = [None, make_trained(1, roc_auc=0.6), None, make_trained(3, roc_auc=0.7)]
    assert best(results) == 3
    with pytest.raises(Refused, match="2 of 4 trials succeeded, 60% are needed"):
        best(results, share=0.6)


def test_when_all_fail_each_reason_is_told(make_trained: Any) -> None:
    reasons = ["train: depth: 99 is not allowed", None]
    with pytest.raises(Refused) as refused:
        best([None, None], reasons=reasons)
    assert "0 of 2 trials succeeded" in str(refused.value)
    assert "nothing is registered or deployed" in str(refused.value)
    assert "trial 0: train: depth: 99 is not allowed; trial 1: no result" in str(refused.value)


def test_many_failures_are_counted_not_listed() -> None:
    with pytest.raises(Refused, match=r"and 495 more$"):
        best([None] * 500)


def test_only_nan_is_a_failure(make_trained: Any) -> None:
    with pytest.raises(Refused, match="trial 0: roc_auc is nan"):
        best([make_trained(0, roc_auc=math.nan)])
