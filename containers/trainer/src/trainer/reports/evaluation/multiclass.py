"""Predictions of several classes: confusion matrix, scores and ROC curve of each class."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from trainer.evaluation import curves
from trainer.metrics import roc_auc
from trainer.reports import label, plots
from trainer.reports.evaluation import confusion
from trainer.reports.evaluation.inputs import Evaluation, Model, Vector
from trainer.reports.evaluation.predictions import ClassRow, Quality

_MATRIX = 10
_CLASSES = 30
_PANELS = 12


def quality(evaluation: Evaluation, models: list[Model]) -> Quality:
    """Draw how well each class is found; of many classes, the most frequent."""
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
        matrices.append(confusion.matrix(model, lumped, [*names, "all others"] if others else names))
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
    return Quality(
        wide=wide,
        matrices=matrices,
        matrix_note=f"The likeliest class is the answer. {confusion.NOTE}"
        + (
            f" The {_MATRIX - 1} most frequent classes are shown, the others together."
            if len(kept) < len(classes)
            else ""
        ),
        class_rows=[
            ClassRow(label(classes[index]), int(rows[index]), [table[index] for table in tables]) for index in listed
        ],
        class_note=f"The {_CLASSES} most frequent of {len(classes)} classes." if len(classes) > _CLASSES else "",
        models=models,
    )


def _class_auc(target: Vector, predictions: NDArray[np.float64], index: int) -> float | None:
    value = roc_auc((target == index).astype(np.float64), predictions[:, index])
    return value if math.isfinite(value) else None
