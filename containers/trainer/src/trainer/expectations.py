"""Checks of one Parquet file, or of all files of a table, against what the configuration says of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from mlplatform.config import Column, ColumnType, Table
from mlplatform.steps import Refused
from trainer import sql

if TYPE_CHECKING:
    import duckdb

_SHOWN = 5


@dataclass
class Findings:
    """What the check of one file found. A problem refuses the file, a warning does not."""

    rows: int = 0
    problems: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)


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


def check_file(connection: duckdb.DuckDBPyConnection, path: Path, name: str, table: Table) -> Findings:
    """Check a file's structure and values.

    Args:
        name: what messages call the file.

    Raises:
        Refused: a `required_when` of the configuration is not SQL that fits the file.
    """
    import duckdb

    findings = Findings()
    source = sql.files([path])
    try:
        types = {str(row[0]): str(row[1]) for row in connection.execute(f"describe select * from {source}").fetchall()}
    except duckdb.Error as error:
        findings.problems.append(f"{name}: not a readable Parquet file ({_reason(error, path)}); write it again whole")
        return findings
    sound: dict[str, Column] = {}
    for column, wanted in table.columns.items():
        if column not in types:
            findings.problems.append(f"{name}: column {column}: missing; add it as {wanted.type}")
        elif not accepts(wanted.type, types[column]):
            findings.problems.append(
                f"{name}: column {column}: is {types[column].lower()}, expected {wanted.type}; write it with that type"
            )
        else:
            sound[column] = wanted
    if extra := sorted(set(types) - set(table.columns)):
        findings.warnings.append(f"{name}: columns that are not configured: {', '.join(extra)}")
    try:
        _check_values(connection, source, name, table, sound, types, findings)
    except (duckdb.BinderException, duckdb.ParserException) as error:
        if set(sound) == set(table.columns):
            conditional = " or ".join(column for column, wanted in sound.items() if wanted.required_when)
            raise Refused(f"required_when of column {conditional}: {_reason(error, path)}", kind="bad-config") from None
        # The condition needs a column that is reported as missing already.
    except duckdb.Error as error:
        findings.problems.append(f"{name}: not a readable Parquet file ({_reason(error, path)}); write it again whole")
    return findings


def _check_values(
    connection: duckdb.DuckDBPyConnection,
    source: str,
    name: str,
    table: Table,
    columns: dict[str, Column],
    types: dict[str, str],
    findings: Findings,
) -> None:
    """Find bad values of all columns in one pass over the file."""
    select = ["count(*)"]
    templates: list[str] = []

    def count(condition: str, message: str, value: str = "null") -> None:
        """Count the rows that meet a condition, with an example of their values."""
        select.extend((f"count_if({condition})", f"(min({value}) filter (where {condition}))::varchar"))
        templates.append(message)

    for column, wanted in columns.items():
        here = sql.identifier(column)
        missing = f"{here} is null"
        comparable = f"{here} is not null"
        if types[column] in sql.FLOATS:
            missing = f"({here} is null or isnan({here}))"
            comparable = f"({here} is not null and not isnan({here}))"
            count(f"isinf({here})", f"column {column}: {{rows}} infinite; write a number or null")
        what = "without a number" if types[column] in sql.FLOATS else "null"
        if not wanted.nullable:
            count(missing, f"column {column}: {{rows}} {what}, which it must not be; fill or drop them")
        if wanted.required_when:
            count(
                f"({wanted.required_when}) and {missing}",
                f"column {column}: {{rows}} {what} where {wanted.required_when}; fill or drop them",
            )
        if wanted.minimum is not None:
            low = f"column {column}: {{rows}} below {wanted.minimum:g} (as low as {{example}}); correct or drop them"
            count(f"{comparable} and {here} < {wanted.minimum!r}", low, here)
        if wanted.maximum is not None:
            high = f"column {column}: {{rows}} above {wanted.maximum:g} (such as {{example}}); correct or drop them"
            finite = f" and not isinf({here})" if types[column] in sql.FLOATS else ""
            count(f"{comparable} and {here} > {wanted.maximum!r}{finite}", high, here)
        if wanted.allowed is not None:
            allowed = ", ".join(sql.literal(value) for value in wanted.allowed)
            count(
                f"{here} is not null and {here}::varchar not in ({allowed})",
                f"column {column}: {{rows}} not one of {', '.join(wanted.allowed)} (such as {{example!r}}); "
                "correct them or extend `allowed`",
                here,
            )
    row = connection.execute(f"select {', '.join(select)} from {source}").fetchone()
    assert row is not None
    findings.rows = row[0]
    if findings.rows < table.minimum_rows:
        problem = "zero rows" if not findings.rows else f"only {findings.rows} rows"
        findings.problems.append(f"{name}: {problem}, expected {table.minimum_rows} or more; land a complete file")
    for index, template in enumerate(templates):
        rows, example = row[1 + 2 * index], row[2 + 2 * index]
        if rows:
            shown = template.format(rows=f"{rows} row{'s' if rows > 1 else ''}", example=example)
            findings.problems.append(f"{name}: {shown}")


def duplicates(
    connection: duckdb.DuckDBPyConnection, paths: Sequence[Path], key: Sequence[str]
) -> list[tuple[set[Path], str]]:
    """Find values of a key that occur more than once in the files of a table.

    Returns:
        A few examples, each as the files it occurs in and the key's values.
    """
    names = ", ".join(sql.identifier(column) for column in key)
    shown = ", ".join(f"{sql.identifier(column)}::varchar" for column in key)
    repeated = f"select {names} from {sql.files(list(paths))} group by all having count(*) > 1"
    source = sql.files(list(paths)).replace("union_by_name = true", "union_by_name = true, filename = true")
    total = connection.execute(f"select count(*) from ({repeated})").fetchone()
    if total is None or not total[0]:
        return []
    found = connection.execute(
        f"select list(distinct filename), {shown} from {source} semi join ({repeated}) using ({names}) "
        f"group by {names} order by all limit {_SHOWN}"
    ).fetchall()
    return [
        ({Path(path) for path in row[0]}, ", ".join(f"{c}={v}" for c, v in zip(key, row[1:], strict=True)))
        for row in found
    ]


def _reason(error: Exception, path: Path) -> str:
    """Return the first line of DuckDB's message without the temporary file's name."""
    first = str(error).strip().splitlines()[0]
    return first.replace(f"'{path}'", "the file").replace(str(path), "the file")
