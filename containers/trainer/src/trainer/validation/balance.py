"""Label balance: how rare the rarest class is among the examples that the query makes of the files."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from mlplatform.config.dataset import ModelConfig
from trainer import sql
from trainer.validation.document import Balance, ClassCount, Finding

if TYPE_CHECKING:
    import duckdb

SHOWN = 50
"""Classes listed, the rarest first."""


def measure(connection: duckdb.DuckDBPyConnection, model: ModelConfig, files: Mapping[str, Sequence[Path]]) -> Balance:
    """Count the examples of each class.

    A query that does not run is no error here: step prepare, which needs its result, refuses it with all details.

    Args:
        files: by table; structurally sound ones.
    """
    import duckdb

    if model.task == "regression":
        return Balance(note="a regression has no classes")
    if model.checks.label_balance is None:
        return Balance(note="switched off (checks.label_balance)")
    if lacking := [table for table in model.tables if not files.get(table)]:
        return Balance(note=f"table {lacking[0]} has no readable file, and the query needs it")
    target = sql.identifier(model.target)
    try:
        for table in model.tables:
            connection.execute(
                f"create or replace temp view {sql.identifier(table)} as select * from {sql.files(list(files[table]))}"
            )
        rows = connection.execute(
            f"with counted as (select {target}::varchar as name, count(*) as rows from ({model.query}) "
            f"where {target} is not null and lower({target}::varchar) <> 'nan' group by 1) "
            "select left(name, 100), rows, sum(rows) over (), count(*) over () from counted "
            f"order by rows, name limit {SHOWN}"
        ).fetchall()
    except duckdb.Error as error:
        reason = str(error).strip().splitlines()[0]
        return Balance(note=f"the query does not run over these files: {reason}", failed=True)
    return Balance(
        classes=[ClassCount(name=name, rows=count) for name, count, _, _ in rows],
        number_of_classes=rows[0][3] if rows else 0,
        rows=rows[0][2] if rows else 0,
    )


def findings(balance: Balance, model: ModelConfig, new: Sequence[str]) -> list[Finding]:
    """Return a finding if the rarest class is too rare, or there is only one.

    Args:
        new: addresses of the trigger table's new files.
    """
    expected = model.checks.label_balance
    if expected is None or balance.note is not None:
        return []
    if not balance.rows:
        message = "the query makes no example with a target of these files; land more data or correct the query"
    elif balance.number_of_classes == 1:
        only = balance.classes[0]
        message = f"all {only.rows} examples are of class {only.name}; nothing can be learned from one class only"
    else:
        rarest = balance.classes[0]
        share = rarest.rows / balance.rows
        if share >= expected.minimum_share:
            return []
        message = (
            f"class {rarest.name} has {rarest.rows} of {balance.rows} examples ({share:.2%}), less than "
            f"{expected.minimum_share:.2%}; land more of it, or lower checks.label_balance.minimum_share"
        )
    return [
        Finding(
            severity=expected.severity,
            expectation="label balance",
            message=f"target {model.target}: {message}",
            uris=list(new),
            table=model.trigger_table,
            rows=balance.classes[0].rows if balance.classes else 0,
        )
    ]
