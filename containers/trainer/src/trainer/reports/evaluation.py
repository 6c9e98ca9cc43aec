"""The evaluation report: candidate against champion, as a page. Brings Matplotlib."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mlplatform.config.base import LOWER_IS_BETTER
from mlplatform.documents.evaluation import EvaluateResult, Improvement, Score, SliceScore
from mlplatform.documents.results import PrepareResult, Split
from mlplatform.documents.run import RunConfig
from trainer.evaluation import curves
from trainer.evaluation.calibration import reliability
from trainer.metrics import roc_auc
from trainer.reports import count, decimal, label, moment, percent, plots, render, signed, size
from trainer.reports.plots import Plot, Series

METRIC_NAMES: Mapping[str, str] = {
    "roc_auc": "ROC AUC",
    "average_precision": "Average precision",
    "log_loss": "Log loss",
    "brier_score": "Brier score",
    "accuracy": "Accuracy",
    "macro_f1": "Macro F1",
    "rmse": "RMSE",
    "mae": "MAE",
    "r2": "R²",
}
_FEATURES = 20
_SLICES = 20
_MATRIX = 10
_CLASSES = 30
_PANELS = 12
_CHARTS = 4
_MATRIX_NOTE = "Percentages are of the actual class: each row adds up to 100 %. Below them, the number of test rows."

Vector = NDArray[np.float64]


@dataclass(frozen=True)
class Evaluation:
    """What the report is made of.

    Attributes:
        target: (rows,) as `trainer.data.Dataset.target`.
        candidate: as `modelformat.Predictor.predict` returns it.
        champion: as candidate, on the same rows; None where there is none, or where it is the candidate itself.
        classes: names of the classes; None for a regression.
        importance: the artifact ``importance.json`` of the candidate's run (share by feature), None where there is
            none; champion_importance as this.
        history: the artifact ``history.json`` of the candidate's run.
        data_digest: identity of the test rows.
    """

    config: RunConfig
    prepared: PrepareResult
    result: EvaluateResult
    target: Vector
    candidate: NDArray[np.float64]
    champion: NDArray[np.float64] | None
    classes: Sequence[str] | None
    candidate_family: str
    champion_family: str | None
    importance: Any
    champion_importance: Any
    history: Any
    data_digest: str


@dataclass(frozen=True)
class _Model:
    """One of the two, as far as it can be drawn: all its predictions are finite."""

    role: str
    name: str
    predictions: NDArray[np.float64]

    def series(self, x: Vector, y: Vector, name: str | None = None) -> Series:
        return Series(name or self.name, x, y, self.role)


def evaluation_report(evaluation: Evaluation) -> str:
    """Return the page; the same evaluation gives the same bytes."""
    config, result = evaluation.config, evaluation.result
    models = _drawable(evaluation)
    task = {"binary": _binary, "multiclass": _multiclass, "regression": _regression}[config.model.task]
    return render(
        "evaluation.html.j2",
        name=config.model.name,
        description=config.model.description,
        result=result,
        itself=result.champion is not None and evaluation.champion is None,
        candidate_family=evaluation.candidate_family,
        champion_family=evaluation.champion_family,
        verdict=_verdict(evaluation),
        tiles=_tiles(evaluation),
        interval_plot=_interval_plot(config.model.metric, result.improvement, evaluation.champion is not None),
        warnings=_warnings(evaluation),
        metrics=_metrics(result),
        metric_name=METRIC_NAMES[config.model.metric],
        chosen=config.model.metric,
        task=config.model.task,
        quality=task(evaluation, models) if models and len(evaluation.target) else _Quality(),
        training=_training(evaluation),
        slices=_slices(evaluation),
        slices_configured=config.model.slices,
        running=_running(result),
        lineage=_lineage(evaluation),
        splits=_splits(evaluation.prepared),
    )


def _drawable(evaluation: Evaluation) -> list[_Model]:
    result = evaluation.result
    models = [_Model("candidate", f"Candidate (version {result.candidate.model_version})", evaluation.candidate)]
    if evaluation.champion is not None and result.champion is not None:
        name = f"Champion (version {result.champion.model_version})"
        models.append(_Model("champion", name, evaluation.champion))
    return [model for model in models if np.isfinite(model.predictions).all()]


# --- The verdict ------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Message:
    kind: str
    text: str


@dataclass(frozen=True)
class _Tile:
    name: str
    value: str
    details: list[str]
    kind: str = ""


def _verdict(evaluation: Evaluation) -> _Message:
    """Say what the numbers say. Whether the candidate goes live is for the gate and for people."""
    result, metric = evaluation.result, evaluation.config.model.metric
    name = _within(metric)
    if result.candidate.metrics.get(metric) is None:
        return _Message("bad", f"The candidate has no valid {name} on the test rows: it cannot be judged.")
    if result.champion is None:
        return _Message("", "There is no champion yet: the candidate stands alone.")
    if evaluation.champion is None:
        return _Message("", "The candidate is the champion already: there is nothing to compare it with.")
    improvement = result.improvement
    if improvement is None or improvement.value is None:
        return _Message("bad", f"The champion has no valid {name} on the test rows: the two cannot be compared.")
    if improvement.interval is None:
        word = "better" if improvement.value > 0 else "no better"
        return _Message("warn", f"The candidate is {word} than the champion by {name}; how sure that is, is unknown.")
    low, high = improvement.interval.low, improvement.interval.high
    if low > 0:
        return _Message(
            "good",
            f"The candidate is better than the champion: the whole interval of the improvement in {name} is above 0.",
        )
    if high < 0:
        return _Message(
            "bad",
            f"The candidate is worse than the champion: the whole interval of the improvement in {name} is below 0.",
        )
    return _Message(
        "warn", f"The test rows do not tell the two apart: the interval of the improvement in {name} includes 0."
    )


def _tiles(evaluation: Evaluation) -> list[_Tile]:
    result, metric = evaluation.result, evaluation.config.model.metric
    tiles = [_score_tile("Candidate", result.candidate, metric, evaluation.candidate_family, "candidate")]
    if result.champion is not None and evaluation.champion is not None:
        family = evaluation.champion_family or ""
        tiles.append(_score_tile("Champion", result.champion, metric, family, "champion"))
        improvement = result.improvement
        value = None if improvement is None else improvement.value
        kind, details = "", ["no interval"]
        if improvement is not None and improvement.interval is not None:
            low, high = improvement.interval.low, improvement.interval.high
            kind = "good" if low > 0 else "bad" if high < 0 else "warn"
            details = [f"{_level(improvement.interval.level)} interval", f"{signed(low)} to {signed(high)}"]
        tiles.append(_Tile(f"Improvement in {_within(metric)}", signed(value), details, kind))
    test = evaluation.prepared.test
    held_out = ["held out from training"]
    if test.start and test.end:
        held_out = ["held out from training,", f"{test.start:%Y-%m-%d} to {test.end:%Y-%m-%d}"]
    tiles.append(_Tile("Test rows", count(result.rows), held_out))
    return tiles


def _score_tile(who: str, score: Score, metric: str, family: str, role: str) -> _Tile:
    details = [f"version {score.model_version}, {family}"]
    if score.interval is not None:
        interval = f"{decimal(score.interval.low)} to {decimal(score.interval.high)}"
        details.append(f"{_level(score.interval.level)} interval {interval}")
    return _Tile(f"{who}: {METRIC_NAMES[metric]}", decimal(score.metrics.get(metric)), details, role)


def _within(metric: str) -> str:
    """Name of a metric within a sentence."""
    name = METRIC_NAMES[metric]
    return name[0].lower() + name[1:] if name[1].islower() else name


def _level(level: float) -> str:
    return f"{level * 100:g}\u00a0%"


def _interval_plot(metric: str, improvement: Improvement | None, compared: bool) -> Plot | None:
    if not compared or improvement is None or improvement.value is None or improvement.interval is None:
        return None
    found = improvement.interval
    caption = (
        f"{signed(improvement.value)}; the line spans the {_level(found.level)} interval, {signed(found.low)} to "
        f"{signed(found.high)}, over {count(found.resamples)} resamples of the test rows on which both were scored."
    )
    title = f"Improvement in {_within(metric)}"
    return plots.interval(title, caption, improvement.value, found.low, found.high, title)


def _warnings(evaluation: Evaluation) -> list[str]:
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


@dataclass(frozen=True)
class _Metric:
    key: str
    name: str
    better: str
    candidate: float | None
    champion: float | None
    difference: float | None
    kind: str


def _metrics(result: EvaluateResult) -> list[_Metric]:
    names: dict[str, tuple[str, bool, float | None, float | None]] = {}
    theirs = result.champion.metrics if result.champion else {}
    for key, value in result.candidate.metrics.items():
        names[key] = (METRIC_NAMES.get(key, key), key in LOWER_IS_BETTER, value, theirs.get(key))
    if result.candidate.calibration_error is not None:
        other = result.champion.calibration_error if result.champion else None
        names["calibration_error"] = ("Calibration error", True, result.candidate.calibration_error, other)
    rows = []
    for key, (name, lower, ours, other) in names.items():
        difference = None if ours is None or other is None else ours - other
        kind = "" if not difference else "good" if (difference < 0) == lower else "bad"
        rows.append(_Metric(key, name, "lower" if lower else "higher", ours, other, difference, kind))
    return rows


# --- How well it answers ----------------------------------------------------------------------


@dataclass(frozen=True)
class _Cell:
    share: float | None
    rows: int
    shade: int
    """Percent of the role's colour."""


@dataclass(frozen=True)
class _Matrix:
    name: str
    role: str
    classes: list[str]
    cells: list[list[_Cell]]


@dataclass(frozen=True)
class _ClassRow:
    name: str
    rows: int
    models: list[dict[str, float | None]]


@dataclass(frozen=True)
class _Quality:
    """Plots and tables of one kind of task."""

    figures: Sequence[Plot] = ()
    wide: Sequence[Plot] = ()
    matrices: Sequence[_Matrix] = ()
    matrix_note: str = ""
    class_rows: Sequence[_ClassRow] = ()
    class_note: str = ""
    models: Sequence[_Model] = ()
    deciles: Sequence[tuple[str, int, list[curves.Decile]]] = ()


def _binary(evaluation: Evaluation, models: list[_Model]) -> _Quality:
    target, name = evaluation.target, label(evaluation.config.model.target)
    base_rate = float(target.mean())
    figures = []
    if 0 < base_rate < 1:
        metrics = {
            role: score.metrics
            for role, score in (("candidate", evaluation.result.candidate), ("champion", evaluation.result.champion))
            if score is not None
        }

        def named(model: _Model, metric: str) -> str:
            return f"{model.role.capitalize()}: {decimal(metrics[model.role].get(metric), 3)}"

        figures = [
            plots.roc(
                "ROC curve",
                "Share of the positives found against share of the negatives flagged, at every threshold; the area "
                "under it is in the legend.",
                [
                    model.series(*curves.roc_curve(target, model.predictions), named(model, "roc_auc"))
                    for model in models
                ],
            ),
            plots.precision_recall(
                "Precision and recall",
                "Of what is flagged, how much is right, against how much of all positives is found; average precision "
                "in the legend.",
                [
                    model.series(
                        *curves.precision_recall_curve(target, model.predictions), named(model, "average_precision")
                    )
                    for model in models
                ],
                base_rate,
            ),
        ]
    calibration = _calibration_plot(evaluation, models)
    predicted = [(model, (model.predictions >= 0.5).astype(np.intp)) for model in models]
    return _Quality(
        figures=[*figures, *calibration],
        matrices=[
            _matrix(model, curves.confusion(target, answer, 2), [f"{name} = 0", f"{name} = 1"])
            for model, answer in predicted
        ],
        matrix_note=f"A row is taken for {name} = 1 from a probability of one half. {percent(base_rate)} of the rows "
        f"are {name} = 1. {_MATRIX_NOTE}",
        models=models,
    )


def _calibration_plot(evaluation: Evaluation, models: list[_Model]) -> list[Plot]:
    series, histograms = [], []
    edges = np.linspace(0, 1, 31)
    errors = {"candidate": evaluation.result.candidate.calibration_error}
    if evaluation.result.champion is not None:
        errors["champion"] = evaluation.result.champion.calibration_error
    for model in models:
        bins = reliability(evaluation.target, model.predictions)
        if bins is not None:
            name = f"{model.role.capitalize()}: error {decimal(errors[model.role], 3)}"
            series.append(model.series(bins.predicted, bins.observed, name))
            histograms.append(curves.shares(model.predictions, edges))
    caption = (
        "Predicted probability against what happened, in ten bins of as many rows; on the diagonal, probabilities can "
        "be taken at their word. Below, how often each is predicted."
    )
    return [plots.calibration("Calibration", caption, series, histograms, edges)] if series else []


def _matrix(model: _Model, counts: NDArray[np.int64], classes: list[str]) -> _Matrix:
    cells = []
    for row in counts.tolist():
        total = sum(row)
        shares = [value / total if total else None for value in row]
        cells.append([_Cell(share, value, round(55 * (share or 0))) for share, value in zip(shares, row, strict=True)])
    return _Matrix(model.name, model.role, classes, cells)


def _multiclass(evaluation: Evaluation, models: list[_Model]) -> _Quality:
    target, classes = evaluation.target, list(evaluation.classes or [])
    matrices, tables = [], []
    rows = np.bincount(target.astype(np.intp), minlength=len(classes))
    frequent = np.argsort(-rows, kind="stable").tolist()
    listed = sorted(frequent[:_CLASSES])
    kept: list[int] = []
    for model in models:
        counts = curves.confusion(target, model.predictions.argmax(axis=1), len(classes))
        scores = curves.class_scores(counts)
        lumped, kept, others = curves.lump(counts, _MATRIX)
        names = [label(classes[index], 24) for index in kept]
        matrices.append(_matrix(model, lumped, [*names, "all others"] if others else names))
        tables.append(
            {
                index: {
                    "precision": scores[index].precision,
                    "recall": scores[index].recall,
                    "f1": scores[index].f1,
                    "roc_auc": _class_auc(target, model.predictions, index),
                }
                for index in listed
            }
        )
    panels = {}
    for index in sorted(frequent[:_PANELS]):
        if 0 < rows[index] < len(target):
            own = (target == index).astype(np.float64)
            panels[classes[index]] = [
                model.series(*curves.roc_curve(own, model.predictions[:, index])) for model in models
            ]
    wide = []
    if panels:
        who = "solid blue the candidate" + (", dashed orange the champion" if len(models) > 1 else "")
        note = f"; the {_PANELS} most frequent classes" if len(classes) > _PANELS else ""
        wide.append(
            plots.small_rocs(
                "ROC curve of each class against the rest",
                f"Share of the class found against share of the others taken for it: {who}{note}.",
                panels,
            )
        )
    return _Quality(
        wide=wide,
        matrices=matrices,
        matrix_note=f"The likeliest class is the answer. {_MATRIX_NOTE}"
        + (
            f" The {_MATRIX - 1} most frequent classes are shown, the others together."
            if len(kept) < len(classes)
            else ""
        ),
        class_rows=[
            _ClassRow(label(classes[index]), int(rows[index]), [table[index] for table in tables]) for index in listed
        ],
        class_note=f"The {_CLASSES} most frequent of {len(classes)} classes." if len(classes) > _CLASSES else "",
        models=models,
    )


def _class_auc(target: Vector, predictions: NDArray[np.float64], index: int) -> float | None:
    value = roc_auc((target == index).astype(np.float64), predictions[:, index])
    return value if math.isfinite(value) else None


def _regression(evaluation: Evaluation, models: list[_Model]) -> _Quality:
    target, name = evaluation.target, label(evaluation.config.model.target)
    low, high = curves.span(target, *(model.predictions for model in models))
    edges = np.linspace(low, high, curves.CELLS + 1)
    errors = [model.predictions - target for model in models]
    low, high = curves.span(*errors, tail=0.005)
    reach = max(abs(low), abs(high))
    bins = np.linspace(-reach, reach, 41)
    found = [curves.deciles(target, model.predictions) for model in models]
    return _Quality(
        figures=[
            plots.histograms(
                "Errors",
                f"How often each error occurs: prediction minus actual {name}, above 0 where too much was predicted. "
                "The outermost bins hold all larger errors.",
                [model.series(bins, curves.shares(error, bins)) for model, error in zip(models, errors, strict=True)],
                bins,
                f"Prediction − actual {name}",
                zero=True,
            ),
            plots.lines(
                "Error by size of the target",
                f"Mean absolute error within each tenth of the rows, from the smallest actual {name} to the largest.",
                [
                    model.series(np.arange(1.0, len(parts) + 1), np.array([part.mean_absolute_error for part in parts]))
                    for model, parts in zip(models, found, strict=True)
                ],
                f"Tenth of the rows by actual {name}",
                f"Mean absolute error of {name}",
            ),
        ],
        wide=[
            plots.densities(
                "Predicted against actual",
                "The darker, the more rows, on a logarithmic scale. Dotted: perfect predictions. "
                "The outermost cells hold what lies beyond.",
                [
                    (model.series(target, model.predictions), curves.density(target, model.predictions, edges))
                    for model in models
                ],
                edges,
                edges,
                f"Actual {name}",
                f"Predicted {name}",
            )
        ],
        deciles=[
            (f"{decimal(part.low, 2)} to {decimal(part.high, 2)}", part.rows, [parts[index] for parts in found])
            for index, part in enumerate(found[0])
        ],
        models=models,
    )


# --- What it learned from ---------------------------------------------------------------------


@dataclass(frozen=True)
class _Training:
    plots: list[Plot]
    notes: list[str]


def _training(evaluation: Evaluation) -> _Training:
    drawn: list[Plot] = []
    notes = []
    shares = _shares(evaluation.importance)
    theirs = _shares(evaluation.champion_importance) or {}
    if shares is None:
        notes.append("Feature importance is missing: the candidate's run has no readable artifact importance.json.")
    elif not shares:
        notes.append(f"Models of the family {evaluation.candidate_family} have no feature importance of their own.")
    else:
        drawn.append(_importance_plot(shares, theirs))
    history = _history(evaluation.history)
    if not history:
        notes.append("Training history is missing: the candidate's run has no readable artifact history.json.")
    for name, series in history.items():
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
    return _Training(drawn, notes)


def _shares(artifact: Any) -> dict[str, float] | None:
    """Return importance by feature, None where the artifact is missing or says something else."""
    if not isinstance(artifact, Mapping):
        return None
    shares = {str(name): number for name, value in artifact.items() if (number := _number(value)) is not None}
    return shares if len(shares) == len(artifact) else None


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
    """Group the metrics of a training's steps by name, validation and train together.

    The artifact is a list with an object for each step, ``{"step": 0, "log_loss": 0.6, "train_log_loss": 0.5}``. What
    does not look like this is left out.
    """
    found: dict[str, list[tuple[float, float]]] = {}
    for index, note in enumerate(artifact if isinstance(artifact, list) else []):
        if not isinstance(note, Mapping):
            continue
        step = _number(note.get("step", index))
        for name, given in note.items():
            value = _number(given)
            if name != "step" and step is not None and value is not None:
                found.setdefault(str(name), []).append((step, value))
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


def _number(value: Any) -> float | None:
    """Return a JSON number that is finite."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        return None
    return float(value)


# --- Slices, running costs, lineage -----------------------------------------------------------


@dataclass(frozen=True)
class _Slice:
    feature: str
    plot: Plot | None
    scores: list[SliceScore]


def _slices(evaluation: Evaluation) -> list[_Slice]:
    result, metric = evaluation.result, evaluation.config.model.metric
    by_feature: dict[str, list[SliceScore]] = {}
    for one in result.slices:
        by_feature.setdefault(one.feature, []).append(one)
    compared = evaluation.champion is not None
    found = []
    for feature, scores in by_feature.items():
        shown = [one for one in scores if one.candidate is not None or one.champion is not None][:_SLICES]
        plot = None
        if shown:
            series = [Series("Candidate", _values(one.candidate for one in shown), np.zeros(len(shown)))]
            if compared:
                theirs = _values(one.champion for one in shown)
                series.append(Series("Champion", theirs, np.zeros(len(shown)), "champion"))
            overall = result.candidate.metrics.get(metric)
            better = "lower" if metric in LOWER_IS_BETTER else "higher"
            caption = f"{METRIC_NAMES[metric]} within each category, largest first; {better} is better."
            if overall is not None:
                caption += f" Dotted: the candidate over all rows, {decimal(overall)}."
            if len(scores) > len(shown):
                caption += f" {len(shown)} of {len(scores)} categories; all are in the table."
            plot = plots.dots(
                f"By {label(feature)}",
                caption,
                [category(one) for one in shown],
                series,
                METRIC_NAMES[metric],
                [count(one.rows) for one in shown],
                "rows",
                overall,
            )
        found.append(_Slice(label(feature), plot, scores))
    return found


def _values(values: Any) -> Vector:
    return np.array([np.nan if value is None else value for value in values])


def category(score: SliceScore) -> str:
    """Name a slice for people."""
    return "(missing)" if score.category is None else label(score.category)


def _running(result: EvaluateResult) -> list[tuple[str, str, str]]:
    def of(score: Score | None, what: str) -> str:
        if score is None:
            return decimal(None)
        if what == "size":
            return decimal(None) if score.model_bytes is None else size(score.model_bytes)
        if score.latency is None:
            return decimal(None)
        if what == "single":
            return f"{score.latency.single_ms:.3g} ms"
        return f"{score.latency.batch_ms * 1000:.3g} µs"

    names = {
        "single": "One row alone, median",
        "batch": "Per row, 1,000 at once, median",
        "size": "Size of the saved model",
    }
    return [(name, of(result.candidate, what), of(result.champion, what)) for what, name in names.items()]


def _lineage(evaluation: Evaluation) -> list[tuple[str, str]]:
    config, result = evaluation.config, evaluation.result
    rows = [
        ("Run key", config.run_key),
        ("Dataset", config.model.name),
        ("Registered model", config.model.registered_model),
        ("Candidate", f"version {result.candidate.model_version}, MLflow run {result.candidate.run_id}"),
    ]
    if config.candidate is not None:
        rows.append(("Candidate's digest", config.candidate.model_digest))
    if result.champion is not None:
        rows.append(("Champion", f"version {result.champion.model_version}, MLflow run {result.champion.run_id}"))
    rows += [(label(name.replace("_", " ")).capitalize(), value) for name, value in sorted(config.lineage.items())]
    rows += [
        ("Digest of the test rows", evaluation.data_digest),
        ("Evaluation's digest", result.evaluation_digest),
        ("Seed", str(config.seed)),
        ("Prepared by", evaluation.prepared.engine),
        ("Evaluated", moment(result.started_at)),
    ]
    return rows


def _splits(prepared: PrepareResult) -> list[tuple[str, Split]]:
    return [("Train", prepared.train), ("Validation", prepared.validation), ("Test", prepared.test)]
