"""Predictions of a number: errors, and predicted against actual."""

from __future__ import annotations

import numpy as np

from trainer.evaluation import curves
from trainer.reports import decimal, label, plots
from trainer.reports.evaluation.inputs import Evaluation, Model
from trainer.reports.evaluation.predictions import Quality


def quality(evaluation: Evaluation, models: list[Model]) -> Quality:
    """Draw how large the errors are, and where."""
    target, name = evaluation.target, label(evaluation.config.model.target)
    low, high = curves.span(target, *(model.predictions for model in models))
    edges = np.linspace(low, high, curves.CELLS + 1)
    errors = [model.predictions - target for model in models]
    low, high = curves.span(*errors, tail=0.005)
    reach = max(abs(low), abs(high))
    bins = np.linspace(-reach, reach, 41)
    found = [curves.deciles(target, model.predictions) for model in models]
    return Quality(
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
