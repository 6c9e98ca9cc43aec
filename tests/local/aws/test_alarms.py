"""How the state of an alarm follows from the last periods."""

from __future__ import annotations

from dataclasses import replace

import pytest

from local.aws.sagemaker.alarms import Alarm, State, evaluate, known

ALARM = Alarm(
    name="a",
    metric="Invocation5XXErrors",
    dimensions={},
    statistic="Average",
    period=60,
    evaluation_periods=3,
    datapoints_to_alarm=2,
    comparison="GreaterThanThreshold",
    threshold=0.01,
    missing_data="notBreaching",
    ignore_low_samples=False,
)
LATENCY = replace(ALARM, statistic="p99", threshold=500_000.0, ignore_low_samples=True)
BAD, GOOD, NONE = [0.0] * 9 + [1.0], [0.0] * 10, list[float]()


@pytest.mark.parametrize(
    ("periods", "state"),
    [
        ([GOOD, GOOD, GOOD], "OK"),
        ([BAD, GOOD, GOOD], "OK"),  # one bad minute is not enough
        ([BAD, GOOD, BAD], "ALARM"),
        ([NONE, BAD, BAD], "ALARM"),
        ([NONE, NONE, BAD], "OK"),
        ([NONE, NONE, NONE], "OK"),
    ],
)
def test_two_of_three_periods(periods: list[list[float]], state: State) -> None:
    assert evaluate(ALARM, periods, "OK")[0] == state


@pytest.mark.parametrize(
    ("missing_data", "before", "after"),
    [
        ("notBreaching", "ALARM", "OK"),
        ("breaching", "OK", "ALARM"),
        ("ignore", "ALARM", "ALARM"),
        ("ignore", "OK", "OK"),
        ("missing", "OK", "INSUFFICIENT_DATA"),
    ],
)
def test_what_no_data_means(missing_data: str, before: State, after: State) -> None:
    assert evaluate(replace(ALARM, missing_data=missing_data), [NONE, NONE, NONE], before)[0] == after


@pytest.mark.parametrize(
    ("statistic", "comparison", "threshold", "state"),
    [
        ("Sum", "GreaterThanThreshold", 1.0, "OK"),
        ("Sum", "GreaterThanOrEqualToThreshold", 1.0, "ALARM"),
        ("Maximum", "GreaterThanThreshold", 0.5, "ALARM"),
        ("Minimum", "LessThanOrEqualToThreshold", 0.0, "ALARM"),
        ("SampleCount", "LessThanThreshold", 11.0, "ALARM"),
        ("p50", "GreaterThanThreshold", 0.5, "OK"),
        ("p100", "GreaterThanThreshold", 0.5, "ALARM"),
    ],
)
def test_statistics_and_comparisons(statistic: str, comparison: str, threshold: float, state: State) -> None:
    alarm = replace(ALARM, statistic=statistic, comparison=comparison, threshold=threshold)
    assert known(alarm)
    assert evaluate(alarm, [BAD, BAD, BAD], "OK")[0] == state


def test_a_percentile_of_few_requests_changes_nothing() -> None:
    slow = [1_000_000.0] * 20
    assert evaluate(LATENCY, [slow, slow, slow], "OK")[0] == "OK"
    assert evaluate(LATENCY, [slow, slow, slow], "ALARM")[0] == "ALARM"
    assert evaluate(LATENCY, [slow * 50, slow * 50, slow], "OK")[0] == "ALARM"  # 1000 are enough
    # With time 60 times as fast, 17 requests in a period stand for 1000.
    assert evaluate(LATENCY, [slow, slow, slow], "OK", scale=60)[0] == "ALARM"
    assert evaluate(replace(LATENCY, ignore_low_samples=False), [slow, slow, slow], "OK")[0] == "ALARM"


def test_one_slow_request_in_a_hundred_is_not_the_99th_percentile() -> None:
    alarm = replace(LATENCY, ignore_low_samples=False)
    assert evaluate(alarm, [[1.0] * 99 + [1e6]] * 3, "OK")[0] == "OK"
    assert evaluate(alarm, [[1.0] * 98 + [1e6] * 2] * 3, "OK")[0] == "ALARM"


def test_an_unknown_kind_of_alarm_is_not_evaluated() -> None:
    assert not known(replace(ALARM, statistic="tm90"))
    assert not known(replace(ALARM, comparison="GreaterThanUpperThreshold"))
