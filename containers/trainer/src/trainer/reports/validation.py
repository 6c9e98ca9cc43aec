"""The validation report, from what ``validate.json`` and ``profile.json`` say."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from mlplatform.documents.profiles import CategoryProfile, ColumnProfile, DataProfile, NumberProfile
from mlplatform.monitoring.drift import bins_of
from trainer import reports
from trainer.validation.document import ColumnDrift, ColumnFacts, Finding, TableFacts, ValidationDocument

SHOWN = 200
"""Findings of a severity on the page; validate.json has all."""
FREQUENT = 3
"""Values named of a text column."""
WIDTH, HEIGHT = 120.0, 32.0
"""Of a sparkline's view box."""


@dataclass(frozen=True)
class Bar:
    """A rectangle of a sparkline, in units of its view box."""

    x: float
    y: float
    width: float
    height: float
    title: str


@dataclass(frozen=True)
class Sparkline:
    """A small histogram; the champion's is an outline over the bars.

    Attributes:
        outline: points of the champion's outline, empty where there is none.
        text: what it shows, in words.
    """

    bars: list[Bar]
    outline: str
    text: str


@dataclass(frozen=True)
class ColumnRow:
    """A column of a table on the page."""

    name: str
    type: str
    missing: float
    distinct: int
    summary: list[tuple[str, str]]
    sparkline: Sparkline | None
    drift: ColumnDrift | None
    problems: int
    warnings: int


@dataclass(frozen=True)
class TableSection:
    """A table on the page."""

    name: str
    rows: int
    note: str | None
    compared: bool
    columns: list[ColumnRow]


def page(document: ValidationDocument, profiles: dict[str, DataProfile]) -> str:
    """Return the report as one HTML file."""
    return reports.render(
        "validation.html.j2",
        document=document,
        problems=document.of("fail"),
        warnings=document.of("warn"),
        shown=SHOWN,
        rows=sum(file.rows for file in document.files),
        tables=[_section(name, facts, profiles[name], document) for name, facts in document.tables.items()],
        width=WIDTH,
        height=HEIGHT,
    )


def _section(name: str, facts: TableFacts, profile: DataProfile, document: ValidationDocument) -> TableSection:
    drift = document.drift.tables.get(name)
    measured = drift.columns if drift else {}
    mine = [finding for finding in document.findings if finding.table == name]
    columns = [
        _row(column, facts.columns[column], profile.columns[column], profile.rows, measured.get(column), mine)
        for column in facts.columns
    ]
    return TableSection(name, facts.rows, drift.note if drift else None, bool(measured), columns)


def _row(
    name: str,
    facts: ColumnFacts,
    profile: ColumnProfile,
    rows: int,
    drift: ColumnDrift | None,
    findings: Sequence[Finding],
) -> ColumnRow:
    mine = [finding for finding in findings if finding.column is not None and name in finding.column.split(", ")]
    return ColumnRow(
        name=name,
        type=facts.type,
        missing=profile.missing / rows if rows else 0.0,
        distinct=facts.distinct,
        summary=_summary(facts, profile, rows),
        sparkline=_sparkline(name, profile, rows, drift),
        drift=drift,
        problems=sum(finding.severity == "fail" for finding in mine),
        warnings=sum(finding.severity == "warn" for finding in mine),
    )


def _summary(facts: ColumnFacts, profile: ColumnProfile, rows: int) -> list[tuple[str, str]]:
    """Return what to tell of the values, as names and values."""
    if rows == profile.missing:
        return []
    if isinstance(profile, CategoryProfile):
        ranked = sorted(profile.counts.items(), key=lambda item: (-item[1], item[0]))[:FREQUENT]
        return [(reports.label(value, 24), reports.percent(count / rows)) for value, count in ranked]
    if facts.type == "timestamp":
        return [("from", facts.minimum or reports.NOTHING), ("to", facts.maximum or reports.NOTHING)]
    return [
        ("least", reports.decimal(profile.minimum)),
        ("mean", reports.decimal(profile.mean)),
        ("most", reports.decimal(profile.maximum)),
        ("deviation", reports.decimal(profile.deviation)),
    ]


def _sparkline(name: str, profile: ColumnProfile, rows: int, drift: ColumnDrift | None) -> Sparkline | None:
    """Draw the new files' rows over the champion's where they were compared, else all rows."""
    reference: Sequence[int] = []
    if drift is not None and drift.bins:
        names, counts, reference = drift.bins, drift.current, drift.reference
    elif rows == profile.missing:
        return None
    else:
        bins = bins_of(profile, rows)
        names, counts = bins.names, bins.reference
        if isinstance(profile, NumberProfile) and not profile.missing:
            names, counts = names[:-1], counts[:-1]
    shares, before = _shares(counts), _shares(reference)
    top = max(*shares, *before, 1e-9)
    step = WIDTH / len(names)
    bars = [
        Bar(
            x=round(index * step + 0.4, 2),
            y=round(HEIGHT * (1 - share / top), 2),
            width=round(step - 0.8, 2),
            height=round(HEIGHT * share / top, 2),
            title=f"{reports.label(bin_name)}: {share:.1%}" + (f", champion {before[index]:.1%}" if before else ""),
        )
        for index, (bin_name, share) in enumerate(zip(names, shares, strict=True))
    ]
    points = []
    for index, share in enumerate(before):
        y = round(HEIGHT * (1 - share / top), 2)
        points += [f"{round(index * step, 2)},{y}", f"{round((index + 1) * step, 2)},{y}"]
    most = max(range(len(shares)), key=lambda i: shares[i])
    text = f"Distribution of {reports.label(name)}: most rows, {shares[most]:.0%}, are {reports.label(names[most])}"
    if before:
        then = max(range(len(before)), key=lambda i: before[i])
        text += f"; of the champion's data {before[then]:.0%} were {reports.label(names[then])}"
    return Sparkline(bars, " ".join(points), text)


def _shares(counts: Sequence[int]) -> list[float]:
    total = sum(counts)
    return [count / total if total else 0.0 for count in counts]
