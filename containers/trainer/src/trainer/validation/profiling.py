"""Profiles of a table's files: two streaming passes in DuckDB, in memory that does not grow with the rows.

The first pass takes moments, ends and the candidates for the most frequent values, the second counts: numbers in bins
between the ends, texts by value.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mlplatform.config.dataset import Table
from mlplatform.documents.profiles import BINS, CategoryProfile, ColumnProfile, DataProfile, NumberProfile
from mlplatform.monitoring.drift import Bins, NumberBins
from trainer import sql
from trainer.validation.document import ColumnFacts, TableFacts

if TYPE_CHECKING:
    import duckdb

VALUES = 200
"""Most values of a text column that a profile lists; those that are less frequent are left out."""
LONGEST = 100
"""Characters of a text that tell it from others."""
_HUGE = 1e100
"""Numbers beyond this count as missing: their squares would be infinite."""


def number(column: str) -> str:
    """Return the SQL expression of a numeric column as a double, null where missing."""
    here = sql.identifier(column)
    return f"(case when abs({here}::double) < {_HUGE} then {here}::double end)"


def seconds(column: str) -> str:
    """Return the SQL expression of a time column in seconds since 1970."""
    return f"epoch({sql.identifier(column)}::timestamp)"


def text(column: str) -> str:
    """Return the SQL expression of a text or boolean column as text."""
    return f"left({sql.identifier(column)}::varchar, {LONGEST})"


def expressions(table: Table) -> tuple[dict[str, str], dict[str, str]]:
    """Return the expressions of a table's columns, those that are numbers and those that are texts."""
    numbers: dict[str, str] = {}
    texts: dict[str, str] = {}
    for name, column in table.columns.items():
        if column.type == "timestamp":
            numbers[name] = seconds(name)
        elif column.type in ("integer", "number"):
            numbers[name] = number(name)
        else:
            texts[name] = text(name)
    return numbers, texts


def profile(
    connection: duckdb.DuckDBPyConnection, paths: Sequence[Path], table: Table
) -> tuple[DataProfile, TableFacts]:
    """Describe the files of a table, which must have all its columns in usable types.

    Returns:
        The profile, times as seconds since 1970; and what only a page tells.
    """
    numbers, texts = expressions(table)
    source = sql.files(list(paths))
    select = ["count(*)"]
    for name, value in numbers.items():
        here = sql.identifier(name)
        select += [f"count({value})", f"avg({value})", f"stddev_pop({value})", f"min({value})", f"max({value})"]
        select += [f"approx_count_distinct({value})", f"min({here})::varchar", f"max({here})::varchar"]
    for value in texts.values():
        select += [f"count({value})", f"approx_count_distinct({value})", f"approx_top_k({value}, {VALUES})"]
    row = connection.execute(f"select {', '.join(select)} from {source}").fetchone()
    assert row is not None
    values = iter(row)
    rows = next(values)
    moments = {name: [next(values) for _ in range(8)] for name in numbers}
    frequent = {name: [next(values) for _ in range(3)] for name in texts}

    wanted: dict[str, str] = {}
    for name, (there, _, _, low, high, *_rest) in moments.items():
        if there and low < high:
            wanted[name] = f"histogram({binned(numbers[name], low, high)})"
    counted = _counts(connection, source, wanted)

    columns: dict[str, ColumnProfile] = {}
    facts: dict[str, ColumnFacts] = {}
    for name, column in table.columns.items():
        if name in numbers:
            there, mean, deviation, low, high, distinct, shown_low, shown_high = moments[name]
            bins = counted.get(name, {})
            histogram = [bins.get(index, 0) for index in range(BINS)]
            if there and low == high:
                histogram[-1] = there
            columns[name] = NumberProfile(
                missing=rows - there,
                mean=mean or 0.0,
                deviation=deviation or 0.0,
                minimum=low or 0.0,
                maximum=high or 0.0,
                histogram=histogram,
            )
            facts[name] = ColumnFacts(type=column.type, distinct=distinct, minimum=shown_low, maximum=shown_high)
        else:
            there, distinct, top = frequent[name]
            counts = dict(sorted(_frequencies(connection, source, texts[name], top or []).items()))
            columns[name] = CategoryProfile(missing=rows - there, counts=counts)
            # The sketch is a few percent off, while of a column that is listed whole the number is known.
            exact = len(counts) if sum(counts.values()) == there else distinct
            facts[name] = ColumnFacts(type=column.type, distinct=exact)
    return DataProfile(rows=rows, columns=columns), TableFacts(rows=rows, columns=facts)


def count_in_bins(
    connection: duckdb.DuckDBPyConnection, paths: Sequence[Path], table: Table, bins: Mapping[str, Bins]
) -> tuple[int, dict[str, list[int]]]:
    """Count the rows of files in given bins, reading each column once.

    Returns:
        The number of rows; and of each column the rows in each of its bins.
    """
    numbers, texts = expressions(table)
    source = sql.files(list(paths))
    wanted: dict[str, str] = {}
    for name, chosen in bins.items():
        if isinstance(chosen, NumberBins):
            value = numbers[name]
            if chosen.constant:
                index = f"(case when {value} < {chosen.minimum!r} then 0 when {value} = {chosen.minimum!r} then 1 "
                wanted[name] = f"histogram({index} when {value} > {chosen.minimum!r} then 2 end))"
            else:
                wanted[name] = f"histogram({binned(value, chosen.minimum, chosen.maximum)})"
        else:
            wanted[name] = f"count({texts[name]})"
    wanted["\0"] = "count(*)"
    counted = _counts(connection, source, wanted)
    rows: int = counted["\0"]
    result: dict[str, list[int]] = {}
    for name, chosen in bins.items():
        if isinstance(chosen, NumberBins):
            found = counted[name] or {}
            inner = [int(found.get(index, 0)) for index in range(len(chosen.reference) - 1)]
        else:
            frequencies = _frequencies(connection, source, texts[name], chosen.values)
            known = [frequencies.get(value, 0) for value in chosen.values]
            inner = [*known, counted[name] - sum(known)]
        result[name] = [*inner, rows - sum(inner)]
    return rows, result


def binned(value: str, low: float, high: float) -> str:
    """Return the SQL expression of the bin a number is in: 0 to `BINS` - 1, the outer ones open to their side."""
    # Divided before it is multiplied: the range times the number of bins may be beyond a double.
    place = f"floor(({value} - {low!r}) / {(high - low)!r} * {BINS})"
    return f"(case when {value} is not null then greatest(0, least({BINS - 1}, {place}))::integer end)"


def _frequencies(
    connection: duckdb.DuckDBPyConnection, source: str, value: str, values: Sequence[str]
) -> dict[str, int]:
    """Count the rows of some texts. A join of its own, which reads this column only: an aggregate that filters by a
    list keeps what it has seen, so its memory grows with the rows.
    """
    rows = connection.execute(
        f"select v, count(*) from (select {value} as v from {source}) "
        f"semi join (select unnest({sql.texts(values)}) as v) using (v) group by v"
    ).fetchall()
    return {str(text): int(count) for text, count in rows}


def _counts(connection: duckdb.DuckDBPyConnection, source: str, wanted: Mapping[str, str]) -> dict[str, Any]:
    """Compute named aggregates in one pass."""
    if not wanted:
        return {}
    row = connection.execute(f"select {', '.join(wanted.values())} from {source}").fetchone()
    assert row is not None
    return dict(zip(wanted, row, strict=True))
