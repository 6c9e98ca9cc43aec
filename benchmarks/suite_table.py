"""The table of the test suite: what each part takes, some rows measured later than others."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

HEADER = """\
| part | passed | skipped | wall min | CPU min | measured |
|---|---:|---:|---:|---:|---|"""
_ROW = re.compile(r"^\| ([a-z0-9-]+) \| ([\d,]*) \| ([\d,]*) \| ([\d.]+) \| ([\d.]+) \| ([\d-]+) \|$", re.MULTILINE)
_SETTING = re.compile(r"^- ([\d-]+): (.+)$", re.MULTILINE)


@dataclass(frozen=True)
class Row:
    """A part: its tests, its minutes by the clock and of processors, and the day they were taken."""

    part: str
    passed: int
    skipped: int
    wall: float
    cpu: float
    day: str

    def __str__(self) -> str:
        # A linter has no tests to count.
        tests = (f"{self.passed:,}", f"{self.skipped:,}") if self.passed or self.skipped else ("", "")
        return f"| {self.part} | {' | '.join(tests)} | {self.wall:.1f} | {self.cpu:.1f} | {self.day} |"


def update(table: str, rows: Sequence[Row], setting: str, parts: Sequence[str]) -> str:
    """Return the table with these rows, measured on one day in one setting; other parts keep theirs."""
    known = {row.part: row for row in read(table)} | {row.part: row for row in rows}
    shown = [known[part] for part in parts if part in known]
    settings = dict(_SETTING.findall(table))
    for row in rows:
        # Of a whole run there is more to tell than of one of its rows that was measured again.
        if not settings.get(row.day, "").startswith(setting):
            settings[row.day] = setting
    days = sorted({row.day for row in shown} & settings.keys())
    sums = (
        f"{sum(row.passed for row in shown):,}",
        f"{sum(row.skipped for row in shown):,}",
        f"{sum(row.wall for row in shown):.1f}",
        f"{sum(row.cpu for row in shown):.1f}",
    )
    lines = [HEADER, *map(str, shown), f"| **sum** | {' | '.join(f'**{each}**' for each in sums)} | |", ""]
    return "\n".join([*lines, *(f"- {day}: {settings[day]}" for day in days)])


def read(table: str) -> list[Row]:
    """Return the rows of a table as it was written."""
    return [
        Row(part, _number(passed), _number(skipped), float(wall), float(cpu), day)
        for part, passed, skipped, wall, cpu, day in _ROW.findall(table)
    ]


def _number(text: str) -> int:
    return int(text.replace(",", "") or 0)
