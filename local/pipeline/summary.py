"""The demo's summary as tables: what each step did, what was decided, what is live. Rendering only."""

from __future__ import annotations

from typing import Any

from rich.console import Console, Group, RenderableType
from rich.table import Table
from rich.text import Text

from local.pipeline.airflow_client import TaskInstance
from local.pipeline.driver import DeploymentReport, Prediction, RunReport

COLOURS = {
    "success": "green",
    "failed": "bold red",
    "upstream_failed": "red",
    "up_for_retry": "yellow",
    "running": "cyan",
    "deferred": "magenta",
    "skipped": "bright_black",
}


def state_text(state: str) -> Text:
    """A task's state in the colour people know it by."""
    return Text(state, style=COLOURS.get(state, ""))


def steps_table(run: RunReport) -> Table:
    """Each task of a run with its duration and state, in the order they started."""
    table = Table(title=f"Steps of {run.run_id}", title_justify="left")
    table.add_column("step")
    table.add_column("seconds", justify="right")
    table.add_column("state")
    for task in run.tasks:
        table.add_row(task.label, f"{task.seconds:.1f}" if task.started_at else "", state_text(task.state))
    return table


def trials_table(run: RunReport, metric: str) -> Table:
    """The trials of a run, the one that was registered marked."""
    table = Table(title=f"Trials of {run.run_id}", title_justify="left")
    for column in ("trial", f"validation {metric}", "fit seconds"):
        table.add_column(column, justify="right")
    table.add_column("parameters")
    best = (run.selection or {}).get("best")
    searched = [key for key in _all_params(run) if len({str(trial["params"].get(key)) for trial in run.trials}) > 1]
    for trial in run.trials:
        value, params, marked = trial["metrics"].get(metric), trial["params"], trial["trial"] == best
        shown = ", ".join(f"{key} {_short(params[key])}" for key in searched if key in params)
        if trial["status"] != "succeeded":
            shown = f"{trial['status']}: {trial['reason']}"
        table.add_row(
            f"{trial['trial']}{' *' if marked else ''}",
            "-" if value is None else f"{value:.4f}",
            f"{trial['fit_seconds']:.1f}",
            shown,
            style="bold" if marked else "",
        )
    if best is not None:
        table.caption = f"* best, registered as version {(run.decision or {}).get('candidate_version', '?')}"
    return table


def _all_params(run: RunReport) -> list[str]:
    return list(dict.fromkeys(key for trial in run.trials for key in trial["params"]))


def _short(value: Any) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)


def decision_text(run: RunReport) -> RenderableType:
    """What the gate decided, and why."""
    if run.decision is None:
        return Text(f"{run.run_id}: no decision was made", style="yellow")
    outcome = run.decision["outcome"]
    title = Text.assemble(
        f"Decision of {run.run_id}: version {run.decision['candidate_version']} ",
        (outcome, "bold yellow" if outcome == "reject" else "bold green"),
    )
    lines = [Text(f"  - {reason}") for reason in run.decision["reasons"]]
    if run.approval is not None:
        said = run.approval
        # The policy's reasons are the decision's, which stand above.
        why = "" if said["source"] == "policy" else f" ({said['source']}): {said['reason']}"
        lines.append(Text(f"  {said['outcome']} by {said['by']}{why}", style="bold"))
    return Group(title, *lines)


def deployments_table(deployments: list[DeploymentReport]) -> Table:
    """Each deployment and each step back: what was wanted, how it went, and why it went back where it did."""
    table = Table(title="Deployments", title_justify="left")
    for column in ("run", "version", "purpose", "how"):
        table.add_column(column)
    table.add_column("seconds", justify="right")
    table.add_column("outcome")
    for one in deployments:
        request, result = one.request or {}, one.result or {}
        table.add_row(
            one.run_id,
            request.get("model", {}).get("version", "?"),
            request.get("purpose", "?"),
            result.get("strategy", ""),
            f"{result['seconds']:.1f}" if result else "",
            Text("live", style="green") if result else Text(one.failure or one.state, style="bold yellow"),
        )
    return table


def audit_table(entries: list[dict[str, Any]]) -> Table:
    """Who decided what, and what became of it: the audit log."""
    table = Table(title="Audit log", title_justify="left")
    for column in ("at (UTC)", "what", "version", "by", "reason"):
        table.add_column(column)
    for entry in entries:
        moment = str(entry["at"])[:19].replace("T", " ")
        reason = _shortened(entry["reason"])
        table.add_row(moment, entry["kind"], entry["model_version"], entry["by"], reason)
    return table


def _shortened(text: str, length: int = 100) -> str:
    return text if len(text) <= length else f"{text[: length - 1]}…"


def predictions_table(predictions: list[Prediction], classes: list[str] | None) -> Table:
    """The endpoint's answers for real examples, beside what was true.

    Args:
        predictions: answers and truths.
        classes: names of several classes in the order of an answer; None for probabilities of one, and for numbers.
    """
    table = Table(title="Examples the model never saw, asked of the live endpoint", title_justify="left")
    shown = [list((item.references or item.features).items())[:_SHOWN] for item in predictions]
    for name, _ in shown[0] if shown else []:
        table.add_column(name)
    table.add_column("answer", justify="right")
    table.add_column("truth", justify="right")
    for cells, prediction in zip(shown, predictions, strict=True):
        table.add_row(
            *(_cell(value) for _, value in cells), _answer(prediction.answer, classes), _cell(prediction.truth)
        )
    return table


_SHOWN = 5


def _cell(value: Any) -> str:
    return "" if value is None else f"{value:.6g}" if isinstance(value, float) else str(value)


def _answer(answer: float | list[float], classes: list[str] | None) -> str:
    if isinstance(answer, list):
        best = max(range(len(answer)), key=answer.__getitem__)
        return f"{classes[best] if classes else best} ({answer[best]:.2f})"
    return f"{answer:.3g}"


class ProgressLines:
    """Says each change of a run's tasks in one line, on a terminal and in a log file alike."""

    def __init__(self, console: Console, started: float) -> None:
        self._console = console
        self._started = started
        self._shown: dict[str, str] = {}

    def __call__(self, _: str, tasks: list[TaskInstance]) -> None:
        """Print what changed since the last call."""
        from time import monotonic

        for task in tasks:
            if task.state in ("none", "scheduled", "queued", "skipped") or self._shown.get(task.label) == task.state:
                continue
            self._shown[task.label] = task.state
            text = Text.assemble(f"  {monotonic() - self._started:6.1f} s  {task.label:<32} ", state_text(task.state))
            if task.state == "success":
                text.append(f"  {task.seconds:.1f} s")
            self._console.print(text)
