"""What every page for people shares: templates, drawings, and how values are written."""

from __future__ import annotations

from datetime import UTC, datetime

import jinja2
import numpy as np
import pytest

from trainer import reports
from trainer.reports import plots

NOW = datetime(2026, 5, 4, 12, 30, tzinfo=UTC)


def test_a_name_that_a_template_misses_is_an_error() -> None:
    with pytest.raises(jinja2.UndefinedError, match="undefined"):
        reports.render("evaluation.html.j2", name="x")
    with pytest.raises(jinja2.TemplateNotFound):
        reports.render("nothing.html.j2")


def test_a_drawing_follows_the_page_and_keeps_texts() -> None:
    x = np.linspace(0, 1, 5)
    series = [plots.Series("A & <B>", x, x), plots.Series("C", x, x**2, "champion")]
    plot = plots.roc("Title", "What is to be seen.", series)
    assert plot == plots.roc("Title", "What is to be seen.", series)
    assert plot.svg.startswith('<svg viewBox="0 0 360 ')
    assert 'aria-label="Title. What is to be seen."' in plot.svg
    assert "A &amp; &lt;B&gt;" in plot.svg
    for role in ("candidate", "champion"):
        assert f"var(--{role}," in plot.svg
    assert "<metadata" not in plot.svg
    assert "<!--" not in plot.svg
    assert "var(--candidate" in reports.render("base.html.j2") or "--candidate:" in reports.render("base.html.j2")


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (0.123456, "0.1235"),
        (-0.5, "−0.5000"),
        (12.3456, "12.346"),
        (-1234.5678, "−1,234.6"),
        (1e9, "1,000,000,000"),
        (0.0, "0.0000"),
        (None, "–"),
        (float("nan"), "–"),
    ],
)
def test_numbers_are_written_for_people(value: float | None, shown: str) -> None:
    assert reports.decimal(value) == shown


def test_other_values_are_written_for_people() -> None:
    assert (reports.signed(0.1), reports.signed(-0.1), reports.signed(0.0), reports.signed(None)) == (
        "+0.1000",
        "−0.1000",
        "0.0000",
        "–",
    )
    assert (reports.size(512), reports.size(2048), reports.size(3 << 30)) == ("512 bytes", "2.0 KiB", "3.0 GiB")
    assert (reports.percent(0.1234), reports.percent(None)) == ("12.3 %", "–")
    assert reports.moment(NOW) == "2026-05-04 12:30 UTC"
    assert reports.moment(None) == "–"
    assert reports.label("a\n b\x00") == "a b"
    assert reports.label("") == "(empty)"
    shortened = reports.label("abcdefghij" * 10, 20)
    assert len(shortened) == 20
    assert "…" in shortened
