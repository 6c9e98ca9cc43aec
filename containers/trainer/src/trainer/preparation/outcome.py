"""What the aggregates of a plan say: splits, profile, or why the data cannot be learned from. Pure."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import batched
from typing import Any

from mlplatform.config.dataset import ModelConfig
from mlplatform.documents.profiles import BINS, CategoryProfile, ColumnProfile, DataProfile, NumberProfile
from mlplatform.documents.results import Split
from mlplatform.errors import NonRetryableError
from trainer.preparation.plan import PARTS, SETS, Plan, Statement, categories, key_columns, numbers

Row = Mapping[str, Any]
Answers = Mapping[str, Sequence[Row]]
"""Rows of each statement, by its name."""

LEAK_ROWS = 50
"""In fewer rows a feature may equal the target by chance."""
_EPOCH = datetime(1970, 1, 1)


@dataclass(frozen=True)
class Summary:
    """A part of the data, without its files."""

    rows: int
    class_shares: dict[str, float] | None
    target_mean: float | None
    start: datetime | None
    end: datetime | None

    def split(self, uris: Sequence[str]) -> Split:
        """Return it with its files."""
        return Split(
            uris=list(uris),
            rows=self.rows,
            class_shares=self.class_shares,
            target_mean=self.target_mean,
            start=self.start,
            end=self.end,
        )


def check_limits(statement: Statement, rows: Sequence[Row]) -> None:
    """Refuse an aggregate with more rows than anything can be made of."""
    if statement.most_rows is not None and len(rows) > statement.most_rows:
        raise NonRetryableError(statement.otherwise, kind="bad-config")


def dropped(model: ModelConfig, facts: Row) -> int:
    """Return how many rows have no target or no key.

    Raises:
        NonRetryableError: no row is left, or a binary target is neither 0 nor 1.
    """
    source = f"config/models/{model.name}.yaml"
    if facts["not_binary"]:
        raise NonRetryableError(
            f"{source}: target {model.target}: {facts['not_binary']} rows are neither 0 nor 1, as a binary task needs",
            kind="bad-config",
        )
    if not facts["rows"]:
        raise NonRetryableError(f"{source}: query: gives no example from the files that landed")
    if not facts["valid"]:
        keys = ", ".join(key_columns(model))
        raise NonRetryableError(
            f"{source}: query: gives no example from the files that landed: of {facts['rows']} rows "
            f"{facts['no_target']} have no {model.target}, the others no {keys}"
        )
    gone: int = facts["rows"] - facts["valid"]
    return gone


def summarise(plan: Plan, answers: Answers) -> tuple[dict[str, Summary], DataProfile]:
    """Return the parts, and the profile of the train split.

    Raises:
        NonRetryableError: a part has no rows, or nothing can be learned from or measured on it, or a feature is the
            answer.
    """
    model = plan.model
    outcomes = {part: [row for row in answers["outcomes"] if row["part"] == part] for part in PARTS}
    for part, rows in outcomes.items():
        if not rows:
            raise NonRetryableError(_empty(model, part))
    _check_leaks(model, sum(row["rows"] for row in answers["outcomes"]), answers["leaks"])
    means = _target_means(answers) if model.task == "regression" else {}
    summaries = {}
    shares: dict[str, float] | None
    mean: float | None
    for part, rows in outcomes.items():
        if model.task == "regression":
            _check_varies(model, part, rows[0])
            shares, mean = None, means[part]
        else:
            shares, mean = _class_shares(model, part, rows)
        summaries[part] = Summary(
            rows=sum(row["rows"] for row in rows),
            class_shares=shares,
            target_mean=mean,
            start=_time(min(row["first"] for row in rows)) if "first" in rows[0] else None,
            end=_time(max(row["last"] for row in rows)) if "last" in rows[0] else None,
        )
    classes = None
    if model.task != "regression":
        classes = sorted(row["class"] for row in outcomes["train"])
        _check_classes(model, classes, outcomes)
    profile = DataProfile(
        rows=summaries["train"].rows, columns=_columns(plan, answers, summaries["train"].rows), classes=classes
    )
    return summaries, profile


def _empty(model: ModelConfig, part: str) -> str:
    split = model.split
    if split.kind == "time":
        days = split.validation_days + split.test_days
        return (
            f"split {part}: no rows; the data must span more than the {days} days that validation and test take: "
            "land more of it, or lower validation_days and test_days"
        )
    drawn = "groups" if split.kind == "group" else "rows"
    return (
        f"split {part}: no rows; too few different {drawn} to draw from by {', '.join(key_columns(model))}: land more "
        "data, or change validation_share, test_share or the key"
    )


def _class_shares(model: ModelConfig, part: str, rows: Sequence[Row]) -> tuple[dict[str, float], float | None]:
    total = sum(row["rows"] for row in rows)
    if len(rows) < 2:
        raise NonRetryableError(
            f"split {part}: all {total} rows have {model.target} = {rows[0]['class']}, so nothing can be learned or "
            "measured; land more data or correct the query"
        )
    shares = {row["class"]: row["rows"] / total for row in sorted(rows, key=lambda row: str(row["class"]))}
    return shares, shares["1"] if model.task == "binary" else None


def _check_classes(model: ModelConfig, classes: Sequence[str], outcomes: Mapping[str, Sequence[Row]]) -> None:
    for part in ("validation", "test"):
        if new := sorted({row["class"] for row in outcomes[part]} - set(classes)):
            raise NonRetryableError(
                f"split {part}: {model.target} = {', '.join(map(repr, new))} is not in the train split, so no model "
                "can know it; land more data, group rare classes in the query, or change the split"
            )


def _check_varies(model: ModelConfig, part: str, row: Row) -> None:
    if row["lowest"] == row["highest"]:
        raise NonRetryableError(
            f"split {part}: all {row['rows']} rows have {model.target} = {row['lowest']:g}, so nothing can be learned "
            "or measured; land more data or correct the query"
        )


def suspects(model: ModelConfig, rows: Sequence[Row]) -> list[str]:
    """Return the features that `Plan.leaks` of some rows does not rule out to be the target under another name.

    A feature that it was not asked for is none of them.
    """
    if model.task == "regression":
        return [
            name
            for number, name in enumerate(model.features)
            if all(row.get(f"same_{number}") == row["rows"] for row in rows)
        ]
    return [name for number, name in enumerate(model.features) if _is_one_to_one(rows, number)]


def _is_one_to_one(rows: Sequence[Row], number: int) -> bool:
    """Tell whether a feature has one value in each class, never missing, and another one in each."""
    lows = [row.get(f"low_{number}") for row in rows]
    alike = all(
        row.get(f"there_{number}") == row["rows"] and low == row[f"high_{number}"]
        for row, low in zip(rows, lows, strict=True)
    )
    return alike and len(set(lows)) == len(lows)


def _check_leaks(model: ModelConfig, total: int, rows: Sequence[Row]) -> None:
    """Refuse a feature that is the target under another name."""
    if total < LEAK_ROWS or (model.task != "regression" and len(rows) < 2):
        return
    for name in suspects(model, rows):
        raise NonRetryableError(
            f"config/models/{model.name}.yaml: features.{name}: tells {model.target} on each of {total} rows, so "
            "it is the answer under another name; take it out of the features (it can stay in references)",
            kind="bad-config",
        )


def _target_means(answers: Answers) -> dict[str, float]:
    return {
        part: _combine(sorted((row for row in answers["targets"] if row["part"] == part), key=_chunk), 0)[1]
        for part in PARTS
    }


def _chunk(row: Row) -> Any:
    return row["chunk"]


def _combine(chunks: Iterable[Row], number: int) -> tuple[int, float, float]:
    """Return number, mean and population variance of all chunks (Chan, Golub and LeVeque, 1979)."""
    filled = [row for row in chunks if row[f"there_{number}"]]
    counts = [row[f"there_{number}"] for row in filled]
    means = [row[f"mean_{number}"] for row in filled]
    there = sum(counts)
    if not there:
        return 0, 0.0, 0.0
    # fsum is exact: its result does not depend on the order.
    mean = math.fsum(count / there * mean for count, mean in zip(counts, means, strict=True))
    squares = [row[f"variance_{number}"] + (own - mean) * (own - mean) for row, own in zip(filled, means, strict=True)]
    return there, mean, math.fsum(count / there * square for count, square in zip(counts, squares, strict=True))


def _columns(plan: Plan, answers: Answers, rows: int) -> dict[str, ColumnProfile]:
    model = plan.model
    values = _counted(answers, "categories", categories(model))
    bins = _counted(answers, "bins", numbers(model))
    chunks = sorted(answers.get("moments", []), key=_chunk)
    columns: dict[str, ColumnProfile] = {}
    for name in model.features:
        if name in values:
            missing = values[name].pop(None, 0)
            counts = {str(value): count for value, count in values[name].items()}
            columns[name] = CategoryProfile(missing=missing, counts=dict(sorted(counts.items())))
        else:
            columns[name] = _number(model, name, chunks, numbers(model).index(name), rows, bins[name])
    return columns


def _number(
    model: ModelConfig, name: str, chunks: Sequence[Row], number: int, rows: int, bins: Mapping[Any, int]
) -> NumberProfile:
    there, mean, variance = _combine(chunks, number)
    if not (math.isfinite(mean) and math.isfinite(variance)):
        raise NonRetryableError(too_large(f"features.{name}", model))
    filled = [row for row in chunks if row[f"there_{number}"]]
    return NumberProfile(
        missing=rows - there,
        mean=mean,
        deviation=math.sqrt(variance),
        minimum=min((row[f"low_{number}"] for row in filled), default=0.0),
        maximum=max((row[f"high_{number}"] for row in filled), default=0.0),
        # The largest number is by itself in bin `BINS`.
        histogram=[*(bins.get(index, 0) for index in range(BINS - 1)), bins.get(BINS - 1, 0) + bins.get(BINS, 0)],
    )


def too_large(key: str, model: ModelConfig) -> str:
    """Say that numbers are beyond what can be standardised."""
    return (
        f"config/models/{model.name}.yaml: {key}: its numbers are so large that their variance is beyond "
        "floating-point numbers; scale them in the query"
    )


def _counted(answers: Answers, kind: str, names: Sequence[str]) -> dict[str, dict[Any, int]]:
    """Return each column's counts, by value, from the grouping sets of `plan`."""
    counted: dict[str, dict[Any, int]] = {name: {} for name in names}
    for index, group in enumerate(batched(names, SETS)):
        for row in answers[f"{kind}_{index}"]:
            number = next(number for number in range(len(group)) if not row[f"others_{number}"])
            counted[group[number]][row[f"value_{number}"]] = row["rows"]
    return counted


def _time(microseconds: int) -> datetime:
    return _EPOCH + timedelta(microseconds=microseconds)
