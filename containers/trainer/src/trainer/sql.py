"""DuckDB: a connection that reads files and nothing else, and quoting."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from trainer.resources import memory, threads

if TYPE_CHECKING:
    import duckdb

INTEGERS = {f"{sign}{size}INT" for sign in ("", "U") for size in ("TINY", "SMALL", "BIG", "HUGE")} | {
    "INTEGER",
    "UINTEGER",
}
FLOATS = {"FLOAT", "DOUBLE"}
"""DuckDB's names of whole and of binary floating-point numbers."""

MEMORY_SHARE = 0.5
"""DuckDB's part of the memory. What it counts is not all it takes (fragmentation, buffers of zstd, results)."""
LEAST_MEMORY = 256 * 2**20


def identifier(name: str) -> str:
    """Quote a table's or column's name."""
    return '"' + name.replace('"', '""') + '"'


def literal(value: str) -> str:
    """Quote a string."""
    return "'" + value.replace("'", "''") + "'"


def texts(values: Sequence[str]) -> str:
    """Return a list of strings."""
    return f"[{', '.join(literal(value) for value in values)}]::varchar[]"


def files(paths: list[Path]) -> str:
    """Return a FROM item that reads Parquet files as one table, matching columns by name."""
    listed = ", ".join(literal(str(path)) for path in paths)
    return f"read_parquet([{listed}], union_by_name = true)"


def connect(scratch: Path, database: Path | None = None) -> duckdb.DuckDBPyConnection:
    """Open a database in UTC that spills to a scratch folder beyond its memory, and never fetches extensions.

    Args:
        database: file for tables that need not fit in memory; without one they are kept in memory.
    """
    import duckdb

    connection = duckdb.connect(
        str(database or ":memory:"),
        config={
            "threads": threads(),
            "memory_limit": f"{max(LEAST_MEMORY, int(memory() * MEMORY_SHARE)) // 2**20}MiB",
            "temp_directory": str(scratch),
            "autoinstall_known_extensions": False,
            "autoload_known_extensions": False,
        },
    )
    connection.execute("set TimeZone = 'UTC'; set enable_progress_bar = false")
    # A division by zero is missing, whatever the types: neither an error nor infinite.
    connection.execute("set error_on_division_by_zero = false; set ieee_floating_point_ops = false")
    return connection
