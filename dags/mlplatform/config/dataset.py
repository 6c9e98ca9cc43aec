"""``config/models/<dataset>.yaml``: one prediction task, its data, features, split, metric and policy."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from mlplatform.config.base import METRICS, RESERVED_NAMES, Label, Metric, Name, Severity, Strict, TaskKind
from mlplatform.config.family import FamilyConfig
from mlplatform.config.policy import Policy

ColumnType = Literal["integer", "number", "string", "boolean", "timestamp"]


class Column(Strict):
    """What a column of a landing file must look like."""

    type: ColumnType
    nullable: bool = False
    maximum_null_share: Annotated[float, Field(ge=0, lt=1)] | None = Field(
        default=None, description="Share of a file's rows that may be without a value; the column must be nullable."
    )
    required_when: str | None = Field(
        default=None, description="SQL condition on the row; where it holds, the value must be there and finite."
    )
    minimum: float | None = None
    maximum: float | None = None
    allowed: list[str] | None = None
    pattern: str | None = Field(
        default=None,
        description="Regular expression (RE2) that a text must match from its first to its last character.",
    )
    severity: Severity = Field(
        default="fail",
        description="What becomes of a file whose values are not as expected; a missing column or a wrong type always "
        "fails.",
    )
    drift: bool = Field(
        default=True,
        description="Whether it is compared with the champion's training data; false for what moves with time, such as "
        "a month. Timestamps and a key of one column never are.",
    )

    @model_validator(mode="after")
    def _makes_sense(self) -> Self:
        if self.maximum_null_share is not None and not self.nullable:
            raise ValueError("maximum_null_share needs `nullable: true`; without it no null is allowed at all")
        if self.pattern is not None and self.type != "string":
            raise ValueError(f"pattern is for texts, not for type {self.type}")
        return self


class Freshness(Strict):
    """How old the newest row of a table may be when it is validated."""

    column: str = Field(description="Timestamp column that says when a row came about; UTC without a time zone.")
    maximum_age_hours: Annotated[float, Field(gt=0)]
    severity: Severity = "fail"


class Table(Strict):
    """Files of one kind under ``s3://<landing>/<dataset>/<table>/``."""

    trigger: bool = Field(default=False, description="Whether a new file of this table starts a run; land it last.")
    minimum_rows: Annotated[int, Field(ge=1)] = Field(default=1, description="Of a file.")
    maximum_rows: Annotated[int, Field(ge=1)] | None = Field(default=None, description="Of a file.")
    columns: dict[str, Column]
    unique_key: list[str] = Field(default=[], description="Columns that name a row of the table; nulls never collide.")
    freshness: Freshness | None = None
    severity: Severity = Field(default="fail", description="Of the number of rows and of the unique key.")

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.maximum_rows is not None and self.maximum_rows < self.minimum_rows:
            raise ValueError(f"maximum_rows ({self.maximum_rows}) is below minimum_rows ({self.minimum_rows})")
        if unknown := [name for name in self.unique_key if name not in self.columns]:
            raise ValueError(f"unique_key: {unknown[0]!r} is not one of the table's columns")
        if self.freshness is not None:
            column = self.columns.get(self.freshness.column)
            if column is None or column.type != "timestamp":
                raise ValueError(f"freshness.column: {self.freshness.column!r} is not a timestamp column of the table")
        return self


class Feature(Strict):
    """How a column of the query enters the model."""

    type: Literal["number", "category"]


class TimeSplit(Strict):
    """The latest days test the model, those before validate it, all earlier ones train it."""

    kind: Literal["time"]
    column: str
    validation_days: Annotated[int, Field(ge=1)]
    test_days: Annotated[int, Field(ge=1)]


class RandomSplit(Strict):
    """Each example's part is drawn by a hash of its key, so it stays there when data is added."""

    kind: Literal["random"]
    key: Annotated[list[str], Field(min_length=1)] = Field(description="Columns of the query that name an example.")
    seed: int = 0
    validation_share: Annotated[float, Field(gt=0, lt=1)] = 0.2
    test_share: Annotated[float, Field(gt=0, lt=1)] = 0.2

    @model_validator(mode="after")
    def _leaves_something_to_train_on(self) -> Self:
        _check_shares(self)
        return self


class GroupSplit(Strict):
    """All examples of a group are in the same part; groups are drawn by hash, as in `RandomSplit`."""

    kind: Literal["group"]
    column: str
    seed: int = 0
    validation_share: Annotated[float, Field(gt=0, lt=1)] = 0.2
    test_share: Annotated[float, Field(gt=0, lt=1)] = 0.2

    @model_validator(mode="after")
    def _leaves_something_to_train_on(self) -> Self:
        _check_shares(self)
        return self


def _check_shares(split: RandomSplit | GroupSplit) -> None:
    if split.validation_share + split.test_share > 0.9:
        raise ValueError(
            f"validation_share and test_share leave {1 - split.validation_share - split.test_share:.0%} to train on; "
            "at least 10 % are needed"
        )


SplitPlan = Annotated[TimeSplit | RandomSplit | GroupSplit, Field(discriminator="kind")]


class LabelBalance(Strict):
    """How rare the rarest class may be among the examples that the query makes of a run's files."""

    minimum_share: Annotated[float, Field(gt=0, lt=0.5)] = 0.01
    severity: Severity = "warn"


class Drift(Strict):
    """How far the distribution of a column of the new files may be from the files that the champion was trained on."""

    maximum_psi: Annotated[float, Field(gt=0)] = Field(
        default=0.25, description="Population stability index; above 0.25 is commonly called a significant shift."
    )
    minimum_rows: Annotated[int, Field(ge=1)] = Field(default=200, description="With fewer it is not measured.")
    severity: Severity = "warn"


class Checks(Strict):
    """What is expected of the data as a whole; None leaves a check out."""

    label_balance: LabelBalance | None = LabelBalance()
    drift: Drift | None = Drift()


class ModelConfig(Strict):
    """``config/models/<dataset>.yaml``: one prediction task from landing files to promotion policy."""

    name: Name
    description: str
    owner: Annotated[Label, Field(max_length=500)]
    registered_model: Name
    task: TaskKind
    tables: dict[Name, Table]
    query: str = Field(
        description="DuckDB SQL over the tables: one row per example with the features, the target, the split column "
        "and the reference columns."
    )
    target: str
    features: dict[str, Feature]
    references: list[str] = Field(default=[], description="Columns kept beside an example for people; never features.")
    split: SplitPlan
    metric: Metric
    checks: Checks = Checks()
    slices: list[str] = Field(default=[], description="Category features by which the evaluation is broken down.")
    families: dict[Name, FamilyConfig]
    policy: Policy

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.name in RESERVED_NAMES:
            raise ValueError(
                f"name: {self.name!r} is a folder of the landing bucket that is no dataset's; choose another"
            )
        if self.metric not in METRICS[self.task]:
            raise ValueError(
                f"metric: a {self.task} task has no {self.metric!r}: choose from {', '.join(METRICS[self.task])}"
            )
        for name in self.slices:
            if name not in self.features or self.features[name].type != "category":
                raise ValueError(f"slices: {name!r} is not a category feature")
        if self.target in self.features:
            raise ValueError(f"features.{self.target}: the target cannot be a feature (it would leak the answer)")
        if self.target in self.references:
            raise ValueError(f"references: {self.target!r} is the target, which is kept beside an example anyway")
        if leaked := sorted(set(self.references) & set(self.features)):
            raise ValueError(f"features.{leaked[0]}: a reference column cannot be a feature")
        triggers = sorted(name for name, table in self.tables.items() if table.trigger)
        if len(triggers) != 1:
            raise ValueError(
                "tables: exactly one of them needs `trigger: true`, the one whose files start a run "
                f"(got {', '.join(triggers) or 'none'})"
            )
        if not self.features:
            raise ValueError("features: at least one is needed")
        if not self.families:
            raise ValueError("families: at least one is needed")
        try:
            self.policy.check(self.metric)
        except ValueError as error:
            raise ValueError(f"policy.{error}") from None
        return self

    @property
    def trigger_table(self) -> str:
        """Name of the table whose new files start a run."""
        return next(name for name, table in self.tables.items() if table.trigger)
