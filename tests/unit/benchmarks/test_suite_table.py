"""The table of the suite: rows that stay, change and go."""

from __future__ import annotations

from benchmarks.suite_table import Row, read, update

PARTS = ["lint", "test-e2e", "test-unit"]
FIRST = [Row("lint", 0, 0, 0.1, 0.2, "2026-11-01"), Row("test-unit", 1234, 1, 1.6, 1.7, "2026-11-01")]
TABLE = """\
| part | passed | skipped | wall min | CPU min | measured |
|---|---:|---:|---:|---:|---|
| lint |  |  | 0.1 | 0.2 | 2026-11-01 |
| test-unit | 1,234 | 1 | 1.6 | 1.7 | 2026-11-01 |
| **sum** | **1,234** | **1** | **1.7** | **1.9** | |

- 2026-11-01: 2 cores, all in 3 minutes"""


def test_a_first_table() -> None:
    table = update("", FIRST, "2 cores, all in 3 minutes", PARTS)

    assert table == TABLE
    assert read(table) == FIRST


def test_other_rows_stay_and_say_where_they_come_from() -> None:
    table = update(TABLE, [Row("test-e2e", 10, 0, 8.0, 4.0, "2026-11-02")], "4 cores", PARTS)

    assert [row.part for row in read(table)] == PARTS
    assert table.splitlines()[5:] == [
        "| **sum** | **1,244** | **1** | **9.7** | **5.9** | |",
        "",
        "- 2026-11-01: 2 cores, all in 3 minutes",
        "- 2026-11-02: 4 cores",
    ]


def test_a_day_whose_rows_are_gone_is_not_told_of() -> None:
    later = [Row(row.part, row.passed, row.skipped, 1, 1, "2026-11-02") for row in FIRST]

    assert "2026-11-01" not in update(TABLE, later, "2 cores", PARTS)


def test_a_row_measured_again_on_the_same_day_leaves_the_whole_run_told() -> None:
    assert update(TABLE, FIRST[1:], "2 cores", PARTS) == TABLE
    assert update(TABLE, FIRST[1:], "4 cores", PARTS).endswith("\n- 2026-11-01: 4 cores")


def test_a_part_that_is_gone_loses_its_row() -> None:
    assert [row.part for row in read(update(TABLE, [], "2 cores", ["test-unit"]))] == ["test-unit"]
