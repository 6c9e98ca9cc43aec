"""Labels that have landed, joined with captured answers by the inference id.

Contract: Parquet files under ``s3://<landing>/labels/<dataset>/`` with ``inference_id`` (text), the target's column
and, where a request had several rows, ``row`` (integer, from 0).
"""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from mlplatform.documents.monitoring import LabelCounts
from mlplatform.storage import download, list_objects, split_uri
from modelformat import Manifest
from trainer import sql
from trainer.monitoring.capture import Exchange

if TYPE_CHECKING:
    import duckdb

log = logging.getLogger(__name__)

MOST_ROWS = 200_000
"""Labelled rows of a version that its quality is measured on; of more, as many chosen by a hash of their id."""
ANSWERS = {"id": "varchar", "row": "bigint", "asked": "double", "version": "varchar", "p": "double[]"}


class Answers:
    """Answers that labels may be for, on disk: a JSON line for each row."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._file: IO[str] = path.open("w", encoding="utf-8")

    def add(self, exchange: Exchange, version: str, predictions: NDArray[np.float64]) -> None:
        """Keep a request's predictions, if it has an inference id."""
        if exchange.inference_id is None:
            return
        for row, values in enumerate(predictions.reshape(len(predictions), -1).tolist()):
            if all(np.isfinite(values)):
                line = {
                    "id": exchange.inference_id,
                    "row": row,
                    "asked": exchange.at.timestamp(),
                    "version": version,
                    "p": values,
                }
                self._file.write(json.dumps(line) + "\n")

    def close(self) -> None:
        """Write what there is."""
        self._file.close()


@dataclass
class Labelled:
    """Answered rows whose label is known, by version.

    Attributes:
        rows: of each version the labels (rows,) as `trainer.data.Dataset.target` has them, and the predictions.
    """

    counts: LabelCounts
    rows: dict[str, tuple[NDArray[np.float64], NDArray[np.float64]]] = field(default_factory=dict)


def join(
    answers: Path, uri: str, since: datetime, target: str, manifests: Mapping[str, Manifest], folder: Path
) -> Labelled:
    """Join answers with the labels that have landed since a moment; a request's cannot have landed before it.

    Labels that landed twice are used once, those that contradict each other not at all. An answer with an id and row
    that an earlier one had is left out, so that a request tried again counts once.

    Args:
        answers: written by `Answers`.
        uri: prefix of the label files.
        target: name of the column.
        manifests: of the versions that answered.
    """
    folder.mkdir(parents=True, exist_ok=True)
    counts: dict[str, Any] = {"files": 0, "refused_files": []}
    with sql.connect(folder, folder / "labels.duckdb") as connection:
        connection.execute("create table landed (id varchar, row bigint, value varchar)")
        bucket, _ = split_uri(uri)
        for index, listed in enumerate(list_objects(uri.rstrip("/") + "/")):
            if listed["LastModified"] < since or not listed["Key"].endswith(".parquet"):
                continue
            source = f"s3://{bucket}/{listed['Key']}"
            path = download(source, folder / f"{index:05d}.parquet")
            problem = _read(connection, path, target)
            path.unlink()
            counts["files"] += 1
            if problem:
                log.warning("%s: %s", source, problem)
                counts["refused_files"].append(f"{source}: {problem}")
        return _joined(connection, answers, manifests, counts)


def _read(connection: duckdb.DuckDBPyConnection, path: Path, target: str) -> str | None:
    """Add a file's labels; return why it is not as the contract says."""
    import duckdb

    source = sql.files([path])
    try:
        types = {str(row[0]): str(row[1]) for row in connection.execute(f"describe from {source}").fetchall()}
        if missing := [name for name in ("inference_id", target) if name not in types]:
            return f"has no column {missing[0]!r}; needed are inference_id and {target}"
        if "row" in types and types["row"] not in sql.INTEGERS:
            return f"column row: expected an integer, got {types['row']}"
        value = sql.identifier(target)
        # As 0 or 1, and not as false or true.
        text = f"{value}::integer::varchar" if types[target] == "BOOLEAN" else f"{value}::varchar"
        row = '"row"::bigint' if "row" in types else "0"
        connection.execute(f"insert into landed select inference_id::varchar, {row}, {text} from {source}")
    except duckdb.Error as error:
        return str(error).splitlines()[0]
    return None


def _joined(
    connection: duckdb.DuckDBPyConnection, answers: Path, manifests: Mapping[str, Manifest], counts: dict[str, Any]
) -> Labelled:
    columns = ", ".join(f"{sql.literal(name)}: {sql.literal(kind)}" for name, kind in ANSWERS.items())
    source = f"read_json({sql.literal(str(answers))}, format = 'newline_delimited', columns = {{{columns}}})"
    connection.execute(
        "create table label as select id, row, count(*) as n, count(distinct value) as d, min(value) as value "
        "from landed where id is not null and row is not null and value is not null group by id, row"
    )
    connection.execute(
        # As one, so that of two answers of the same second the version and the prediction are of the same one.
        "create table answer as select id, row, one.version as version, one.p as p from "
        "(select id, row, arg_min({'version': version, 'p': p}, (asked, version)) as one "
        f"from {source} group by id, row)"
    )
    labels, unusable = _one(
        connection, "count(*), count(*) filter (id is null or row is null or value is null) from landed"
    )
    duplicated, contradictory, unknown = _one(
        connection,
        "coalesce(sum(n - 1) filter (d = 1), 0), count(*) filter (d > 1), count(*) filter (answer.id is null) "
        "from label left join answer using (id, row)",
    )
    rows: dict[str, tuple[NDArray[np.float64], NDArray[np.float64]]] = {}
    matched = 0
    for version, manifest in manifests.items():
        pairs = connection.execute(
            "select value, p from label join answer using (id, row) where d = 1 and version = ? "
            f"order by hash(id, row) limit {MOST_ROWS}",
            [version],
        ).fetchall()
        used = [(label, p) for value, p in pairs if (label := _label(value, manifest)) is not None]
        unusable += len(pairs) - len(used)
        matched += len(used)
        if used:
            predicted = np.array([p for _, p in used], dtype=np.float64)
            if manifest.task != "multiclass":
                predicted = predicted[:, 0]
            rows[version] = (np.array([label for label, _ in used], dtype=np.float64), predicted)
    found = LabelCounts(
        **counts,
        labels=labels,
        matched=matched,
        duplicated=int(duplicated),
        contradictory=contradictory,
        unknown=unknown,
        unusable=unusable,
    )
    return Labelled(found, rows)


def _one(connection: duckdb.DuckDBPyConnection, query: str) -> tuple[Any, ...]:
    row = connection.execute(f"select {query}").fetchone()
    assert row is not None
    return row


def _label(value: str, manifest: Manifest) -> float | None:
    """Return a label as targets are, None if it is none of the model's."""
    if manifest.task == "multiclass" and value in (manifest.classes or []):
        return float((manifest.classes or []).index(value))
    try:
        number = float(value)
    except ValueError:
        return None
    if manifest.task == "regression":
        return number if np.isfinite(number) else None
    return number if manifest.task == "binary" and number in (0.0, 1.0) else None
