"""The section on training: feature importance and history."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from mlplatform.config.base import LOWER_IS_BETTER
from trainer.evaluation import curves
from trainer.reports import count, label, percent, plots
from trainer.reports.evaluation.artifacts import history_points, importance_shares
from trainer.reports.evaluation.inputs import Evaluation
from trainer.reports.evaluation.metrics import METRIC_NAMES
from trainer.reports.plots import Plot, Series

_FEATURES = 20
_CHARTS = 4


@dataclass(frozen=True)
class Training:
    """What the section shows."""

    plots: list[Plot]
    notes: list[str]


def section(evaluation: Evaluation) -> Training:
    """Draw what the candidate learned from and how its training went; say what is missing."""
    drawn: list[Plot] = []
    notes = []
    shares = importance_shares(evaluation.importance)
    theirs = importance_shares(evaluation.champion_importance) or {}
    if shares is None:
        notes.append("Feature importance is missing: the candidate's run has no readable artifact importance.json.")
    elif not shares:
        notes.append(f"Models of the family {evaluation.candidate_family} have no feature importance of their own.")
    else:
        drawn.append(_importance_plot(shares, theirs))
    charts = _history(evaluation.history)
    if not charts:
        notes.append("Training history is missing: the candidate's run has no readable artifact history.json.")
    for name, series in charts.items():
        lower = name in LOWER_IS_BETTER or name == "loss"
        better = f"; {'lower' if lower else 'higher'} is better" if lower or name in METRIC_NAMES else ""
        lines = ", ".join(f"{one.name.lower()} {'dotted' if one.role == 'train' else 'solid'}" for one in series)
        drawn.append(
            plots.lines(
                f"Training: {METRIC_NAMES.get(name, label(name))}",
                f"After each step of the candidate's training: {lines}{better}.",
                series,
                "Step",
                METRIC_NAMES.get(name, label(name)),
            )
        )
    return Training(drawn, notes)


def _importance_plot(shares: Mapping[str, float], theirs: Mapping[str, float]) -> Plot:
    names = sorted(shares, key=lambda name: (-shares[name], name))
    shown = names[:_FEATURES]
    caption = "Share of the whole, as the family measures it; the candidate's order."
    if len(names) > len(shown):
        rest = sum(shares[name] for name in names[_FEATURES:])
        more = len(names) - len(shown)
        caption += f" The other {'feature has' if more == 1 else f'{count(more)} features have'} {percent(rest)}."
    places = np.zeros(len(shown))
    series = [Series("Candidate", np.array([shares[name] for name in shown]), places)]
    if theirs:
        series.append(Series("Champion", np.array([theirs.get(name, np.nan) for name in shown]), places, "champion"))
    return plots.dots("Feature importance", caption, shown, series, "Share of importance", whole=True)


def _history(artifact: Any) -> dict[str, list[Series]]:
    """Group the metrics of a training's steps by name, validation and train together."""
    found = history_points(artifact)
    groups: dict[str, list[Series]] = {}
    for name in sorted(found, key=lambda name: (name.removeprefix("train_"), name.startswith("train_"))):
        points = found[name]
        if len(points) < 2:
            continue
        x, y = np.array(points[:: -(-len(points) // curves.POINTS)]).T
        train = name.startswith("train_")
        series = Series("Train" if train else "Validation", x, y, "train" if train else "candidate")
        groups.setdefault(name.removeprefix("train_"), []).append(series)
    return dict(sorted(groups.items(), key=lambda item: item[0] not in METRIC_NAMES)[:_CHARTS])
