"""Which schedules are refused, and in which words."""

from __future__ import annotations

import re

import pytest

from mlplatform.config.schedules import PRESETS, check_schedule


@pytest.mark.parametrize(
    "schedule",
    [
        *PRESETS,
        "0 5 * * *",
        "0 6 * * 1",
        "*/15 8-18 * * mon-fri",
        "5,35 0 1,15 jan-jun/2 *",
        "0 0 29 2 *",
        "0 0 31 * 7",
        "0 0 31 2 mon",
        "5/10 * * * *",
    ],
)
def test_what_comes_is_taken_as_it_is(schedule: str) -> None:
    assert check_schedule(schedule) == schedule


@pytest.mark.parametrize(
    ("schedule", "said"),
    [
        ("every day", "neither five fields of cron"),
        ("", "neither five fields of cron"),
        ("@continuous", "neither five fields of cron"),
        ("@yearlyy", "neither five fields of cron"),
        ("* * * * * *", "neither five fields of cron"),
        ("60 * * * *", "minute: '60' is not within 0 and 59"),
        ("0 24 * * *", "hour: '24' is not within 0 and 23"),
        ("0 0 0 * *", "day of the month: '0' is not within 1 and 31"),
        ("0 0 * juni *", "month: 'juni' is not within 1 and 12"),
        ("0 0 * * 8", "day of the week: '8' is not within 0 and 7"),
        ("5-1 * * * *", "minute: '5-1' ends before it begins"),
        ("*/0 * * * *", "minute: '*/0' has a step that is not within 1 and 59"),
        ("1,,2 * * * *", "minute: '' is none of"),
        ("0 0 31 2 *", "never comes"),
        ("0 0 31 4,6 *", "never comes"),
    ],
)
def test_what_airflow_could_not_run_is_refused_with_the_reason(schedule: str, said: str) -> None:
    with pytest.raises(ValueError, match=f"^{re.escape(said)}"):
        check_schedule(schedule)
