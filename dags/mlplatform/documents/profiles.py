"""What a data set looks like, in numbers: transformations are fitted from it, drift is measured against it."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field
from pydantic_core import from_json

from mlplatform.config.base import Strict
from mlplatform.documents.base import Document
from mlplatform.errors import StorageError

BINS = 20


class NumberProfile(Strict):
    """A numeric column. Infinite values count as missing."""

    kind: Literal["number"] = "number"
    missing: int
    mean: float
    """Of the values that are there, as all of these; 0 where there is none."""
    deviation: float
    """Standard deviation of the population (divided by the number of values)."""
    minimum: float
    maximum: float
    histogram: list[int]
    """How many values are in each of `BINS` bins of equal width between minimum and maximum; the last has both ends."""


class CategoryProfile(Strict):
    """A textual column."""

    kind: Literal["category"] = "category"
    missing: int
    counts: dict[str, int]
    """How often each value occurs, sorted by value."""


ColumnProfile = Annotated[NumberProfile | CategoryProfile, Field(discriminator="kind")]


class DataProfile(Document):
    """A table or a split, column by column."""

    rows: int
    columns: dict[str, ColumnProfile]
    classes: list[str] | None = None
    """Values of the target in the train split, sorted (`0` and `1` of a binary one); None for a regression."""


def read_profiles(content: bytes | str, source: str) -> dict[str, DataProfile]:
    """Read ``profile.json`` of a validation: the profile of each landed table.

    Raises:
        StorageError: see `Document.read`.
    """
    try:
        found = from_json(content)
    except ValueError as error:
        raise StorageError(f"{source}: not valid JSON: {error}") from None
    if not isinstance(found, dict):
        raise StorageError(f"{source}: not profiles by table: it is no JSON object")
    return {table: DataProfile.read_object(one, f"{source}: {table}") for table, one in found.items()}
