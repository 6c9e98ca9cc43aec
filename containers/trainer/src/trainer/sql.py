"""DuckDB: a connection that reads files and nothing else, and quoting."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from trainer.resources import threads

if TYPE_CHECKING:
    import duckdb

INTEGERS = {f"{sign}{size}INT" for sign in ("", "U") for size in ("TINY", "SMALL", "BIG", "HUGE")} | {
    "INTEGER",
    "UINTEGER",
}
FLOATS = {"FLOAT", "DOUBLE"}
"""DuckDB's names of whole and of binary floating-point numbers."""


def identifier(name: str) -> str:
    """Quote a table's or column's name."""
    return '"' + name.replace('"', '""') + '"'


def literal(value: str) -> str:
    """Quote a string."""
    return "'" + value.replace("'", "''") + "'"


def files(paths: list[Path]) -> str:
    """Return a FROM item that reads Parquet files as one table, matching columns by name."""
    listed = ", ".join(literal(str(path)) for path in paths)
    return f"read_parquet([{listed}], union_by_name = true)"


def connect(scratch: Path) -> duckdb.DuckDBPyConnection:
    """Open an in-memory database that spills to a scratch folder, in UTC, and never fetches extensions."""
    import duckdb

    connection = duckdb.connect(
        config={
            "threads": threads(),
            "temp_directory": str(scratch),
            "autoinstall_known_extensions": False,
            "autoload_known_extensions": False,
        }
    )
    connection.execute("set TimeZone = 'UTC'")
    return connection
