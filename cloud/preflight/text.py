"""A report as people read it. Rendering only."""

from __future__ import annotations

from rich.text import Text

from cloud.preflight.report import Line, Report

_COLOURS = {"enough": "green", "too small": "bold red", "unknown": "yellow"}
_HEAD = ("what", "have", "need", "", "quota", "")


def shown(report: Report) -> Text:
    """Return a line for each need, and how to ask for more; a line stays one, however narrow the terminal is."""
    rows = [
        (line.what, _number(line.have), _number(line.need), line.verdict, line.quota or "", line.note)
        for line in report.lines
    ]
    widths = [max(len(row[column]) for row in [_HEAD, *rows]) for column in range(len(_HEAD))]
    parts = [Text(f"{report.environment} in account {report.account}, {report.region}", style="bold")]
    parts += [_row(row, widths) for row in [_HEAD, *rows]]
    asking = [command for line in report.lines for command in line.ask]
    if asking:
        parts.append(Text("\nToo small. To ask for more takes minutes, and the answer from minutes to days:"))
        parts += [Text(f"  {command}") for command in asking]
    if report.unknown:
        parts.append(Text(f"\nCould not be told: {', '.join(report.unknown)}", style="yellow"))
    if not asking and not report.unknown:
        parts.append(Text("\nEnough of everything.", style="green"))
    return Text("\n").join(parts)


def _row(row: tuple[str, ...], widths: list[int]) -> Text:
    what, have, need, verdict, quota, note = (
        cell.rjust(width) if column in (1, 2) else cell.ljust(width)
        for column, (cell, width) in enumerate(zip(row, widths, strict=True))
    )
    told = Text(verdict, style=_COLOURS.get(verdict.strip(), ""))
    line = Text("  ").join([Text(f"  {what}"), Text(have), Text(need), told, Text(quota), Text(note)])
    line.rstrip()
    return line


def _number(value: float | None) -> str:
    return "?" if value is None else f"{value:g}"


def summary(report: Report) -> str:
    """Return in one line of what there is too little."""
    return ", ".join(_short(line) for line in report.lines if line.verdict == "too small")


def _short(line: Line) -> str:
    return f"{line.what} ({_number(line.have)} of {_number(line.need)})"
