"""A report as people read it. Rendering only."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta

from rich.console import Group, RenderableType
from rich.text import Text

from cloud.status.report import DatasetStatus, Live, LiveVersion, Monitoring, Question, Report, WaitingRun

_COLOURS = {"waits": "magenta", "paused": "yellow"}


def shown(report: Report) -> RenderableType:
    """Return a block of lines for each dataset, and at the end what is wrong and what could not be told."""
    parts: list[RenderableType] = [Text(f"{report.environment} at {_moment(report.at)}", style="bold")]
    for dataset in report.datasets:
        parts.append(Text(f"\n{dataset.dataset}", style="bold"))
        for name, line in _lines(dataset, report.at):
            parts.append(Text.assemble((f"  {name:<12}", _COLOURS.get(name, "dim")), line))
    if report.disabled:
        parts.append(Text(f"\nSwitched off here: {', '.join(report.disabled)}"))
    for title, told, style in (
        ("Wrong", report.wrong, "bold red"),
        ("Could not be told", report.unknown, "yellow"),
    ):
        if told:
            parts += [Text(f"\n{title}", style=style), *(Text(f"  - {one}") for one in told)]
    if not report.wrong and not report.unknown:
        parts.append(Text("\nAll was read, and nothing is wrong.", style="green"))
    return Group(*parts)


def _lines(one: DatasetStatus, now: datetime) -> Iterator[tuple[str, str]]:
    yield from (("live", line) for line in _live(one.live, now))
    yield "endpoint", _endpoint(one, now)
    for run in one.activity.runs:
        at = ", ".join(
            task.task + (f" ×{task.count}" if task.count > 1 else "") + f" {task.state}" for task in run.tasks
        )
        yield "runs", f"{run.dag} {run.run}: {run.state}{_since(run.since, now)}" + (f"; {at}" if at else "")
    yield from (("waits", _question(question, now)) for question in one.waiting.questions)
    yield from (("waits", _waiting_run(run, now)) for run in one.waiting.runs)
    if not one.activity.runs and not one.activity.unknown:
        yield "runs", "nothing"
    yield "monitoring", _monitoring(one.monitoring, now)
    if one.activity.paused:
        yield "paused", ", ".join(one.activity.paused)


def _live(live: Live, now: datetime) -> Iterator[str]:
    if not live.versions:
        yield "unknown" if live.unknown else "nothing"
        return
    for version in live.versions:
        yield _version(version, of_several=len(live.versions) > 1)
    if live.since is not None:
        yield f"{live.how} by {live.by}{_since(live.since, now)}: {live.reason}"
    if live.note:
        yield live.note


def _version(version: LiveVersion, *, of_several: bool) -> str:
    said = f"version {version.version}, {version.family or 'family unknown'}"
    if of_several:
        said += f", {version.share:.0%} of the requests ({version.variant})"
    approval = version.approval
    return said + (f", approved by {approval.by} at {_moment(approval.at)}" if approval else ", no approval known")


def _endpoint(one: DatasetStatus, now: datetime) -> str:
    endpoint = one.endpoint
    said = f"{endpoint.name or ''} {endpoint.status or 'unknown'}".strip()
    if rollout := endpoint.rollout:
        what = f"version {rollout.version}" if rollout.version else rollout.configuration
        bake = f", bakes for {rollout.bake_seconds} s" if rollout.bake_seconds else ""
        said += f"; comes: {what}, {rollout.stage or 'under way'}{_since(rollout.since, now)}{bake}"
    said += "".join(f"; {alarm.name} in ALARM{_since(alarm.since, now)}" for alarm in endpoint.alarms)
    return said


def _question(question: Question, now: datetime) -> str:
    who = ", ".join(question.who) or "everyone whose role in Airflow allows it"
    until = f", until {_moment(question.deadline)}" if question.deadline else ""
    also = " or by tags in MLflow" if question.in_mlflow_too else ""
    lapses = f"; lapses for version {question.superseded_by}" if question.superseded_by else ""
    version = question.version or "unknown"
    return f"version {version} for {who}{_since(question.asked_at, now)}{until}: {question.where}{also}{lapses}"


def _waiting_run(run: WaitingRun, now: datetime) -> str:
    what = "its turn" if run.waits_for == "turn" else "data"
    holder = f", at work is {run.held_by}" if run.held_by else ""
    return f"{run.run} for {what}{_since(run.since, now)}{holder}"


def _monitoring(monitoring: Monitoring, now: datetime) -> str:
    if monitoring.at is None:
        said = "unknown" if monitoring.unknown else "no verdict yet"
    else:
        said = f"{monitoring.outcome}{_since(monitoring.at, now)}"
    if worst := monitoring.worst:
        said += f"; most moved {worst.name}, PSI {worst.psi:.3f} (limit {worst.limit:g}), version {worst.version}"
    for quality in monitoring.quality:
        evaluated = "" if quality.evaluated is None else f" ({quality.evaluated:.4g} when evaluated)"
        said += f"; {quality.metric} {quality.value:.4g}{evaluated}, version {quality.version}"
    if monitoring.overdue:
        said += "; OVERDUE"
    if monitoring.schedule is None:
        return f"{said}; by hand only"
    return said + (f"; next at {_moment(monitoring.next_at)}" if monitoring.next_at else "")


def _since(at: datetime | None, now: datetime) -> str:
    return "" if at is None else f" since {_moment(at)} ({_duration(now - at)})"


def _moment(at: datetime) -> str:
    return f"{at:%Y-%m-%d %H:%M} UTC"


def _duration(passed: timedelta) -> str:
    minutes = max(int(passed.total_seconds() // 60), 0)
    days, hours = minutes // 1440, minutes % 1440 // 60
    if days:
        return f"{days} d {hours} h"
    return f"{hours} h {minutes % 60} min" if hours else f"{minutes} min"
