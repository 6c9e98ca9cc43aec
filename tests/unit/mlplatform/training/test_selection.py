from __future__ import annotations

import math
from datetime import UTC, datetime
from typing import Any

import pytest

from mlplatform.documents.results import TrainResult, TrialResult
from mlplatform.documents.run import Trial
from mlplatform.errors import NonRetryableError
from mlplatform.training.selection import count, gpu_hours, outcomes, select_best, summary

NOW = datetime(2026, 1, 1, tzinfo=UTC)


def ended(trial: int, status: Any, reason: str | None = "why", **changes: Any) -> TrialResult:
    return TrialResult(trial=trial, status=status, reason=reason, family="xgboost", params={}, **changes)


def best(trials: list[Any], metric: str = "roc_auc", share: float = 0.5) -> int:
    return select_best(trials, metric, share).trial


def test_the_highest_score_wins(make_trained: Any) -> None:
    assert best([make_trained(0, roc_auc=0.7), make_trained(1, roc_auc=0.8), make_trained(2, roc_auc=0.75)]) == 1


@pytest.mark.parametrize("metric", ["log_loss", "rmse", "mae"])
def test_the_lowest_loss_wins(make_trained: Any, metric: str) -> None:
    results = [make_trained(0, **{metric: 0.7}), make_trained(1, **{metric: 0.8}), make_trained(2, **{metric: 0.65})]
    assert best(results, metric) == 2


def test_r2_may_be_negative_and_the_higher_wins(make_trained: Any) -> None:
    assert best([make_trained(0, r2=-0.7), make_trained(1, r2=-0.2)], "r2") == 1


def test_the_earliest_of_equals_wins(make_trained: Any) -> None:
    assert best([make_trained(0, roc_auc=0.7), make_trained(1, roc_auc=0.8), make_trained(2, roc_auc=0.8)]) == 1


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf, None])
@pytest.mark.parametrize("metric", ["roc_auc", "log_loss"])
def test_a_metric_that_is_no_number_never_wins(make_trained: Any, bad: float | None, metric: str) -> None:
    trials = [make_trained(0, **{metric: bad}), make_trained(1, **{metric: 0.5})]
    assert best(trials, metric) == 1
    assert count(trials, metric) == {"failed": 1, "succeeded": 1}


def test_a_zero_is_a_number(make_trained: Any) -> None:
    assert best([make_trained(0, log_loss=0.0), make_trained(1, log_loss=0.5)], "log_loss") == 0


@pytest.mark.parametrize("status", ["pruned", "skipped", "failed"])
def test_only_a_trial_that_came_to_its_end_wins(make_trained: Any, status: Any) -> None:
    """A pruned one has a metric too: of a model that was never finished."""
    assert best([ended(0, status, metrics={"roc_auc": 0.99}), make_trained(1, roc_auc=0.6)]) == 1


@pytest.mark.parametrize("lost", ["run_id", "model_uri", "model_digest"])
def test_a_trial_without_a_model_never_wins(make_trained: Any, lost: str) -> None:
    broken = make_trained(0, roc_auc=0.9).model_copy(update={lost: None})
    assert best([broken, make_trained(1, roc_auc=0.6)]) == 1
    with pytest.raises(NonRetryableError, match="trial 0: it has no model"):
        best([broken])


def test_failed_trials_are_done_without_while_enough_succeeded(make_trained: Any) -> None:
    trials = [ended(0, "failed"), make_trained(1, roc_auc=0.6), ended(2, "failed"), make_trained(3, roc_auc=0.7)]
    assert best(trials) == 3
    with pytest.raises(NonRetryableError, match="2 of 4 trials succeeded, 60% are needed"):
        best(trials, share=0.6)


def test_a_pruned_trial_has_done_its_job(make_trained: Any) -> None:
    trials = [make_trained(0, roc_auc=0.7), *(ended(index, "pruned") for index in range(1, 8))]
    assert best(trials, share=1.0) == 0


def test_a_skipped_trial_counts_neither_way(make_trained: Any) -> None:
    skipped = [ended(index, "skipped") for index in range(2, 20)]
    assert best([make_trained(0, roc_auc=0.7), make_trained(1, roc_auc=0.6), *skipped], share=1.0) == 0
    with pytest.raises(NonRetryableError, match="1 of 20 trials succeeded, 18 skipped, 60% are needed"):
        best([make_trained(0, roc_auc=0.7), ended(1, "failed"), *skipped], share=0.6)


@pytest.mark.parametrize("status", ["pruned", "skipped"])
def test_without_a_single_success_there_is_no_candidate(status: Any) -> None:
    with pytest.raises(NonRetryableError, match=f"0 of 2 trials succeeded, 2 {status}, 50% are needed .* trial 0: why"):
        best([ended(0, status), ended(1, status)])


def test_when_all_fail_each_reason_is_told() -> None:
    with pytest.raises(NonRetryableError) as refused:
        best([ended(0, "failed", "depth: 99 is not allowed"), ended(1, "failed", "the loss is nan since epoch 3")])
    assert "0 of 2 trials succeeded" in str(refused.value)
    assert "nothing is registered or deployed" in str(refused.value)
    assert "trial 0: depth: 99 is not allowed; trial 1: the loss is nan since epoch 3" in str(refused.value)


def test_many_failures_are_counted_not_listed() -> None:
    with pytest.raises(NonRetryableError, match=r"and 495 more$"):
        best([ended(index, "failed") for index in range(500)])


def test_only_nan_is_a_failure(make_trained: Any) -> None:
    with pytest.raises(NonRetryableError, match="trial 0: roc_auc is nan"):
        best([make_trained(0, roc_auc=math.nan)])


PLANNED = [Trial(index=4, params={"depth": 2}), Trial(index=5, params={"depth": 3})]


@pytest.mark.parametrize(
    ("reason", "told"), [(None, "no result; see the log of its task"), ("train: out of memory", "train: out of memory")]
)
def test_a_pod_without_a_result_fails_all_its_trials(reason: str | None, told: str) -> None:
    found = outcomes("xgboost", PLANNED, None, reason)
    assert [(trial.trial, trial.status, trial.reason, trial.params) for trial in found] == [
        (4, "failed", told, {"depth": 2}),
        (5, "failed", told, {"depth": 3}),
    ]


def test_a_trial_its_pod_did_not_report_on_has_failed(make_trained: Any) -> None:
    result = TrainResult(run_key="k", started_at=NOW, finished_at=NOW, trials=[make_trained(5, roc_auc=0.7)])
    first, second = outcomes("xgboost", PLANNED, result, None)
    assert (first.trial, first.status, first.reason) == (4, "failed", "its pod reported nothing about it")
    assert second == result.trials[0]


def test_what_became_of_the_trials_in_a_line(make_trained: Any) -> None:
    trials = [
        make_trained(0, roc_auc=0.7),
        make_trained(1, roc_auc=math.nan),
        ended(2, "pruned", gpu_seconds=1800.0),
        ended(3, "skipped", "the 0.5 GPU-hours of the run are used up"),
    ]
    assert gpu_hours(trials) == pytest.approx(0.7)
    assert summary(trials, "roc_auc") == (
        "4 trials: 1 succeeded, 1 pruned, 1 failed, 1 skipped; 0.70 GPU-hours; "
        "skipped: trial 3: the 0.5 GPU-hours of the run are used up"
    )
    assert summary([make_trained(0, roc_auc=0.7).model_copy(update={"gpu_seconds": 0.0})], "roc_auc") == (
        "1 trial: 1 succeeded"
    )
