"""What a data set looks like, in numbers: transformations are fitted from it, drift is measured against it."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from mlplatform.config.base import Strict
from mlplatform.documents.base import Document

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
