"""A few held-out rows: for the smoke test of an endpoint, and to show people."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mlplatform.documents.evaluation import Example, Examples
from trainer import sql
from trainer.data import Dataset, plain

EXAMPLES = 20


def pick_examples(
    paths: Sequence[Path],
    references: Sequence[str],
    features: Sequence[str],
    classes: Sequence[str] | None,
    dataset: Dataset,
    predictions: NDArray[np.float64],
    seed: int,
) -> Examples:
    """Return a few rows, drawn by seed, with their predictions and the columns that people know them by.

    Only rows whose prediction is finite: nothing else can be compared, or written as JSON.

    Args:
        paths: the split's files, from which `dataset` was loaded.
        references: columns of the files.
        features: what the model is asked with.
        classes: names of the classes where the target is one of several, else None.
    """
    finite = np.flatnonzero(np.isfinite(predictions.reshape(dataset.rows, -1)).all(axis=1))
    chosen = np.sort(np.random.default_rng(seed).choice(finite, min(EXAMPLES, len(finite)), replace=False))
    rows = chosen.tolist()
    return Examples(
        examples=[
            Example(
                features={name: plain(dataset.columns[name][index]) for name in features},
                prediction=predictions[index].tolist(),
                target=float(dataset.target[index]) if classes is None else classes[int(dataset.target[index])],
                references={name: plain(value) for name, value in zip(references, reference, strict=True)},
            )
            for index, reference in zip(rows, _references(paths, references, rows), strict=True)
        ]
    )


def _references(paths: Sequence[Path], names: Sequence[str], rows: Sequence[int]) -> list[tuple[Any, ...]]:
    """Read some columns of some rows, given by their ascending position in the files taken together."""
    if not names or not rows:
        return [() for _ in rows]
    files = sql.files(list(paths))
    with sql.connect(paths[0].parent) as connection:
        types = {row[0]: row[1] for row in connection.execute(f"describe from {files}").fetchall()}
        # Text for what JSON has no type for, such as times.
        as_is = sql.INTEGERS | sql.FLOATS | {"BOOLEAN"}
        select = ", ".join(
            f"{sql.identifier(name)}{'' if types[name] in as_is else '::varchar'} as c{index}"
            for index, name in enumerate(names)
        )
        wanted = ", ".join(str(index) for index in rows)
        # DuckDB scans in the order of files and rows, and numbers the rows as they come.
        return connection.execute(
            f"select * exclude (position) from (select {select}, row_number() over () - 1 as position from {files}) "
            f"where position in ({wanted}) order by position"
        ).fetchall()
