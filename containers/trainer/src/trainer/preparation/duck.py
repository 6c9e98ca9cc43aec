"""Preparation by DuckDB, in this process: memory stays within its limit however many rows there are."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from mlplatform.config.dataset import ModelConfig
from mlplatform.errors import NonRetryableError
from mlplatform.steps import disk_is_full
from trainer import sql
from trainer.preparation import outcome
from trainer.preparation.outcome import Answers, Row
from trainer.preparation.plan import CHUNK, LAST_DAY, PART, PARTS, Plan, Statement, make_plan

if TYPE_CHECKING:
    import duckdb

log = logging.getLogger(__name__)

ROW_GROUP = 122_880
"""Rows of a row group, of DuckDB's tables and of the Parquet files: what one thread reads, or writes, at once."""
COMPRESSION = "compression zstd, compression_level 2"
"""Of the files. Level 3, the default, took a third more time for the same size with 30 columns of numbers and
categories."""
SAMPLE = 10_000
"""Rows that rule out for most features that they are the target under another name."""


def prepare(model: ModelConfig, tables: Mapping[str, Sequence[Path]], folder: Path) -> tuple[Plan, Answers]:
    """Write ``train.parquet``, ``validation.parquet`` and ``test.parquet`` into a folder.

    The same rows give the same bytes, in whatever order and files they came. The rows go into a table on disk once,
    sorted; sorting spills to disk. All that follows reads that table in order, a few row groups at a time: it takes a
    fifth of the time that reading the files does.

    Args:
        tables: files of each configured table.
        folder: also takes what does not fit in memory.

    Raises:
        NonRetryableError: the query does not run, or its rows are not what the configuration says; see `outcome`.
    """
    with sql.connect(folder, folder / "prepared.duckdb") as connection:
        plan = make_plan(model, query_types(connection, model, tables))
        with _explained(model):
            order = ", ".join([*plan.order, f"hash({', '.join(map(sql.identifier, plan.columns))})"])
            drawn = [] if plan.order else [sql.identifier(PART)]
            connection.execute(f"create table __prepared as {plan.prepared} order by {', '.join([*drawn, order])}")
            facts = _rows(connection, plan.facts.sql)[0]
        outcome.dropped(model, facts)
        last_day = str(facts["last_day"])
        _make_views(connection, plan, last_day)
        answers: dict[str, Sequence[Row]] = {"facts": [facts]}
        for statement in plan.aggregates:
            answers[statement.name] = _ask(connection, model, statement)
        answers["leaks"] = _leaks(connection, plan)
        for part in PARTS:
            connection.execute(
                f"copy ({plan.rows(part).replace(LAST_DAY, last_day)}) to "
                f"{sql.literal(str(folder / f'{part}.parquet'))} "
                f"(format parquet, {COMPRESSION}, row_group_size {ROW_GROUP})"
            )
    (folder / "prepared.duckdb").unlink()
    return plan, answers


def query_types(
    connection: duckdb.DuckDBPyConnection, model: ModelConfig, tables: Mapping[str, Sequence[Path]]
) -> dict[str, str]:
    """Make the views of tables and query, and return the types of the query's columns.

    Raises:
        NonRetryableError: a table has no file, or the query is no query.
    """
    import duckdb

    for table in model.tables:
        if table not in tables:
            raise NonRetryableError(f"table {table}: no file has landed, and the query needs it")
        source = sql.files(sorted(tables[table]))
        # Spark has no nanoseconds; both engines work in microseconds.
        finer = [name for name, kind in types(connection, source).items() if kind == "TIMESTAMP_NS"]
        coarser = ", ".join(f"cast({sql.identifier(name)} as timestamp) as {sql.identifier(name)}" for name in finer)
        replaced = f"replace ({coarser})" if finer else ""
        connection.execute(f"create view {sql.identifier(table)} as select * {replaced} from {source}")
    try:
        connection.execute(f"create view __query as {model.query}")
        return types(connection, "__query")
    except duckdb.Error as error:
        raise _mistake(model, error) from None


def types(connection: duckdb.DuckDBPyConnection, source: str) -> dict[str, str]:
    """Return the types of a table's columns, by name and in order, as DuckDB calls them."""
    return {str(row[0]): str(row[1]) for row in connection.execute(f"describe from {source}").fetchall()}


def _make_views(connection: duckdb.DuckDBPyConnection, plan: Plan, last_day: str) -> None:
    """Make the views of the parts that the aggregates read."""
    conditions = {part: condition.replace(LAST_DAY, last_day) for part, condition in plan.conditions.items()}
    cases = " ".join(f"when {condition} then {sql.literal(part)}" for part, condition in conditions.items())
    columns = ", ".join(map(sql.identifier, plan.columns))
    # A row group of a table is read by one thread from its first row to its last.
    connection.execute(
        f"create view __parts as select {columns}, case {cases} end as {PART}, rowid // {ROW_GROUP} as {CHUNK} "
        f"from __prepared where {plan.valid}"
    )
    connection.execute(
        f"create view __train as select {columns}, rowid // {ROW_GROUP} as {CHUNK} "
        f"from __prepared where {plan.valid} and {conditions['train']}"
    )


def _ask(connection: duckdb.DuckDBPyConnection, model: ModelConfig, statement: Statement) -> list[Row]:
    """Keep an aggregate's rows as a table, for what reads them, and return them."""
    import duckdb

    table = sql.identifier(f"__{statement.name}")
    try:
        connection.execute(f"create temp table {table} as {statement.sql}")
    except duckdb.OutOfRangeException:  # of a variance
        raise NonRetryableError(outcome.too_large("features", model)) from None
    rows = _rows(connection, f"from {table}")
    outcome.check_limits(statement, rows)
    return rows


def _leaks(connection: duckdb.DuckDBPyConnection, plan: Plan) -> list[Row]:
    """Look at all rows only for the features that some do not rule out."""
    sample = f"(select * from __parts limit {SAMPLE})"
    rows = _rows(connection, plan.leaks(list(plan.model.features), sample).sql)
    suspects = outcome.suspects(plan.model, rows)
    return _rows(connection, plan.leaks(suspects).sql) if suspects else rows


def _rows(connection: duckdb.DuckDBPyConnection, statement: str) -> list[Row]:
    cursor = connection.execute(statement)
    names = [column[0] for column in cursor.description or []]
    return [dict(zip(names, row, strict=True)) for row in cursor.fetchall()]


@contextmanager
def _explained(model: ModelConfig) -> Iterator[None]:
    """Tell apart what is wrong with the query from what is wrong with the machine."""
    import duckdb

    try:
        yield
    except duckdb.OutOfMemoryException as error:
        raise NonRetryableError(
            f"config/models/{model.name}.yaml: query: needs more memory than the step has ({error}); raise "
            "steps.prepare.memory, or have Spark prepare the data (preparation.engine)",
            kind="bad-config",
        ) from None
    except (duckdb.IOException, duckdb.InterruptException, duckdb.InternalException):
        raise
    except duckdb.Error as error:
        raise _mistake(model, error) from None


def _mistake(model: ModelConfig, error: Exception) -> Exception:
    """Return the refusal of a query that does not run, or the error itself where the disk is full.

    A commit that finds no space, for one, is no IOException.
    """
    if disk_is_full(error):
        return error
    return NonRetryableError(f"config/models/{model.name}.yaml: query: {error}", kind="bad-config")
