"""When something runs by itself: what Airflow takes, and nothing that would fail only there.

Airflow finds a wrong schedule when it makes the DAG, and says neither which dataset's it is nor where it is written.
Its parser (croniter) is in none of the images, which read the settings too; so the rules are here.
"""

from __future__ import annotations

import re
from typing import Annotated

from pydantic import AfterValidator

PRESETS = ("@hourly", "@daily", "@weekly", "@monthly", "@quarterly", "@yearly", "@once")
"""Of Airflow's. Not among them is ``@continuous``, which is for DAGs with one run at a time."""

_MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
_DAYS = ("sun", "mon", "tue", "wed", "thu", "fri", "sat")
_FIELDS: tuple[tuple[str, int, int, dict[str, int]], ...] = (
    ("minute", 0, 59, {}),
    ("hour", 0, 23, {}),
    ("day of the month", 1, 31, {}),
    ("month", 1, 12, {name: number for number, name in enumerate(_MONTHS, start=1)}),
    ("day of the week", 0, 7, {name: number for number, name in enumerate(_DAYS)}),
)
_LONGEST = {1: 31, 2: 29, 3: 31, 4: 30, 5: 31, 6: 30, 7: 31, 8: 31, 9: 30, 10: 31, 11: 30, 12: 31}
_PART = re.compile(r"(?:\*|(?P<first>\w+)(?:-(?P<last>\w+))?)(?:/(?P<step>[0-9]+))?", re.ASCII)


def check_schedule(schedule: str) -> str:
    """Return a schedule as it is.

    Raises:
        ValueError: it is neither a preset nor five fields of cron, or there is no such day.
    """
    if schedule in PRESETS:
        return schedule
    fields = schedule.split()
    if len(fields) != len(_FIELDS):
        raise ValueError(f"neither five fields of cron, such as `0 5 * * 1`, nor one of {', '.join(PRESETS)}")
    _, _, days, months, _ = (_values(text, *field) for text, field in zip(fields, _FIELDS, strict=True))
    # With a day of the week beside it, either of the two is enough.
    if fields[4] == "*" and min(days) > max(_LONGEST[month] for month in months):
        raise ValueError("never comes: no such month has that day")
    return schedule


def _values(text: str, field: str, lowest: int, highest: int, names: dict[str, int]) -> set[int]:
    """Return the values that a field of cron stands for."""
    found: set[int] = set()
    for part in text.split(","):
        matched = _PART.fullmatch(part)
        if matched is None:
            raise ValueError(f"{field}: {part!r} is none of `*`, `1`, `1-5`, `*/5`, `1-31/5`")
        first, last = matched["first"], matched["last"]
        ends = [_value(one, field, lowest, highest, names) for one in (first, last) if one is not None]
        start, end = (ends[0], ends[-1]) if ends else (lowest, highest)
        step = int(matched["step"] or 1)
        if not 1 <= step <= highest:
            raise ValueError(f"{field}: {part!r} has a step that is not within 1 and {highest}")
        if start > end:
            raise ValueError(f"{field}: {part!r} ends before it begins")
        found.update(range(start, (end if last or not ends or not matched["step"] else highest) + 1, step))
    return found


def _value(text: str, field: str, lowest: int, highest: int, names: dict[str, int]) -> int:
    value = names[text.lower()] if text.lower() in names else int(text) if text.isdecimal() else None
    if value is None or not lowest <= value <= highest:
        raise ValueError(f"{field}: {text!r} is not within {lowest} and {highest}")
    return value


Schedule = Annotated[str, AfterValidator(check_schedule)]
"""A preset or five fields of cron."""
