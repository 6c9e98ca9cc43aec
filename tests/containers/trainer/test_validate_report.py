"""The readable report of step validate: there on success and on failure, complete in itself, safe with any data."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from typing import Any

import pytest
from helpers import Run, depots, parcels, parquet

from mlplatform.storage import client, read_bytes, try_read_bytes

ATTACK = "<script>alert(1)</script><img src=x onerror=alert(2)>"
VOID = {"meta", "br", "img", "link", "input", "hr"}


@pytest.fixture
def run(run: Run) -> Run:
    run.model["checks"] = {"drift": None}
    return run


class Page(HTMLParser):
    """The elements of a page, and whether all are closed."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.text = ""
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open, tag
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.elements if name == tag]


def read(run: Run) -> tuple[str, Page]:
    text = read_bytes(f"{run.prefix}/validate/report.html").decode()
    page = Page(text)
    assert page.open == []
    return text, page


def check(text: str, page: Page) -> None:
    """What holds for every report: nothing from elsewhere, nothing that runs, and it can be read by all."""
    assert not re.search(r"(?:src|href|url\()\s*=?\s*[\"']?(?:https?:)?//", text)
    for element in ("script", "link", "iframe", "object", "img"):
        assert page.all(element) == [], element
    assert not [name for _, attributes in page.elements for name in attributes if name.startswith("on")]
    assert page.all("html")[0]["lang"] == "en"
    assert "width=device-width" in str([attributes.get("content") for attributes in page.all("meta")])
    assert len(page.all("h1")) == 1
    assert all(svg.get("role") == "img" and svg.get("aria-label") for svg in page.all("svg"))
    assert all(head.get("scope") for head in page.all("th"))
    for reference in page.all("a"):
        assert any(attributes.get("id") == (reference["href"] or "")[1:] for _, attributes in page.elements)


def test_a_run_that_passes_has_a_report_with_each_column(run: Run) -> None:
    run.land_good()
    result = run.done("validate")
    assert result.report_uri == f"{run.prefix}/validate/report.html"
    text, page = read(run)
    check(text, page)
    assert "Passed: all that is expected holds" in page.text
    for column in run.model["tables"]["parcels"]["columns"]:
        assert column in page.text
    assert len(page.all("svg")) == 7 + 2
    answer = client().head_object(Bucket="data", Key=f"runs/{run.name}/validate/report.html")
    assert answer["ContentType"].startswith("text/html")


def test_a_run_that_fails_has_a_report_with_its_problems(run: Run) -> None:
    run.land("depots", parquet({**depots(), "colour": ["red"] * 3}))
    uri = run.land("parcels", parquet({**parcels(), "weight": [-2.5] * 2 + [1.0] * 598}))
    run.refused("validate")
    text, page = read(run)
    check(text, page)
    assert "Refused: 1 problem must be corrected" in page.text
    assert "-2.5" in page.text
    assert uri in page.text
    assert page.text.index("Problems") < page.text.index("Warnings") < page.text.index("Table parcels")
    assert "colour" in page.text
    for document in ("validate.json", "profile.json"):
        assert try_read_bytes(f"{run.prefix}/validate/{document}") is not None


def test_files_that_cannot_be_opened_have_a_report_too(run: Run) -> None:
    run.land("parcels", b"nothing")
    run.refused("validate")
    text, page = read(run)
    check(text, page)
    assert "Refused: 2 problems" in page.text
    assert "table depots has no readable file" in page.text or "has no readable file" in page.text


def test_a_warning_is_told_first_too(run: Run) -> None:
    run.land("depots", parquet({**depots(), "colour": ["red"] * 3}))
    run.land("parcels", parquet(parcels()))
    run.done("validate")
    text, page = read(run)
    check(text, page)
    assert "Passed, with 1 warning" in page.text


@pytest.mark.parametrize("where", ["value", "pattern", "category", "column", "extra column", "class", "key"])
def test_what_comes_from_data_is_text_only(run: Run, where: str) -> None:
    columns: dict[str, Any] = parcels()
    table = run.model["tables"]["parcels"]
    if where == "value":
        columns["depot"] = [ATTACK] * 600
    elif where == "category":
        table["columns"]["depot"].pop("allowed")
        columns["depot"] = [ATTACK, "north"] * 300
    elif where == "pattern":
        table["columns"]["depot"].update(allowed=None, pattern=ATTACK)
    elif where == "column":
        table["columns"][ATTACK] = {"type": "string", "severity": "fail"}
        columns[ATTACK] = [None] * 600
    elif where == "extra column":
        columns[ATTACK] = [1] * 600
    elif where == "class":
        run.use_task("multiclass")
        run.model["query"] = run.model["query"].replace("'very late'", "'" + ATTACK + "'")
    elif where == "key":
        table["unique_key"] = ["depot"]
        table["columns"]["depot"].pop("allowed")
        columns["depot"] = [ATTACK] * 600
    if where == "column":
        columns[ATTACK] = [ATTACK] * 599 + [None]
    run.land("depots", parquet(depots()))
    run.land("parcels", parquet(columns))
    run.step("validate")
    text, page = read(run)
    check(text, page)
    assert "<script" not in text
    assert "&lt;script" in text or "alert" in page.text


def test_very_many_problems_are_told_as_a_number(run: Run) -> None:
    from datetime import UTC, datetime

    from trainer.reports import validation
    from trainer.validation.document import Balance, DriftReport, Finding, ValidationDocument

    now = datetime(2026, 1, 2, tzinfo=UTC)
    document = ValidationDocument(
        dataset="parcels",
        description="x",
        run_key="y",
        passed=False,
        started_at=now,
        finished_at=now,
        files=[],
        findings=[Finding(severity="fail", expectation="rows", message=f"problem {index}") for index in range(1203)],
        balance=Balance(note="a"),
        drift=DriftReport(note="b"),
        tables={},
    )
    text = validation.page(document, {})
    assert "Refused: 1,203 problems" in text
    assert "And 1,003 more" in text
    assert "problem 200<" not in text
