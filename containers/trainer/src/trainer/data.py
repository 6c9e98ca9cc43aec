"""Prepared examples in memory: a column per name, as `modelformat` takes them."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from mlplatform.config.base import Scalar
from mlplatform.documents.profiles import DataProfile
from mlplatform.documents.results import PrepareResult, Split
from mlplatform.errors import NonRetryableError, StorageError
from mlplatform.steps import RESULT
from mlplatform.storage import download, join, read_document
from trainer import sql

Columns = dict[str, NDArray[Any]]
Kind = Literal["number", "category"]


@dataclass(frozen=True)
class Dataset:
    """Examples of one split.

    Attributes:
        columns: by name, each (rows,): float64 with NaN where missing, or text objects with None.
        target: float64 (rows,): 0 and 1, or the number to predict, or of several classes the position in
            `DataProfile.classes`.
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
        NonRetryableError: it is not there.
    """
    try:
        return read_document(join(prefix, RESULT), PrepareResult)
    except StorageError as error:
        raise NonRetryableError(f"{error} (--input must be the output of step prepare)", kind="bad-config") from None


def read_profile(prepared: PrepareResult) -> DataProfile:
    """Read what the train split looks like.

    Raises:
        NonRetryableError: it is not there, or is of another version.
    """
    try:
        return read_document(prepared.profile_uri, DataProfile)
    except StorageError as error:
        raise NonRetryableError(f"{error}; prepare the data again", kind="bad-config") from None


def fetch(split: Split, folder: Path) -> list[Path]:
    """Download a split's files into a folder; their order is that of the split."""
    paths = []
    for index, uri in enumerate(split.uris):
        # Parts of different splits may be called the same; their folder tells them apart.
        parent, name = uri.rsplit("/", 2)[-2:]
        paths.append(download(uri, folder / f"{index:05d}-{parent}-{name}"))
    return paths


def load(
    paths: Sequence[Path], kinds: Mapping[str, Kind], target: str, classes: Sequence[str] | None = None
) -> Dataset:
    """Read the named columns of a prepared split.

    Args:
        paths: its files, in order.
        classes: names of the classes, where the target is the name of one: `DataProfile.classes`, or those of a
            model's manifest.

    Raises:
        NonRetryableError: the files have no such column, or a class that is not among `classes`.
    """
    import duckdb

    def as_kind(name: str, kind: Kind) -> str:
        return f"{sql.identifier(name)}::{'double' if kind == 'number' else 'varchar'} as {sql.identifier(name)}"

    files = sql.files(list(paths))
    answer = sql.identifier(target)
    select = [as_kind(name, kind) for name, kind in kinds.items()]
    with sql.connect(paths[0].parent) as connection:
        try:
            types = {str(row[0]): str(row[1]) for row in connection.execute(f"describe from {files}").fetchall()}
            if types.get(target) == "VARCHAR" and classes is not None:
                position = f"list_position({sql.texts(classes)}, {answer}) - 1"
                _check_classes(connection, files, answer, classes)
            else:
                position = answer
            cursor = connection.execute(f"select {', '.join([*select, f'({position})::double'])} from {files}")
            *values, answers = cursor.fetchnumpy().values()
        except (duckdb.BinderException, duckdb.ConversionException) as error:
            raise NonRetryableError(f"{paths[0].name}: {str(error).splitlines()[0]}", kind="bad-config") from None
    columns = {name: _dense(value) for name, value in zip(kinds, values, strict=True)}
    return Dataset(columns, np.asarray(_dense(answers), dtype=np.float64))


def _check_classes(connection: Any, files: str, answer: str, classes: Sequence[str]) -> None:
    known = sql.texts(classes)
    unknown = connection.execute(
        f"select distinct {answer} from {files} where not list_contains({known}, {answer}) order by 1 limit 5"
    ).fetchall()
    if unknown:
        names = ", ".join(repr(row[0]) for row in unknown)
        raise NonRetryableError(
            f"target {answer}: has {names}, which the model does not know: its classes are "
            f"{', '.join(map(repr, classes))}; train on data that has every class",
            kind="bad-config",
        )


def _dense(values: NDArray[Any]) -> NDArray[Any]:
    """Write missing values into the array itself: NaN or None."""
    if not isinstance(values, np.ma.MaskedArray):
        return values
    filled: NDArray[Any] = values.filled(None if values.dtype == object else np.nan)
    return filled


def plain(value: Any) -> Scalar | None:
    """Return a value as JSON has it: Python's own types, None for what is missing."""
    own = value.item() if isinstance(value, np.generic) else value
    if isinstance(own, float) and not math.isfinite(own):
        return None
    result: Scalar | None = own
    return result
