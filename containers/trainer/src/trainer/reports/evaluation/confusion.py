"""Confusion matrices."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from trainer.reports.evaluation.inputs import Model

NOTE = "Percentages are of the actual class: each row adds up to 100 %. Below them, the number of test rows."


@dataclass(frozen=True)
class Cell:
    """Rows of one actual class that were predicted as one class."""

    share: float | None
    rows: int
    shade: int
    """Percent of the role's colour."""


@dataclass(frozen=True)
class Matrix:
    """A model's confusion matrix, as the page shows it."""

    name: str
    role: str
    classes: list[str]
    cells: list[list[Cell]]


def matrix(model: Model, counts: NDArray[np.int64], classes: list[str]) -> Matrix:
    """Return what the page shows of a confusion matrix.

    Args:
        counts: rows by actual class and predicted class.
    """
    cells = []
    for row in counts.tolist():
        total = sum(row)
        shares = [value / total if total else None for value in row]
        cells.append([Cell(share, value, round(55 * (share or 0))) for share, value in zip(shares, row, strict=True)])
    return Matrix(model.name, model.role, classes, cells)
