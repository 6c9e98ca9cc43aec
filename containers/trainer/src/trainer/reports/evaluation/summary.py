"""The top of the page: the verdict, the numbers that matter most, and warnings."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from mlplatform.documents.evaluation import Improvement, Score
from trainer.reports import count, decimal, plots, signed
from trainer.reports.evaluation.inputs import Evaluation
from trainer.reports.evaluation.metrics import METRIC_NAMES
from trainer.reports.plots import Plot


@dataclass(frozen=True)
class Message:
    """A sentence, and whether it is good news."""

    kind: str
    text: str


@dataclass(frozen=True)
class Tile:
    """A number with its name and what to know about it."""

    name: str
    value: str
    details: list[str]
    kind: str = ""


def verdict(evaluation: Evaluation) -> Message:
    """Say what the numbers say. Whether the candidate goes live is for the gate and for people."""
    result, metric = evaluation.result, evaluation.config.model.metric
    name = _in_sentence(metric)
    if result.candidate.metrics.get(metric) is None:
        return Message("bad", f"The candidate has no valid {name} on the test rows: it cannot be judged.")
    if result.champion is None:
        return Message("", "There is no champion yet: the candidate stands alone.")
    if evaluation.champion is None:
        return Message("", "The candidate is the champion already: there is nothing to compare it with.")
    improvement = result.improvement
    if improvement is None or improvement.value is None:
        return Message("bad", f"The champion has no valid {name} on the test rows: the two cannot be compared.")
    if improvement.interval is None:
        word = "better" if improvement.value > 0 else "no better"
        return Message("warn", f"The candidate is {word} than the champion by {name}; how sure that is, is unknown.")
    low, high = improvement.interval.low, improvement.interval.high
    if low > 0:
        return Message(
            "good",
            f"The candidate is better than the champion: the whole interval of the improvement in {name} is above 0.",
        )
    if high < 0:
        return Message(
            "bad",
            f"The candidate is worse than the champion: the whole interval of the improvement in {name} is below 0.",
        )
    return Message(
        "warn", f"The test rows do not tell the two apart: the interval of the improvement in {name} includes 0."
    )


def tiles(evaluation: Evaluation) -> list[Tile]:
    """Return the scores of both, the improvement with its interval, and the number of rows."""
    result, metric = evaluation.result, evaluation.config.model.metric
    found = [_score_tile("Candidate", result.candidate, metric, evaluation.candidate_family, "candidate")]
    if result.champion is not None and evaluation.champion is not None:
        family = evaluation.champion_family or ""
        found.append(_score_tile("Champion", result.champion, metric, family, "champion"))
        improvement = result.improvement
        value = None if improvement is None else improvement.value
        kind, details = "", ["no interval"]
        if improvement is not None and improvement.interval is not None:
            low, high = improvement.interval.low, improvement.interval.high
            kind = "good" if low > 0 else "bad" if high < 0 else "warn"
            details = [f"{_level(improvement.interval.level)} interval", f"{signed(low)} to {signed(high)}"]
        found.append(Tile(f"Improvement in {_in_sentence(metric)}", signed(value), details, kind))
    test = evaluation.prepared.test
    held_out = ["held out from training"]
    if test.start and test.end:
        held_out = ["held out from training,", f"{test.start:%Y-%m-%d} to {test.end:%Y-%m-%d}"]
    found.append(Tile("Test rows", count(result.rows), held_out))
    return found


def _score_tile(who: str, score: Score, metric: str, family: str, role: str) -> Tile:
    details = [f"version {score.model_version}, {family}"]
    if score.interval is not None:
        interval = f"{decimal(score.interval.low)} to {decimal(score.interval.high)}"
        details.append(f"{_level(score.interval.level)} interval {interval}")
    return Tile(f"{who}: {METRIC_NAMES[metric]}", decimal(score.metrics.get(metric)), details, role)


def interval_plot(metric: str, improvement: Improvement | None, compared: bool) -> Plot | None:
    """Draw the interval of the improvement; None where there is none."""
    if not compared or improvement is None or improvement.value is None or improvement.interval is None:
        return None
    found = improvement.interval
    caption = (
        f"{signed(improvement.value)}; the line spans the {_level(found.level)} interval, {signed(found.low)} to "
        f"{signed(found.high)}, over {count(found.resamples)} resamples of the test rows on which both were scored."
    )
    title = f"Improvement in {_in_sentence(metric)}"
    return plots.interval(title, caption, improvement.value, found.low, found.high, title)


def warnings(evaluation: Evaluation) -> list[str]:
    """Say what makes the numbers missing or doubtful."""
    found = []
    for who, predictions in (("candidate", evaluation.candidate), ("champion", evaluation.champion)):
        if predictions is None or not len(predictions):
            continue
        bad = int((~np.isfinite(predictions.reshape(len(predictions), -1)).all(axis=1)).sum())
        if bad:
            found.append(
                f"{count(bad)} of the {who}'s {count(len(predictions))} predictions are not finite numbers. None of "
                "its metrics can be computed, and it is not drawn below."
            )
    if not len(evaluation.target):
        found.append("The test split has no rows.")
    elif evaluation.config.model.task != "regression" and len(np.unique(evaluation.target)) == 1:
        found.append("All test rows are of one class: metrics that compare classes are undefined.")
    return found


def _in_sentence(metric: str) -> str:
    """Name of a metric within a sentence."""
    name = METRIC_NAMES[metric]
    return name[0].lower() + name[1:] if name[1].islower() else name


def _level(level: float) -> str:
    return f"{level * 100:g}\u00a0%"
