"""Checks of one Parquet file against what the configuration says of its table: one streaming pass in DuckDB."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mlplatform.config.base import Severity
from mlplatform.config.dataset import Column, ColumnType, Table
from mlplatform.errors import NonRetryableError
from trainer import sql
from trainer.validation.document import Expectation, Finding

if TYPE_CHECKING:
    import duckdb

EXAMPLES = 5
"""Rows shown of those that are not as expected."""
LONGEST = 200
"""Characters shown of a value."""
ROW = "row"
"""Heads the numbers of the rows in the file, from 1."""


@dataclass
class FileCheck:
    """What the check of one file found.

    Attributes:
        rows: of the file.
        types: DuckDB's type of each configured column; empty where the file cannot be read.
        sound: whether the file has all columns in usable types, so that its table can be read with it.
    """

    rows: int = 0
    types: dict[str, str] = field(default_factory=dict)
    sound: bool = False
    findings: list[Finding] = field(default_factory=list)


@dataclass(frozen=True)
class _Count:
    """Rows to count: those that meet a condition.

    Attributes:
        message: has ``{rows}`` and may have ``{example}``, the least `value` among them.
    """

    column: str
    severity: Severity
    expectation: Expectation
    condition: str
    message: str
    value: str = "null"
    maximum_share: float = 0.0


def accepts(wanted: ColumnType, found: str) -> bool:
    """Tell whether a column that DuckDB reads as type `found` can serve as the `wanted` one."""
    if wanted == "integer":
        return found in sql.INTEGERS
    if wanted == "number":
        return found in sql.INTEGERS | sql.FLOATS or found.startswith("DECIMAL")
    if wanted == "string":
        return found == "VARCHAR" or found.startswith("ENUM")
    if wanted == "boolean":
        return found == "BOOLEAN"
    return found.startswith("TIMESTAMP") or found == "DATE"


def check_file(connection: duckdb.DuckDBPyConnection, path: Path, uri: str, name: str, table: Table) -> FileCheck:
    """Check a file's structure and values.

    Args:
        uri: what messages call the file.
        name: of the table.

    Raises:
        NonRetryableError: a `required_when` or a `pattern` of the configuration is not what it should be.
    """
    import duckdb

    check = FileCheck()
    source = sql.files([path])

    def found(severity: Severity, expectation: Expectation, message: str, **more: Any) -> None:
        check.findings.append(
            Finding(
                severity=severity,
                expectation=expectation,
                message=f"{uri}: {message}",
                uris=[uri],
                table=name,
                **more,
            )
        )

    def unreadable(error: Exception) -> None:
        check.sound = False
        found("fail", "readable", f"not a readable Parquet file ({_reason(error, path)}); write it again whole")

    try:
        types = {str(row[0]): str(row[1]) for row in connection.execute(f"describe select * from {source}").fetchall()}
    except duckdb.Error as error:
        unreadable(error)
        return check
    usable: dict[str, Column] = {}
    for column, wanted in table.columns.items():
        if column not in types:
            found("fail", "columns", f"column {column}: missing; add it as {wanted.type}", column=column)
        elif not accepts(wanted.type, types[column]):
            is_now = f"is {types[column].lower()}, expected {wanted.type}"
            found("fail", "types", f"column {column}: {is_now}; write it with that type", column=column)
        else:
            usable[column] = wanted
    if extra := sorted(set(types) - set(table.columns)):
        found("warn", "columns", f"columns that are not configured: {', '.join(extra)}")
    check.types = {column: types[column] for column in usable}
    check.sound = len(usable) == len(table.columns)
    counts = [count for column, wanted in usable.items() for count in _counts(column, wanted, types[column])]
    try:
        check.rows, results = _run(connection, source, counts)
    except (duckdb.BinderException, duckdb.ParserException) as error:
        if check.sound:
            conditional = " or ".join(column for column, wanted in usable.items() if wanted.required_when)
            raise NonRetryableError(
                f"required_when of column {conditional}: {_reason(error, path)}", kind="bad-config"
            ) from None
        return check  # the condition needs a column that is reported as missing already
    except duckdb.InvalidInputException as error:
        patterns = {column: wanted.pattern for column, wanted in usable.items() if wanted.pattern is not None}
        if broken := _broken_pattern(connection, patterns):
            raise NonRetryableError(f"pattern of column {broken}: {_reason(error, path)}", kind="bad-config") from None
        unreadable(error)
        return check
    except duckdb.Error as error:
        unreadable(error)
        return check
    if check.rows < table.minimum_rows:
        few = "zero rows" if not check.rows else f"only {check.rows} rows"
        found(table.severity, "rows", f"{few}, expected {table.minimum_rows} or more; land a complete file")
    if table.maximum_rows is not None and check.rows > table.maximum_rows:
        found(
            table.severity,
            "rows",
            f"{check.rows} rows, expected {table.maximum_rows} or fewer; land it in smaller files or raise "
            "`maximum_rows`",
        )
    for count, (rows, example) in zip(counts, results, strict=True):
        if rows > count.maximum_share * check.rows:
            shown = f"{rows} row{'' if rows == 1 else 's'}"
            message = count.message.format(rows=shown, example=example, share=f"{rows / check.rows:.1%}")
            columns, examples = _examples(connection, path, count, table.unique_key, set(check.types))
            found(
                count.severity,
                count.expectation,
                message,
                column=count.column,
                rows=rows,
                example_columns=columns,
                example_rows=examples,
            )
    return check


def _counts(column: str, wanted: Column, found: str) -> list[_Count]:
    """Return what to count of a column of DuckDB type `found`."""
    here = sql.identifier(column)
    floats = found in sql.FLOATS
    missing = f"({here} is null or isnan({here}))" if floats else f"{here} is null"
    present = f"({here} is not null and not isnan({here}))" if floats else f"{here} is not null"
    what = "without a number" if floats else "null"
    finite = f" and not isinf({here})" if floats else ""  # an infinite one is told as that
    counts: list[_Count] = []

    def count(
        expectation: Expectation, condition: str, message: str, value: str = "null", maximum_share: float = 0.0
    ) -> None:
        text = f"column {_plain(column)}: {message}"
        counts.append(_Count(column, wanted.severity, expectation, condition, text, value, maximum_share))

    if floats:
        count("finite", f"isinf({here})", "{rows} infinite; write a number or null")
    if not wanted.nullable:
        count("nulls", missing, f"{{rows}} {what}, which it must not be; fill or drop them")
    if wanted.maximum_null_share is not None:
        limit = f"more than {wanted.maximum_null_share:.1%}"
        message = f"{{rows}} ({{share}}) {what}, {limit}; land a fuller file or raise `maximum_null_share`"
        count("nulls", missing, message, maximum_share=wanted.maximum_null_share)
    if wanted.required_when:
        where = _plain(wanted.required_when)
        count("nulls", f"({wanted.required_when}) and {missing}", f"{{rows}} {what} where {where}; fill or drop them")
    if wanted.minimum is not None:
        low = f"{{rows}} below {wanted.minimum:g} (as low as {{example}}); correct or drop them"
        count("range", f"{present} and {here} < {wanted.minimum!r}{finite}", low, f"min({here})")
    if wanted.maximum is not None:
        high = f"{{rows}} above {wanted.maximum:g} (as high as {{example}}); correct or drop them"
        count("range", f"{present} and {here} > {wanted.maximum!r}{finite}", high, f"max({here})")
    if wanted.allowed is not None:
        allowed = ", ".join(sql.literal(value) for value in wanted.allowed)
        listed = _plain(", ".join(wanted.allowed))
        unknown = f"{{rows}} not one of {listed} (such as {{example!r}}); correct them or extend `allowed`"
        count("categories", f"{here} is not null and {here}::varchar not in ({allowed})", unknown, f"min({here})")
    if wanted.pattern is not None:
        other = f"{{rows}} not as pattern {_plain(wanted.pattern)} (such as {{example!r}}); correct them or the pattern"
        matches = f"regexp_full_match({here}::varchar, {sql.literal(wanted.pattern)})"
        count("pattern", f"{here} is not null and not {matches}", other, f"min({here})")
    return counts


def _run(
    connection: duckdb.DuckDBPyConnection, source: str, counts: Sequence[_Count]
) -> tuple[int, list[tuple[int, str | None]]]:
    """Count everything in one pass: the file's rows, and of each count its rows and an example."""
    select = ["count(*)"]
    for count in counts:
        example = f"({count.value} filter (where {count.condition}))" if count.value != "null" else "null"
        select += [f"coalesce(count_if({count.condition}), 0)", f"left({example}::varchar, {LONGEST})"]
    row = connection.execute(f"select {', '.join(select)} from {source}").fetchone()
    assert row is not None
    return row[0], list(zip(row[1::2], row[2::2], strict=True))


def _examples(
    connection: duckdb.DuckDBPyConnection, path: Path, count: _Count, key: Sequence[str], known: set[str]
) -> tuple[list[str], list[list[str | None]]]:
    """Fetch the first rows that meet a condition: their numbers, their key, and the column."""
    import duckdb

    columns = list(dict.fromkeys([*(name for name in key if name in known), count.column]))
    shown = ", ".join(f"left({sql.identifier(column)}::varchar, {LONGEST})" for column in columns)
    numbered = sql.files([path]).replace("union_by_name = true", "file_row_number = true")
    try:
        rows = connection.execute(
            f"select (file_row_number + 1)::varchar, {shown} from {numbered} where {count.condition} "
            f"order by file_row_number limit {EXAMPLES}"
        ).fetchall()
    except duckdb.Error:
        return [], []  # a column of the file has that name already
    return [ROW, *columns], [list(row) for row in rows]


def duplicates(connection: duckdb.DuckDBPyConnection, paths: Sequence[Path], key: Sequence[str]) -> Duplicates | None:
    """Find values of a key that occur more than once in the files of a table; None where there is none.

    Null is equal to nothing, as in SQL: `Column.nullable` says whether it may be there.
    """
    names = ", ".join(sql.identifier(column) for column in key)
    there = " and ".join(f"{sql.identifier(column)} is not null" for column in key)
    source = sql.files(list(paths))
    # The narrow key alone first, as nearly always there is none; it spills to disk where it does not fit memory.
    connection.execute(
        f"create or replace temp table repeated as select {names}, count(*) as copies from {source} where {there} "
        "group by all having count(*) > 1"
    )
    total = connection.execute("select count(*), coalesce(sum(copies), 0) from repeated").fetchone()
    assert total is not None
    if not total[0]:
        return None
    named = source.replace("union_by_name = true", "union_by_name = true, filename = true")
    rows = f"{named} semi join repeated using ({names})"
    files = connection.execute(f"select distinct filename from {rows} order by all").fetchall()
    shown = ", ".join(f"left({sql.identifier(column)}::varchar, {LONGEST})" for column in key)
    examples = connection.execute(f"select {shown} from repeated order by {names} limit {EXAMPLES}").fetchall()
    return Duplicates(total[0], int(total[1]), [Path(row[0]) for row in files], [list(row) for row in examples])


@dataclass(frozen=True)
class Duplicates:
    """Keys that occur more than once.

    Attributes:
        keys: how many different ones.
        rows: how many rows have them.
        paths: the files they occur in.
        examples: values of a few of them, as text.
    """

    keys: int
    rows: int
    paths: list[Path]
    examples: list[list[str | None]]


def _plain(text: str) -> str:
    """Let a text of the configuration stand in a format string."""
    return text.replace("{", "{{").replace("}", "}}")


def _broken_pattern(connection: duckdb.DuckDBPyConnection, patterns: dict[str, str]) -> str | None:
    import duckdb

    for column, pattern in patterns.items():
        try:
            connection.execute(f"select regexp_full_match('', {sql.literal(pattern)})").fetchall()
        except duckdb.Error:
            return column
    return None


def _reason(error: Exception, path: Path) -> str:
    """Return the first line of DuckDB's message without the temporary file's name."""
    first = str(error).strip().splitlines()[0]
    return first.replace(f"'{path}'", "the file").replace(str(path), "the file")
