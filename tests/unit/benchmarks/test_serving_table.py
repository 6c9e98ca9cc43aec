"""Percentiles, tables and ratios of the serving benchmark."""

from __future__ import annotations

import pytest

from benchmarks.serving_load import content_length
from benchmarks.serving_table import BY_HAND, FLOOR, Case, Process, Round, median, percentile, ratios, render

ONE = Case(1, "JSON", 8)


def of(*rates: float, p99: float = 2.0, busy: float = 0.5) -> list[Round]:
    return [Round(rate, 1.0, p99, busy) for rate in rates]


@pytest.mark.parametrize(
    ("values", "percent", "expected"),
    [
        ([5.0], 50, 5.0),
        ([5.0], 99, 5.0),
        ([4.0, 1.0, 3.0, 2.0], 50, 2.0),
        (list(range(1, 101)), 99, 99),
        (list(range(1, 102)), 99, 100),
        ([1.0, 2.0], 100, 2.0),
    ],
)
def test_a_percentile_is_one_of_the_values(values: list[float], percent: float, expected: float) -> None:
    assert percentile(values, percent) == expected


@pytest.mark.parametrize(("values", "percent"), [([], 50), ([1.0], 0), ([1.0], 101)])
def test_a_percentile_of_nothing_is_a_mistake(values: list[float], percent: float) -> None:
    with pytest.raises(ValueError, match="percentile"):
        percentile(values, percent)


def test_one_disturbed_round_moves_no_median_but_one_busy_generator_is_told() -> None:
    rounds = [Round(100, 1, 2, 0.2), Round(10, 90, 99, 0.95), Round(102, 1, 2, 0.2)]
    assert median(rounds) == Round(100, 1, 2, 0.95)


def test_the_table_puts_the_fastest_first_and_says_where_the_generator_was_the_limit() -> None:
    rounds = {(ONE, "slow"): of(10), (ONE, "ours"): of(2000, busy=0.95)}
    table = render(rounds, {"ours": Process(0.5, 60.4)})
    assert "| 1 | JSON | 8 | ours | ≥ 2,000 | 1.00 | 2.00 |\n| 1 | JSON | 8 | slow | 10 |" in table
    assert "the load generator was at more than 90% of a core" in table
    assert table.endswith("| ours | 60 | 0.5 |")


def test_a_generator_with_time_left_is_not_mentioned() -> None:
    assert "≥" not in render({(ONE, "ours"): of(10)}, {})


def test_ratios_are_against_the_aims_and_round_by_round() -> None:
    # The second round was disturbed for both.
    lines = ratios({(ONE, "ours"): of(600, 60, 600), (ONE, "MLflow"): of(10, 1, 10)})
    assert lines == ["- 1 row, 8 clients: 60.00 x MLflow (aim 60 x: met)"]
    assert "missed" in ratios({(ONE, "ours"): of(590), (ONE, "MLflow"): of(10)})[0]


def test_mlflow_is_told_of_as_it_comes_and_made_faster_by_hand() -> None:
    lines = ratios({(ONE, "ours"): of(700), (ONE, "MLflow"): of(10), (ONE, BY_HAND): of(20)})
    assert lines == [
        "- 1 row, 8 clients: 70.00 x MLflow (aim 60 x: met)",
        "- 1 row, 8 clients: 35.00 x MLflow, by hand (aim 60 x: missed)",
    ]


def test_a_higher_p99_misses_the_aim_whatever_the_rate() -> None:
    met = ratios({(ONE, "ours"): of(100, p99=1), (ONE, "BentoML"): of(5, p99=2)})
    assert met == ["- 1 row, 8 clients: 20.00 x BentoML, p99 1.00 ms against 2.00 ms (aim 10 x and a lower p99: met)"]
    assert "missed" in ratios({(ONE, "ours"): of(100, p99=2), (ONE, "BentoML"): of(5, p99=2)})[0]


def test_the_floor_is_the_faster_engine() -> None:
    onnx, xgboost = FLOOR
    lines = ratios({(ONE, "ours"): of(80), (ONE, onnx): of(100), (ONE, xgboost): of(90)})
    assert lines == [f"- 1 row, 8 clients: 0.80 x {onnx} (aim 0.7 x: met)"]


def test_what_was_not_measured_has_no_ratio() -> None:
    assert ratios({}) == []
    assert ratios({(ONE, "MLflow"): of(1)}) == []
    assert ratios({(Case(1, "CSV", 8), "ours"): of(1), (Case(1, "CSV", 8), "MLflow"): of(1)}) == []


def test_the_length_of_an_answer() -> None:
    assert content_length(b"HTTP/1.1 200 OK\r\nContent-Length: 12\r\nServer: x") == 12
    assert content_length(b"HTTP/1.1 200 OK\r\nserver: x\r\ncontent-length:7") == 7
    assert content_length(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked") is None
