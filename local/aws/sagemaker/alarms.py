"""How CloudWatch decides the state of an alarm on one metric."""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

State = Literal["OK", "ALARM", "INSUFFICIENT_DATA"]

_COMPARISONS: dict[str, Callable[[float, float], bool]] = {
    "GreaterThanThreshold": operator.gt,
    "GreaterThanOrEqualToThreshold": operator.ge,
    "LessThanThreshold": operator.lt,
    "LessThanOrEqualToThreshold": operator.le,
}
_STATISTICS: dict[str, Callable[[Sequence[float]], float]] = {
    "Average": lambda values: sum(values) / len(values),
    "Sum": sum,
    "Minimum": min,
    "Maximum": max,
    "SampleCount": len,
}


@dataclass(frozen=True)
class Alarm:
    """An alarm on one metric; `period` is in seconds, `statistic` a name like Average or a percentile like p99."""

    name: str
    metric: str
    dimensions: dict[str, str]
    statistic: str
    period: int
    evaluation_periods: int
    datapoints_to_alarm: int
    comparison: str
    threshold: float
    missing_data: str
    ignore_low_samples: bool


def known(alarm: Alarm) -> bool:
    """Return whether the alarm compares and computes in a way that `evaluate` knows."""
    return alarm.comparison in _COMPARISONS and (alarm.statistic in _STATISTICS or _percentile(alarm) is not None)


def evaluate(alarm: Alarm, periods: Sequence[Sequence[float]], state: State, scale: float = 1.0) -> tuple[State, str]:
    """Return the next state of an alarm, and why.

    Args:
        alarm: its definition, one that is `known`.
        periods: the values of each of the last `evaluation_periods` periods, oldest first; empty where there were none.
        state: the state it is in.
        scale: how many times faster time passes here. A request then stands for as many: a percentile that needs
            1000 values in the cloud needs 1000 / scale.
    """
    needed = _samples_needed(alarm) / scale
    full = [values for values in periods if values and len(values) >= needed]
    if not full and any(periods):
        return state, "Unchanged: too few requests for a percentile."
    found = [_statistic(alarm, values) for values in full]
    breaching = [value for value in found if _COMPARISONS[alarm.comparison](value, alarm.threshold)]
    gaps = len(periods) - len(found)
    if not found and alarm.missing_data in ("missing", "ignore"):
        return ("INSUFFICIENT_DATA" if alarm.missing_data == "missing" else state), "No datapoints were received."
    count = len(breaching) + (gaps if alarm.missing_data == "breaching" else 0)
    shown = ", ".join(f"{value:.6g}" for value in found) or "missing"
    reason = (
        f"Threshold Crossed: {count} out of the last {len(periods)} datapoints [{shown}] breached the threshold "
        f"({alarm.statistic} {alarm.comparison} {alarm.threshold:g}); {alarm.datapoints_to_alarm} are needed."
    )
    return ("ALARM" if count >= alarm.datapoints_to_alarm else "OK"), reason


def _statistic(alarm: Alarm, values: Sequence[float]) -> float:
    if alarm.statistic in _STATISTICS:
        return float(_STATISTICS[alarm.statistic](values))
    share = _percentile(alarm) or 0.0
    return sorted(values)[max(0, math.ceil(share * len(values)) - 1)]


def _percentile(alarm: Alarm) -> float | None:
    try:
        share = float(alarm.statistic.removeprefix("p")) / 100
    except ValueError:
        return None
    return share if alarm.statistic.startswith("p") and 0 <= share <= 1 else None


def _samples_needed(alarm: Alarm) -> float:
    """CloudWatch calls a percentile significant from 10 values beyond it on."""
    share = _percentile(alarm)
    if not alarm.ignore_low_samples or share is None:
        return 1
    rest = min(share, 1 - share)
    return 10 / rest if rest else 1
