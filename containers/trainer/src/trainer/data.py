"""Prepared examples in memory: a column per name, as `modelformat` takes them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from mlplatform import storage
from mlplatform.results import PrepareResult, Split
from mlplatform.steps import RESULT, Refused
from trainer import sql

Columns = dict[str, NDArray[Any]]
Kind = Literal["number", "category"]


@dataclass(frozen=True)
class Dataset:
    """Examples of one split.

    Attributes:
        columns: by name, each (rows,): float64 with NaN where missing, or text objects with None.
        target: float64 (rows,) of 0 and 1.
    """

    columns: Columns
    target: NDArray[np.float64]

    @property
    def rows(self) -> int:
        """Number of examples."""
        return len(self.target)


def read_prepared(prefix: str) -> PrepareResult:
    """Read the result of step prepare.

    Raises:
        Refused: it is not there.
    """
    try:
        return storage.read_document(storage.join(prefix, RESULT), PrepareResult)
    except storage.StorageError as error:
        raise Refused(f"{error} (--input must be the output of step prepare)", kind="bad-config") from None


def fetch(split: Split, folder: Path) -> Path:
    """Download a split."""
    return storage.download(split.uri, folder / Path(split.uri).name)


def load(path: Path, kinds: Mapping[str, Kind], target: str) -> Dataset:
    """Read the named columns of a prepared split.

    Raises:
        Refused: the file has no such column.
    """
    import duckdb

    def as_kind(name: str, kind: Kind) -> str:
        return f"{sql.identifier(name)}::{'double' if kind == 'number' else 'varchar'} as {sql.identifier(name)}"

    select = [as_kind(name, kind) for name, kind in kinds.items()]
    with sql.connect(path.parent) as connection:
        try:
            cursor = connection.execute(
                f"select {', '.join([*select, f'{sql.identifier(target)}::double'])} from {sql.files([path])}"
            )
            *values, answers = cursor.fetchnumpy().values()
        except (duckdb.BinderException, duckdb.ConversionException) as error:
            raise Refused(f"{path.name}: {str(error).splitlines()[0]}", kind="bad-config") from None
    columns = {name: _dense(value) for name, value in zip(kinds, values, strict=True)}
    return Dataset(columns, np.asarray(_dense(answers), dtype=np.float64))


def _dense(values: NDArray[Any]) -> NDArray[Any]:
    """Write missing values into the array itself: NaN or None."""
    if not isinstance(values, np.ma.MaskedArray):
        return values
    filled: NDArray[Any] = values.filled(None if values.dtype == object else np.nan)
    return filled
