"""What a validation found: the content of ``validate.json``, from which the readable report is made."""

from __future__ import annotations

from datetime import datetime
from typing import Literal

from pydantic import Field

from mlplatform.config.base import Severity, Strict
from mlplatform.documents.base import Document
from mlplatform.documents.results import FileReport

Expectation = Literal[
    "landed",
    "configured",
    "readable",
    "columns",
    "types",
    "rows",
    "nulls",
    "finite",
    "range",
    "categories",
    "pattern",
    "unique key",
    "freshness",
    "label balance",
    "drift",
]


class Finding(Strict):
    """Something that is not as expected."""

    severity: Severity
    expectation: Expectation
    message: str
    """One line: where, what is wrong, what to do."""
    uris: list[str] = Field(default=[])
    """The files at fault."""
    table: str | None = None
    column: str | None = None
    rows: int | None = None
    """How many rows are not as expected, where it is rows."""
    example_columns: list[str] = Field(default=[])
    example_rows: list[list[str | None]] = Field(default=[])
    """A few of the rows, as text; None is null."""


class ClassCount(Strict):
    """How many examples a class has."""

    name: str
    rows: int


class Balance(Strict):
    """How the examples are spread over the classes."""

    note: str | None = None
    """Why it was not measured."""
    failed: bool = False
    """Whether it should have been measured and could not be."""
    classes: list[ClassCount] = Field(default=[])
    """The rarest first; of very many the first ones."""
    number_of_classes: int = 0
    rows: int = 0


class ColumnDrift(Strict):
    """A column of the new files beside the champion's training data, over the same bins."""

    psi: float | None = None
    note: str | None = None
    """Why it was not measured."""
    bins: list[str] = Field(default=[])
    reference: list[int] = Field(default=[])
    current: list[int] = Field(default=[])
    """Rows in each bin."""
    most: str | None = None
    """What moved most, and its shares of the rows."""
    before: float | None = None
    now: float | None = None
    drifted: bool = False


class TableDrift(Strict):
    """The columns of a table."""

    note: str | None = None
    """Why nothing of the table was measured."""
    rows: int = 0
    reference_rows: int = 0
    columns: dict[str, ColumnDrift] = Field(default={})


class DriftReport(Strict):
    """The new files against the champion's training data."""

    note: str | None = None
    """Why nothing was measured."""
    champion: str | None = None
    """Version of the registered model."""
    tables: dict[str, TableDrift] = Field(default={})


class ColumnFacts(Strict):
    """What a page tells about a column beyond its profile."""

    type: str
    distinct: int
    """About how many different values it has."""
    minimum: str | None = None
    maximum: str | None = None


class TableFacts(Strict):
    """The readable files of a table taken together."""

    rows: int
    columns: dict[str, ColumnFacts]


class ValidationDocument(Document):
    """``validate.json``: all that a validation found, whether it passed or not."""

    dataset: str
    description: str
    run_key: str
    passed: bool
    started_at: datetime
    finished_at: datetime
    files: list[FileReport]
    findings: list[Finding]
    balance: Balance
    drift: DriftReport
    tables: dict[str, TableFacts]

    def of(self, severity: Severity) -> list[Finding]:
        """Return the findings of a severity, in the order they were found."""
        return [finding for finding in self.findings if finding.severity == severity]
