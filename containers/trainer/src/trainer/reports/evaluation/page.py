"""The page: each section filled in."""

from __future__ import annotations

from trainer.reports import render
from trainer.reports.evaluation import (
    binary,
    lineage,
    metrics,
    multiclass,
    regression,
    running,
    slices,
    summary,
    training,
)
from trainer.reports.evaluation.inputs import Evaluation, drawable
from trainer.reports.evaluation.predictions import Quality


def evaluation_report(evaluation: Evaluation) -> str:
    """Return the page; the same evaluation gives the same bytes."""
    config, result = evaluation.config, evaluation.result
    models = drawable(evaluation)
    draw = {"binary": binary.quality, "multiclass": multiclass.quality, "regression": regression.quality}[
        config.model.task
    ]
    return render(
        "evaluation.html.j2",
        name=config.model.name,
        description=config.model.description,
        result=result,
        itself=result.champion is not None and evaluation.champion is None,
        candidate_family=evaluation.candidate_family,
        champion_family=evaluation.champion_family,
        verdict=summary.verdict(evaluation),
        tiles=summary.tiles(evaluation),
        interval_plot=summary.interval_plot(config.model.metric, result.improvement, evaluation.champion is not None),
        warnings=summary.warnings(evaluation),
        metrics=metrics.table(result),
        metric_name=metrics.METRIC_NAMES[config.model.metric],
        chosen=config.model.metric,
        task=config.model.task,
        quality=draw(evaluation, models) if models and len(evaluation.target) else Quality(),
        training=training.section(evaluation),
        slices=slices.sections(evaluation),
        slices_configured=config.model.slices,
        running=running.costs(result),
        lineage=lineage.facts(evaluation),
        splits=lineage.splits(evaluation.prepared),
    )
