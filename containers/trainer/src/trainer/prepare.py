"""Step prepare: from landed tables to train, validation and test examples, split by time."""

from __future__ import annotations

import logging
from collections import defaultdict
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from mlplatform import storage
from mlplatform.config import ModelConfig
from mlplatform.results import PrepareResult, Split
from mlplatform.steps import Refused, StepContext, StepDefinition
from trainer import inputs, shutdown, sql

if TYPE_CHECKING:
    import duckdb

log = logging.getLogger(__name__)

SPLITS = ("train", "validation", "test")


def run(context: StepContext) -> PrepareResult:
    """Run the configured query over the run's files and split its rows by whole days.

    Every column of the query is kept, features or not: a champion trained on other features can still be
    scored on the same rows.

    Args:
        context: its input is the run's prefix, with ``inputs.json``.

    Raises:
        Refused: the query does not run or lacks a column, or a split has no rows or only one class.
    """
    model = context.config.model
    with shutdown.scratch_folder() as folder:
        connection = sql.connect(folder)
        _load_tables(connection, context, folder)
        dropped = _run_query(connection, model)
        bounds = _bounds(connection, model)
        splits: dict[str, Split] = {}
        for split in SPLITS:
            path = folder / f"{split}.parquet"
            rows, share, start, end = _write_split(connection, model, bounds[split], path)
            _check_split(split, rows, share, model)
            uri = storage.upload(path, storage.join(context.output, path.name))
            splits[split] = Split(uri=uri, rows=rows, positive_share=share, start=start, end=end)
            log.info("%s: %d rows from %s to %s, %.1f %% positive", split, rows, start, end, 100 * share)
        connection.close()
    return PrepareResult(
        run_key=context.config.run_key,
        started_at=context.started_at,
        finished_at=datetime.now(UTC),
        dropped_rows=dropped,
        train=splits["train"],
        validation=splits["validation"],
        test=splits["test"],
    )


def _load_tables(connection: duckdb.DuckDBPyConnection, context: StepContext, folder: Path) -> None:
    """Make a view of each configured table over its downloaded files."""
    files: dict[str, list[Path]] = defaultdict(list)
    for index, source in enumerate(inputs.read_manifest(context.input).objects):
        local = inputs.download(source, folder, index)
        if local is None:
            raise Refused(f"{source.uri}: no longer there; land it again", subjects=[source.uri])
        files[source.table].append(local.path)
    for table in context.config.model.tables:
        if table not in files:
            raise Refused(f"table {table}: no file has landed, and the query needs it")
        connection.execute(f"create view {sql.identifier(table)} as select * from {sql.files(sorted(files[table]))}")


def _run_query(connection: duckdb.DuckDBPyConnection, model: ModelConfig) -> int:
    """Materialise the query as table ``prepared``; return how many rows have no target or no time."""
    import duckdb

    try:
        types = connection.execute(f"describe ({model.query})").fetchall()
    except duckdb.Error as error:
        raise Refused(f"config/models/{model.name}.yaml: query: {error}", kind="bad-config") from None
    needed = [*model.features, model.target, model.split.column, *model.references]
    available = {str(row[0]): str(row[1]) for row in types}
    if lacking := [column for column in dict.fromkeys(needed) if column not in available]:
        raise Refused(
            f"config/models/{model.name}.yaml: query: has no column {', '.join(lacking)}; select "
            f"{'it' if len(lacking) == 1 else 'them'} or take {'it' if len(lacking) == 1 else 'them'} out of features, "
            "target, split and references",
            kind="bad-config",
        )
    target, time = sql.identifier(model.target), sql.identifier(model.split.column)
    select = []
    for column in available:
        here = sql.identifier(column)
        feature = model.features.get(column)
        if column == model.target:
            select.append(f"{here}::double as {here}")
        elif feature is None:
            select.append(here)
        elif feature.type == "number":
            # A division by zero in the query is a missing value, as no model takes an infinite one.
            select.append(f"case when isfinite({here}::double) then {here}::double end as {here}")
        else:
            select.append(f"{here}::varchar as {here}")
    try:
        connection.execute(f"create table prepared as select {', '.join(select)} from ({model.query})")
        row = connection.execute(
            f"select count_if({target} is null or isnan({target}) or {time} is null), "
            f"count_if(not isnan({target}) and {target} not in (0, 1)) from prepared"
        ).fetchone()
    except duckdb.Error as error:
        raise Refused(f"config/models/{model.name}.yaml: query: {error}", kind="bad-config") from None
    assert row is not None
    if row[1]:
        raise Refused(
            f"config/models/{model.name}.yaml: target {model.target}: {row[1]} rows are neither 0 nor 1, as a binary "
            "task needs",
            kind="bad-config",
        )
    dropped: int = row[0]
    if dropped:
        log.warning("%d rows without %s or %s dropped", dropped, model.target, model.split.column)
        connection.execute(f"delete from prepared where {target} is null or isnan({target}) or {time} is null")
    return dropped


def _bounds(connection: duckdb.DuckDBPyConnection, model: ModelConfig) -> dict[str, str]:
    """Return each split's condition. Days are those of the split column (UTC if it has a time zone)."""
    day = f"{sql.identifier(model.split.column)}::date"
    row = connection.execute(f"select (max({day}))::varchar from prepared").fetchone()
    if row is None or row[0] is None:
        raise Refused(f"config/models/{model.name}.yaml: query: gives no example from the files that landed")
    last = f"date {sql.literal(row[0])}"
    test = f"{last} - {model.split.test_days}"
    validation = f"{last} - {model.split.test_days + model.split.validation_days}"
    return {
        "train": f"{day} <= {validation}",
        "validation": f"{day} > {validation} and {day} <= {test}",
        "test": f"{day} > {test}",
    }


def _write_split(
    connection: duckdb.DuckDBPyConnection, model: ModelConfig, condition: str, path: Path
) -> tuple[int, float, datetime, datetime]:
    """Write a split's rows in a fixed order; return their number, share of positives, first and last time."""
    target, time = sql.identifier(model.target), sql.identifier(model.split.column)
    row = connection.execute(
        f"select count(*), coalesce(avg({target}), 0), min({time})::timestamp, max({time})::timestamp "
        f"from prepared where {condition}"
    ).fetchone()
    assert row is not None
    if row[0]:
        # Ordered by all columns: rows that still tie are identical, so the file's bytes depend on the data alone.
        columns = connection.execute("describe prepared").fetchall()
        order = ", ".join([time, *(sql.identifier(column[0]) for column in columns)])
        connection.execute(
            f"copy (select * from prepared where {condition} order by {order}) "
            f"to {sql.literal(str(path))} (format parquet, compression zstd)"
        )
    return row


def _check_split(split: str, rows: int, share: float, model: ModelConfig) -> None:
    if not rows:
        days = model.split.validation_days + model.split.test_days
        raise Refused(
            f"split {split}: no rows; the data must span more than the {days} days that validation and test take: "
            "land more of it, or lower validation_days and test_days"
        )
    if share in (0.0, 1.0):
        raise Refused(
            f"split {split}: all {rows} rows have {model.target} = {share:g}, so nothing can be learned or measured; "
            "land more data or correct the query"
        )


STEP = StepDefinition(run=run, result=PrepareResult)
