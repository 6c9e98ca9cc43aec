"""What the section on predictions can show, whatever the task."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from trainer.evaluation import curves
from trainer.reports.evaluation.confusion import Matrix
from trainer.reports.evaluation.inputs import Model
from trainer.reports.plots import Plot


@dataclass(frozen=True)
class ClassRow:
    """Scores of one class against all others, of each model."""

    name: str
    rows: int
    models: list[dict[str, float | None]]


@dataclass(frozen=True)
class Quality:
    """Plots and tables of one kind of task."""

    figures: Sequence[Plot] = ()
    wide: Sequence[Plot] = ()
    matrices: Sequence[Matrix] = ()
    matrix_note: str = ""
    class_rows: Sequence[ClassRow] = ()
    class_note: str = ""
    models: Sequence[Model] = ()
    deciles: Sequence[tuple[str, int, list[curves.Decile]]] = ()
