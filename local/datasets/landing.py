"""How a batch's tables become files in the landing bucket."""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq


class DataMissing(RuntimeError):
    """The package with the data is not installed."""


def check_batch(batch: int, batches: Sequence[str]) -> None:
    """Refuse a batch that there is not.

    Raises:
        ValueError: the number is not one of theirs.
    """
    if batch not in range(1, len(batches) + 1):
        raise ValueError(f"batch {batch} is not in the data: choose 1 to {len(batches)}")


def parquet_bytes(table: pa.Table) -> bytes:
    """Return a table as a Parquet file; the same rows always give the same bytes, thus the same ETag."""
    buffer = io.BytesIO()
    pq.write_table(table.combine_chunks(), buffer, compression="zstd", row_group_size=128 * 1024, store_schema=False)
    return buffer.getvalue()


def put(tables: Mapping[str, pa.Table], key: Callable[[str], str], s3_client: Any, bucket: str) -> dict[str, str]:
    """Put tables into a bucket one after the other, and return the object key of each.

    Args:
        tables: in landing order.
        key: returns the object key of a table.
    """
    keys = {}
    for table, rows in tables.items():
        keys[table] = key(table)
        s3_client.put_object(Bucket=bucket, Key=keys[table], Body=parquet_bytes(rows))
    return keys
