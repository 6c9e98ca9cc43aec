"""From the rounds of `benchmarks.serving` to its tables and ratios. Pure functions."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

BUSY = 0.9
"""Share of one core above which the load generator, not the server, may have set the pace."""


@dataclass(frozen=True, order=True)
class Case:
    """What is asked, and by how many clients at a time."""

    rows: int
    format: str
    clients: int


@dataclass(frozen=True)
class Round:
    """One round of one contender: requests per second, milliseconds, and the generator's share of a core."""

    rate: float
    p50: float
    p99: float
    busy: float


@dataclass(frozen=True)
class Process:
    """What a contender costs before and beside its answers: seconds to the first answer, MiB (PSS) after the load."""

    start: float
    memory: float


@dataclass(frozen=True)
class Aim:
    """Ours must answer at least `ratio` times as many requests as the fastest of `others`."""

    rows: int
    others: tuple[str, ...]
    ratio: float
    lower_p99: bool = False


FLOOR = ("floor, ONNX Runtime", "floor, XGBoost")
OURS = "ours"
BY_HAND = "MLflow, by hand"
AIMS = (
    Aim(1, ("MLflow",), 60),
    Aim(1, (BY_HAND,), 60),
    Aim(1, ("BentoML",), 10, lower_p99=True),
    Aim(1, FLOOR, 0.7),
    Aim(1000, ("MLflow",), 3),
    Aim(1000, (BY_HAND,), 3),
    Aim(1000, ("BentoML",), 1),
    Aim(1000, FLOOR, 0.7),
)
AIM_CLIENTS = 8
Rounds = Mapping[tuple[Case, str], Sequence[Round]]


def percentile(values: Sequence[float], percent: float) -> float:
    """Return the smallest value that at least `percent` % of the values do not exceed (nearest rank).

    Raises:
        ValueError: there are no values, or percent is not above 0 and at most 100.
    """
    if not values or not 0 < percent <= 100:
        raise ValueError(f"no {percent}th percentile of {len(values)} values")
    return sorted(values)[math.ceil(len(values) * percent / 100) - 1]


def median(rounds: Sequence[Round]) -> Round:
    """Return the median of each number; of the generator's share the largest, as one busy round is enough."""
    return Round(
        statistics.median(one.rate for one in rounds),
        statistics.median(one.p50 for one in rounds),
        statistics.median(one.p99 for one in rounds),
        max(one.busy for one in rounds),
    )


def render(rounds: Rounds, processes: Mapping[str, Process]) -> str:
    """Return the Markdown tables: answers by case, costs by contender."""
    medians = {key: median(value) for key, value in rounds.items()}
    lines = [
        "| rows | format | clients | | requests/s | p50 ms | p99 ms |",
        "|---:|---|---:|---|---:|---:|---:|",
    ]
    for (case, name), one in sorted(medians.items(), key=lambda item: (item[0][0], -item[1].rate)):
        rate = f"{'≥ ' if one.busy > BUSY else ''}{one.rate:,.0f}"
        lines.append(
            f"| {case.rows:,} | {case.format} | {case.clients} | {name} | {rate} | {one.p50:.2f} | {one.p99:.2f} |"
        )
    if any(one.busy > BUSY for one in medians.values()):
        lines += ["", f"≥: the load generator was at more than {BUSY:.0%} of a core, so the server may be faster."]
    lines += ["", "| | memory MiB | seconds to the first answer |", "|---|---:|---:|"]
    lines += [f"| {name} | {one.memory:,.0f} | {one.start:.1f} |" for name, one in processes.items()]
    return "\n".join(lines)


def ratios(rounds: Rounds) -> list[str]:
    """Return a line per aim that was measured: JSON, one worker of ours against one of theirs, round by round."""
    lines = []
    for aim in AIMS:
        case = Case(aim.rows, "JSON", AIM_CLIENTS)
        ours = rounds.get((case, OURS))
        others = [(median(found), name, found) for name in aim.others if (found := rounds.get((case, name)))]
        if not ours or not others:
            continue
        theirs, name, found = max(others, key=lambda other: other[0].rate)
        ratio = statistics.median(one.rate / other.rate for one, other in zip(ours, found, strict=True))
        p99 = median(ours).p99
        met = ratio >= aim.ratio and (not aim.lower_p99 or p99 < theirs.p99)
        line = f"- {'1 row' if aim.rows == 1 else f'{aim.rows:,} rows'}, {AIM_CLIENTS} clients: {ratio:.2f} x {name}"
        wanted = f"aim {aim.ratio:g} x"
        if aim.lower_p99:
            line += f", p99 {p99:.2f} ms against {theirs.p99:.2f} ms"
            wanted += " and a lower p99"
        lines.append(f"{line} ({wanted}: {'met' if met else 'missed'})")
    return lines
