"""The job of step prepare as one would write it by hand, once per library; see `benchmarks.preparation`.

``python preparation_by_hand.py <library> <input.parquet> <folder>``: imports nothing but that library. Each reads the
file, makes numbers that are not finite missing, leaves out rows without a target, splits by the last 40 days, writes
three Parquet files (zstd) in order of time and id, and describes the train split: mean, deviation, extremes, missing
values and a histogram of each number, how often each category occurs. Prints JSON that has to be the same for all.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

NUMBERS = [f"n{index:02d}" for index in range(22)]
CATEGORIES = [f"c{index}" for index in range(5)]
DAYS = (20, 20)
"""Days of validation and of test."""
PARTS = ("train", "validation", "test")
BINS = 20


def by_pandas(source: str, folder: Path) -> dict[str, Any]:
    """The whole table in memory."""
    import numpy as np
    import pandas as pd

    table = pd.read_parquet(source)
    table = table[table["target"].notna()]
    table[NUMBERS] = table[NUMBERS].where(np.isfinite(table[NUMBERS]))
    table["target"] = table["target"].astype("float64")
    table = table.sort_values(["happened", "id"])
    day = table["happened"].dt.normalize()
    test = day.iloc[-1] - pd.Timedelta(days=DAYS[1])
    validation = test - pd.Timedelta(days=DAYS[0])
    first, second = day.searchsorted([validation, test], side="right")
    parts = dict(zip(PARTS, (table.iloc[:first], table.iloc[first:second], table.iloc[second:]), strict=True))
    for name, part in parts.items():
        part.to_parquet(folder / f"{name}.parquet", compression="zstd", index=False)
    train = parts["train"]
    profile: dict[str, Any] = {}
    for name in NUMBERS:
        there = train[name].dropna().to_numpy()
        histogram, _ = np.histogram(there, BINS)
        extremes = (float(there.min()), float(there.max()))
        profile[name] = (
            len(train) - len(there),
            float(there.mean()),
            float(there.std()),
            *extremes,
            histogram.tolist(),
        )
    for name in CATEGORIES:
        profile[name] = train[name].value_counts().to_dict()
    return report({name: len(part) for name, part in parts.items()}, profile)


def by_polars(source: str, folder: Path) -> dict[str, Any]:
    """Read, sorted and filtered by the streaming engine; the sorted table in memory."""
    import polars as pl

    lazy = pl.scan_parquet(source).filter(pl.col("target").is_not_null())
    finite = [pl.when(pl.col(name).is_finite()).then(pl.col(name)).alias(name) for name in NUMBERS]
    lazy = lazy.with_columns(*finite, pl.col("target").cast(pl.Float64)).sort("happened", "id")
    table = lazy.collect(engine="streaming")
    day = table["happened"].dt.date()
    test = day[-1].toordinal() - DAYS[1]
    validation = test - DAYS[0]
    import datetime

    edges = [day.search_sorted(datetime.date.fromordinal(value), side="right") for value in (validation, test)]
    edges = [0, *edges, len(table)]
    parts = {name: table[edges[index] : edges[index + 1]] for index, name in enumerate(PARTS)}
    for name, part in parts.items():
        part.write_parquet(folder / f"{name}.parquet", compression="zstd")
    train = parts["train"]
    profile: dict[str, Any] = {}
    for name in NUMBERS:
        there = train[name].drop_nulls()
        low, high = there.min(), there.max()
        bins = ((there - low) / (high - low) * BINS).floor().cast(pl.Int32).clip(0, BINS - 1)  # type: ignore[operator]
        counts = dict(bins.value_counts().iter_rows())
        histogram = [counts.get(index, 0) for index in range(BINS)]
        profile[name] = (len(train) - len(there), there.mean(), there.std(ddof=0), low, high, histogram)
    for name in CATEGORIES:
        profile[name] = dict(train[name].value_counts().iter_rows())
    return report({name: len(part) for name, part in parts.items()}, profile)


def by_duckdb(source: str, folder: Path) -> dict[str, Any]:
    """A query per file, with as much memory as DuckDB takes by default."""
    import duckdb

    connection = duckdb.connect()
    connection.execute("set enable_progress_bar = false")
    finite = ", ".join(f"case when isfinite({name}) then {name} end as {name}" for name in NUMBERS)
    connection.execute(
        f"create view t as select * replace ({finite}, target::double as target) from '{source}' "
        "where target is not null"
    )
    (last,) = connection.execute("select max(happened)::date from t").fetchall()[0]
    test = f"date '{last}' - {DAYS[1]}"
    validation = f"date '{last}' - {sum(DAYS)}"
    day = "happened::date"
    conditions = (f"{day} <= {validation}", f"{day} > {validation} and {day} <= {test}", f"{day} > {test}")
    rows = {}
    for name, condition in zip(PARTS, conditions, strict=True):
        path = folder / f"{name}.parquet"
        written = connection.execute(
            f"copy (select * from t where {condition} order by happened, id) to '{path}' "
            "(format parquet, compression zstd)"
        ).fetchall()
        rows[name] = written[0][0]
    train = folder / "train.parquet"
    moments = ", ".join(
        f"count(*) - count({name}), avg({name}), stddev_pop({name}), min({name}), max({name})" for name in NUMBERS
    )
    values = connection.execute(f"select {moments} from '{train}'").fetchall()[0]
    profile: dict[str, Any] = {}
    for index, name in enumerate(NUMBERS):
        missing, mean, deviation, low, high = values[5 * index : 5 * index + 5]
        bin_ = f"least(floor(({name} - {low!r}) / ({high!r} - {low!r}) * {BINS}), {BINS - 1})::integer"
        counts = dict(
            connection.execute(f"select {bin_}, count(*) from '{train}' where {name} is not null group by 1").fetchall()
        )
        profile[name] = (missing, mean, deviation, low, high, [counts.get(index, 0) for index in range(BINS)])
    for name in CATEGORIES:
        profile[name] = dict(connection.execute(f"select {name}, count(*) from '{train}' group by 1").fetchall())
    return report(rows, profile)


def by_spark(source: str, folder: Path) -> dict[str, Any]:
    """On all cores of this machine, with 6 GB."""
    from pyspark.sql import SparkSession
    from pyspark.sql import functions as F

    builder = SparkSession.builder.master("local[*]").config("spark.driver.memory", "6g")
    builder = builder.config("spark.ui.enabled", "false").config("spark.sql.session.timeZone", "UTC")
    builder = builder.config("spark.local.dir", str(folder / "spark")).config("spark.driver.host", "127.0.0.1")
    spark = builder.config("spark.sql.parquet.compression.codec", "zstd").getOrCreate()
    table = spark.read.parquet(source).where("target is not null")
    finite = {name: F.expr(f"case when abs({name}) < double('infinity') then {name} end") for name in NUMBERS}
    table = table.withColumns({**finite, "target": F.col("target").cast("double"), "day": F.to_date("happened")})
    last = table.agg(F.max("day")).first()[0]  # type: ignore[index]
    test, validation = F.date_sub(F.lit(last), DAYS[1]), F.date_sub(F.lit(last), sum(DAYS))
    day = F.col("day")
    conditions = (day <= validation, (day > validation) & (day <= test), day > test)
    rows = {}
    for name, condition in zip(PARTS, conditions, strict=True):
        path = str(folder / name)
        table.where(condition).drop("day").orderBy("happened", "id").write.mode("overwrite").parquet(path)
        rows[name] = spark.read.parquet(path).count()
    train = spark.read.parquet(str(folder / "train")).cache()
    aggregates = [call(name) for name in NUMBERS for call in (F.count, F.avg, F.stddev_pop, F.min, F.max)]
    values = list(train.agg(*aggregates).first() or ())
    profile: dict[str, Any] = {}
    for index, name in enumerate(NUMBERS):
        there, mean, deviation, low, high = values[5 * index : 5 * index + 5]
        bin_ = F.least(F.floor((F.col(name) - low) / (high - low) * BINS), F.lit(BINS - 1))
        counts = {
            row[0]: row[1] for row in train.where(F.col(name).isNotNull()).groupBy(bin_.alias("bin")).count().collect()
        }
        histogram = [counts.get(index, 0) for index in range(BINS)]
        profile[name] = (rows["train"] - there, mean, deviation, low, high, histogram)
    for name in CATEGORIES:
        profile[name] = {row[0]: row[1] for row in train.groupBy(name).count().collect()}
    spark.stop()
    return report(rows, profile)


def by_us(source: str, folder: Path) -> dict[str, Any]:
    """The step's own code, without S3."""
    from mlplatform.config.dataset import ModelConfig
    from trainer.preparation import duck, outcome

    features = {**{name: {"type": "number"} for name in NUMBERS}, **{name: {"type": "category"} for name in CATEGORIES}}
    model = ModelConfig.model_validate(
        {
            **dict.fromkeys(("name", "registered_model"), "rows"),
            **dict.fromkeys(("description", "owner"), "benchmark"),
            "task": "binary",
            "tables": {"rows": {"trigger": True, "columns": {"id": {"type": "integer"}}}},
            "query": "select * from rows",
            "target": "target",
            "features": features,
            "split": {"kind": "time", "column": "happened", "validation_days": DAYS[0], "test_days": DAYS[1]},
            "metric": "roc_auc",
            "families": {"xgboost": {}},
            "policy": {"minimum_quality": 0.5},
        }
    )
    plan, answers = duck.prepare(model, {"rows": [Path(source)]}, folder)
    summaries, described = outcome.summarise(plan, answers)
    profile: dict[str, Any] = {}
    for name, column in described.columns.items():
        if column.kind == "category":
            profile[name] = column.counts
        else:
            extremes = (column.minimum, column.maximum)
            profile[name] = (column.missing, column.mean, column.deviation, *extremes, column.histogram)
    return report({part: summary.rows for part, summary in summaries.items()}, profile)


def report(rows: dict[str, int], profile: dict[str, Any]) -> dict[str, Any]:
    """Return what has to agree: exact numbers as they are, others to nine digits."""
    shown: dict[str, Any] = {}
    for name, column in profile.items():
        if isinstance(column, dict):
            shown[name] = dict(sorted(column.items()))
        else:
            missing, mean, deviation, low, high, histogram = column
            # A value on a bin's edge may fall to either side: libraries round differently.
            shown[name] = [missing, f"{mean:.9g}", f"{deviation:.9g}", low, high, sum(histogram)]
    return {"rows": rows, "profile": shown}


LIBRARIES = {"ours": by_us, "pandas": by_pandas, "polars": by_polars, "duckdb": by_duckdb, "spark": by_spark}

if __name__ == "__main__":
    print(json.dumps(LIBRARIES[sys.argv[1]](sys.argv[2], Path(sys.argv[3]))))
