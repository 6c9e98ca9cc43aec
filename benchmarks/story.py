"""Where the time of one month goes: `make bench-story`.

Starts an empty platform of its own, lets January warm it up, and measures February from the last object landed to
the first prediction served. Per task: wall time, the time its pods' processes ran, and the difference, which is
what orchestration adds. Prints a Markdown table with the machine named.
"""

from __future__ import annotations

import tempfile
import time
from pathlib import Path
from typing import Any

from benchmarks import machine
from local.cli import down, up
from local.datasets import flights
from local.pipeline import driver
from local.pipeline.attached import AttachedPlatform
from local.platform.home import Home

Interval = tuple[float, float]


def main() -> None:
    """Measure and print."""
    with tempfile.TemporaryDirectory(prefix="mlp-bench-") as folder:
        home = Path(folder)
        up(home=home, fresh=True)
        try:
            platform = AttachedPlatform(Home(home))
            _one_month(platform, 1)
            print(render(*_one_month(platform, 2)))
        finally:
            down(home=home)


def _one_month(platform: AttachedPlatform, month: int) -> tuple[driver.RunReport, list[dict[str, Any]], Interval]:
    """Run one month; return its report, its pods' records, and when it began and ended (seconds since 1970)."""
    run_id = driver.unique_run_id(f"bench-2013-{month:02d}")
    driver.trigger(platform, flights.DATASET, run_id)
    driver.wait_until_waiting(platform, flights.DATASET, run_id)
    flights.month_tables(month)  # reading the year's CSV files is not the pipeline's work
    flights.land(month, platform.s3, platform.landing)
    landed = time.time()
    run = driver.follow(platform, flights.DATASET, run_id)
    if run.state != "success" or run.deployment is None:
        raise SystemExit(f"{run_id} ended as {run.state} and deployed {run.deployment}: nothing to measure")
    driver.predict_held_out(platform, run, run.deployment["endpoint_name"], count=1)
    return run, platform.pods(run.run_key), (landed, time.time())


def union_seconds(intervals: list[Interval]) -> float:
    """Return how long at least one of the intervals was on."""
    total, reached = 0.0, float("-inf")
    for begin, end in sorted(intervals):
        total += max(0.0, end - max(begin, reached))
        reached = max(reached, end)
    return total


def render(run: driver.RunReport, pods: list[dict[str, Any]], span: Interval) -> str:
    """Return the Markdown table of a run."""
    landed, served = span
    lines = [
        f"Machine: {machine.describe()}",
        "",
        "| task | wall s | pod s | overhead s |",
        "|---|---:|---:|---:|",
    ]
    for task in [*run.tasks, *(run.deployed.tasks if run.deployed else [])]:
        if task.state != "success" or task.started_at is None or task.ended_at is None:
            continue
        # A waiting sensor started long before anything landed.
        wall = task.ended_at.timestamp() - max(task.started_at.timestamp(), landed)
        own = [pod for pod in pods if _belongs(pod, task.task_id, task.map_index)]
        compute = union_seconds([(pod["started"], pod["finished"]) for pod in own if pod["finished"]])
        shown = f"{compute:.1f}" if own else ""
        lines.append(f"| {task.label} | {wall:.1f} | {shown} | {wall - compute:.1f} |")
    total = served - landed
    busy = union_seconds([(pod["started"], pod["finished"]) for pod in pods if pod["finished"]])
    lines.append(f"| **landed to served** | **{total:.1f}** | **{busy:.1f}** | **{total - busy:.1f}** |")
    lines += ["", f"At least one pod was at work {busy / total:.0%} of the time."]
    return "\n".join(lines)


def _belongs(pod: dict[str, Any], task_id: str, map_index: int) -> bool:
    labels = pod["labels"]
    return labels.get("task_id") == task_id and labels.get("map_index", "-1") == str(map_index)


if __name__ == "__main__":
    main()
