"""From a benchmark's output to its section of the page."""

from __future__ import annotations

import pytest

from benchmarks import report

OUTPUT = "xgboost: 1.02\n\n200,000 rows\n\n| family | ratio |\n|---|---:|\n| xgboost | 1.02 |\n# note\n\nmedian of 5\n"
PAGE = "# Page\n\n<!-- BEGIN cpu_training -->\nold\n<!-- END cpu_training -->\n\nrest\n"


def test_progress_is_left_out_and_what_follows_the_table_stays() -> None:
    assert report.table_of(OUTPUT) == "| family | ratio |\n|---|---:|\n| xgboost | 1.02 |\n\nmedian of 5"


def test_an_output_without_a_table_is_a_mistake() -> None:
    with pytest.raises(ValueError, match="no table in the output"):
        report.table_of("it went wrong\n")


def test_only_the_named_section_is_replaced() -> None:
    page = report.insert(PAGE, "cpu_training", "new \\1")
    assert page == PAGE.replace("old", "new \\1")
    assert report.insert(page, "cpu_training", "old") == PAGE


def test_a_section_that_is_not_there_is_named() -> None:
    with pytest.raises(ValueError, match="no section 'gpu'"):
        report.insert(PAGE, "gpu", "new")


def test_every_benchmark_has_a_section_in_its_page() -> None:
    for name, benchmark in report.BENCHMARKS.items():
        page = benchmark.page.read_text(encoding="utf-8")
        assert report.insert(page, name, "x") != page
