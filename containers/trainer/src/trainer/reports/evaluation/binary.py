"""Predictions of two classes: ROC curve, precision and recall, calibration, confusion matrix."""

from __future__ import annotations

import numpy as np

from trainer.evaluation import curves
from trainer.evaluation.calibration import reliability
from trainer.reports import decimal, label, percent, plots
from trainer.reports.evaluation import confusion
from trainer.reports.evaluation.inputs import Evaluation, Model
from trainer.reports.evaluation.predictions import Quality
from trainer.reports.plots import Plot


def quality(evaluation: Evaluation, models: list[Model]) -> Quality:
    """Draw how well two classes are told apart, and whether probabilities can be believed."""
    target, name = evaluation.target, label(evaluation.config.model.target)
    base_rate = float(target.mean())
    figures = []
    if 0 < base_rate < 1:
        metrics = {
            role: score.metrics
            for role, score in (("candidate", evaluation.result.candidate), ("champion", evaluation.result.champion))
            if score is not None
        }

        def named(model: Model, metric: str) -> str:
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
    return Quality(
        figures=[*figures, *calibration],
        matrices=[
            confusion.matrix(model, curves.confusion(target, answer, 2), [f"{name} = 0", f"{name} = 1"])
            for model, answer in predicted
        ],
        matrix_note=f"A row is taken for {name} = 1 from a probability of one half. {percent(base_rate)} of the rows "
        f"are {name} = 1. {confusion.NOTE}",
        models=models,
    )


def _calibration_plot(evaluation: Evaluation, models: list[Model]) -> list[Plot]:
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
