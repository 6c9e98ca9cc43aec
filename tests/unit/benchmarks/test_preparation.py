"""The table of the preparation benchmark."""

from __future__ import annotations

from benchmarks.preparation import Measured, render


def a_run(contender: str, wall: float, rows: int = 1000) -> Measured:
    return Measured(contender, rows, wall, cpu=2 * wall, peak=100.0)


def test_each_is_compared_with_the_fastest_by_hand() -> None:
    runs = [a_run("ours", wall) for wall in (5.0, 6.0, 90.0)] + [a_run("duckdb", 4.0), a_run("polars", 5.0)]
    table = render(runs, absent=["pandas"])
    assert "| ours | 1,000 | 6.0 | 1.50 | 12.0 | 100 | 3 |" in table
    assert table.index("| duckdb | 1,000 | 4.0 | 1.00 |") < table.index("| polars | 1,000 | 5.0 | 1.25 |")
    assert "| pandas | - | not installed |" in table


def test_alone_there_is_nothing_to_compare_with() -> None:
    assert "| ours | 4,000 | 6.0 |  | 12.0 |" in render(
        [a_run("ours", 6.0, rows=4000), a_run("duckdb", 4.0)], absent=[]
    )
