"""Data sets that land on the local platform as they would in life: one batch after another.

A data set is a module of this package that has what `Dataset` asks for; what its files mean is in
``config/models/<name>.yaml``. None is needed to train on data of your own: see ``docs/how-to/add-a-dataset.md``.
"""

from __future__ import annotations

from collections.abc import Sequence
from importlib import import_module
from typing import TYPE_CHECKING, Any, Protocol, cast

if TYPE_CHECKING:
    import pyarrow as pa

DATASETS = ("flights", "housing", "iris", "titanic")
"""Names of the data sets, as in ``config/models``."""


class Dataset(Protocol):
    """What a module of a data set has."""

    @property
    def DATASET(self) -> str:
        """Its name."""

    @property
    def TABLES(self) -> tuple[str, ...]:
        """In landing order: the table whose arrival starts a run comes last."""

    @property
    def BATCHES(self) -> Sequence[str]:
        """What to call each batch, in the order they land."""

    def batch_tables(self, batch: int) -> dict[str, pa.Table]:
        """Return what lands with a batch, counted from 1, by table.

        Raises:
            ValueError: there is no such batch.
            DataMissing: the package with the data is not installed.
        """

    def land(self, batch: int, s3_client: Any, bucket: str) -> dict[str, str]:
        """Put a batch's files into the landing bucket, the table that starts a run last.

        Returns:
            The object key of each table. The same batch always has the same bytes.
        """


def load(name: str) -> Dataset:
    """Return a data set.

    Raises:
        ValueError: there is none of that name.
    """
    if name not in DATASETS:
        raise ValueError(f"there are no example files of dataset {name!r}: choose from {', '.join(DATASETS)}")
    return cast(Dataset, import_module(f"local.datasets.{name}"))
