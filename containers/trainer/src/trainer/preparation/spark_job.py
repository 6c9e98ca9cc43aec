"""Preparation by Spark: carries out a plan that is SQL already. Needs PySpark 3.5 or newer and nothing else.

``spark-submit spark_job.py <job.json> <output> [key=value ...]``: reads the job (see `trainer.preparation.distributed`,
which writes it), writes ``<output>/train``, ``validation`` and ``test`` as Parquet, and last ``<output>/report``, a
text file with a line of JSON: the aggregates' rows, or why the data is refused. It is plain Spark and runs
wherever that does; addresses are Spark's own.
"""

from __future__ import annotations

import json
import sys
import time
from functools import reduce
from typing import Any

from pyspark.errors import AnalysisException, PySparkException
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

PARTS = ("train", "validation", "test")
ROWS_PER_FILE = 2_000_000
SETTINGS = {
    "spark.sql.ansi.enabled": "true",  # what cannot be computed is an error, never a silent null
    "spark.sql.session.timeZone": "UTC",
    "spark.sql.legacy.parquet.nanosAsLong": "true",
    "spark.sql.parquet.outputTimestampType": "TIMESTAMP_MICROS",
    "spark.sql.parquet.compression.codec": "zstd",
    "spark.sql.parquet.int96RebaseModeInRead": "CORRECTED",
    "spark.sql.parquet.datetimeRebaseModeInRead": "CORRECTED",
}
# Errors of Spark that the data or the query is the cause of, by the beginning of their names.
QUERYS_FAULT = (
    *("CAST_", "DIVIDE_BY_ZERO", "ARITHMETIC_OVERFLOW", "DATETIME", "INVALID", "NUMERIC_", "REMAINDER_BY_ZERO"),
    *("SCALAR_SUBQUERY_TOO_MANY_ROWS", "CANNOT_PARSE", "BINARY_ARITHMETIC_OVERFLOW", "DATATYPE_MISMATCH"),
)


class Refused(Exception):
    """The query or the data is at fault."""


def main(job_uri: str, output: str, settings: list[str]) -> None:
    """Start Spark, do the job, end Spark."""
    builder = SparkSession.builder.appName("prepare")
    for setting in settings:
        key, _, value = setting.partition("=")
        builder = builder.config(key, value)
    spark = builder.getOrCreate()
    run(spark, job_uri, output)
    spark.stop()


def run(spark: SparkSession, job_uri: str, output: str) -> None:
    """Do the job and write the report."""
    for key, value in SETTINGS.items():
        spark.conf.set(key, value)
    job = json.loads(spark.read.text(job_uri, wholetext=True).collect()[0][0])
    report: dict[str, Any] = {"refused": None, "answers": {}}
    try:
        prepare(spark, job, output, report["answers"])
    except Refused as error:
        report["refused"] = str(error)
    # Without a row of Python's own: it would start Python workers, of which nothing else here has need.
    line = spark.range(1).select(F.lit(json.dumps(report)).alias("value"))
    line.coalesce(1).write.mode("overwrite").text(f"{output}/report")


def say(message: str) -> None:
    """Tell how far it is, in the driver's log."""
    print(f"{time.strftime('%H:%M:%S')} prepare: {message}", flush=True)


def prepare(spark: SparkSession, job: dict[str, Any], output: str, answers: dict[str, list[dict[str, Any]]]) -> None:
    """Carry out the plan; add the aggregates' rows to `answers`, by name."""
    for table in job["tables"]:
        reduce(
            lambda one, other: one.unionByName(other, allowMissingColumns=True),
            [read(spark, group["files"], group["nanoseconds"]) for group in table["groups"]],
        ).createOrReplaceTempView(quoted(table["name"]))
    try:
        spark.sql(job["query"]).createOrReplaceTempView("__query")
        prepared = spark.sql(job["prepared"])
        # Stored once: what follows reads columns of it several times, and must find the same rows each time.
        prepared.write.mode("overwrite").parquet(f"{output}/prepared")
    except PySparkException as error:
        raise explained(error) from None
    say("query done")
    spark.read.parquet(f"{output}/prepared").createOrReplaceTempView("__prepared")
    facts = rows(spark, job["facts"])[0]
    answers["facts"] = [facts]
    if not facts["valid"] or facts["not_binary"]:
        return
    views = []
    for part in PARTS:
        write(spark.sql(job["parts"][part].replace(job["last_day"], str(facts["last_day"]))), job, f"{output}/{part}")
        say(f"{part} written")
        view = spark.read.parquet(f"{output}/{part}").withColumn("__chunk", F.spark_partition_id())
        view.createOrReplaceTempView(f"__{part}")
        views.append(view.withColumn("__part", F.lit(part)))
    reduce(DataFrame.unionByName, views).createOrReplaceTempView("__parts")
    for statement in job["aggregates"]:
        # Stored under its name: later statements read some of them.
        spark.sql(statement["sql"]).cache().createOrReplaceTempView(quoted(f"__{statement['name']}"))
        answers[statement["name"]] = rows(spark, f"select * from {quoted(f'__{statement["name"]}')}")
        say(f"{statement['name']} done")


def read(spark: SparkSession, files: list[str], nanoseconds: list[str]) -> DataFrame:
    """Read files of one schema; Spark has no nanoseconds and takes them for integers."""
    table = spark.read.parquet(*files)
    for column in nanoseconds:
        micros = F.expr(f"cast(timestamp_micros({quoted(column)} div 1000) as timestamp_ntz)")
        table = table.withColumn(column, micros)
    return table


def write(part: DataFrame, job: dict[str, Any], path: str) -> None:
    """Write files whose rows, and their order, the rows alone decide."""
    digest = F.xxhash64(*(F.col(quoted(column)) for column in job["columns"]))
    files = max(1, -(-part.count() // ROWS_PER_FILE))
    order = [F.col(quoted(column)) for column in job["order"]]
    part.repartition(files, digest).sortWithinPartitions(*order, digest).write.mode("overwrite").parquet(path)


def rows(spark: SparkSession, statement: str) -> list[dict[str, Any]]:
    """Return an aggregate's rows."""
    return [row.asDict() for row in spark.sql(statement).collect()]


def quoted(name: str) -> str:
    """Quote a column's name."""
    return "`" + name.replace("`", "``") + "`"


def explained(error: PySparkException) -> Exception:
    """Tell apart what the query or the data is the cause of from what befell Spark."""
    text = str(error).strip()
    condition = (error.getErrorClass() or text.lstrip("[")) if hasattr(error, "getErrorClass") else text.lstrip("[")
    if isinstance(error, AnalysisException) or str(condition).startswith(QUERYS_FAULT):
        return Refused(text.splitlines()[0])
    return error


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], sys.argv[3:])
