"""Preparation by Spark: on EMR Serverless, or on this machine where only PySpark is there."""

from __future__ import annotations

import json
import logging
import subprocess
import sys
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from mlplatform.config.dataset import ModelConfig
from mlplatform.config.environment import Spark
from mlplatform.documents.inputs import InputManifest, InputObject
from mlplatform.errors import NonRetryableError
from mlplatform.steps import StepContext
from mlplatform.storage import client, download, join, list_objects, read_bytes, split_uri, upload, write_bytes
from trainer import inputs, shutdown, sql
from trainer.preparation import duck, emr, outcome
from trainer.preparation.outcome import Answers
from trainer.preparation.plan import LAST_DAY, PARTS, Plan, make_plan
from trainer.preparation.translate import own_to_spark, to_spark
from trainer.resources import memory, threads

SCRIPT = Path(__file__).with_name("spark_job.py")
TIMEOUT_MINUTES = 24 * 60
"""Ends a job that nobody follows any more; the step's own timeout ends it sooner."""

log = logging.getLogger(__name__)


def prepare(context: StepContext, manifest: InputManifest) -> tuple[Plan, Answers, dict[str, list[str]]]:
    """Have Spark prepare the run's files; return the aggregates, and the files of each part.

    The plan needs the types of the query's columns, which DuckDB tells from the files' footers alone.

    Raises:
        NonRetryableError: the query is wrong or not to be translated, or a file is gone.
        JobFailed: Spark did not succeed for another reason.
    """
    model = context.config.model
    application = context.config.preparation.spark
    with shutdown.scratch_folder() as folder:
        footers = [inputs.download_footer(source, folder, index) for index, source in enumerate(manifest.objects)]
        plan, kinds = _plan(model, manifest, footers, folder)
        if application is None:
            report, uris = _on_this_machine(context, manifest, plan, kinds, folder)
        else:
            report, uris = _on_emr(context, manifest, plan, kinds, application)
    if report["refused"]:
        raise NonRetryableError(
            f"config/models/{model.name}.yaml: query: Spark: {report['refused']}", kind="bad-config"
        )
    answers: Answers = report["answers"]
    for statement in plan.aggregates:
        outcome.check_limits(statement, answers.get(statement.name, []))
    return plan, answers, uris


def _plan(
    model: ModelConfig, manifest: InputManifest, footers: Sequence[Path], folder: Path
) -> tuple[Plan, list[dict[str, str]]]:
    """Plan, and return the types of each file's columns."""
    tables: dict[str, list[Path]] = defaultdict(list)
    for source, footer in zip(manifest.objects, footers, strict=True):
        tables[source.table].append(footer)
    with sql.connect(folder) as connection:
        plan = make_plan(model, duck.query_types(connection, model, tables))
        return plan, [duck.types(connection, sql.files([footer])) for footer in footers]


def make_job(
    plan: Plan, sources: Sequence[InputObject], files: Sequence[str], kinds: Sequence[Mapping[str, str]]
) -> dict[str, Any]:
    """Return what ``spark_job.py`` is told.

    Args:
        files: addresses of the sources, as Spark is to read them.
        kinds: types of each file's columns; files of the same are read together.
    """
    groups: dict[str, dict[tuple[tuple[str, str], ...], list[str]]] = defaultdict(lambda: defaultdict(list))
    for source, file, types in zip(sources, files, kinds, strict=True):
        groups[source.table][tuple(types.items())].append(file)
    tables = [
        {
            "name": table,
            "groups": [
                {"files": listed, "nanoseconds": [name for name, kind in types if kind == "TIMESTAMP_NS"]}
                for types, listed in by_types.items()
            ],
        }
        for table, by_types in groups.items()
    ]
    return {
        "tables": [table for table in tables if table["name"] in plan.model.tables],
        "query": to_spark(plan.model.query, f"config/models/{plan.model.name}.yaml: query"),
        "prepared": own_to_spark(plan.prepared),
        "facts": own_to_spark(plan.facts.sql),
        "last_day": LAST_DAY,
        "parts": {part: own_to_spark(plan.rows(part)) for part in PARTS},
        "columns": list(plan.columns),
        "order": [plan.model.split.column] if plan.model.split.kind == "time" else [],
        "aggregates": [
            {"name": statement.name, "sql": own_to_spark(statement.sql)}
            for statement in [*plan.aggregates, plan.leaks(list(plan.model.features))]
        ],
    }


def _on_this_machine(
    context: StepContext, manifest: InputManifest, plan: Plan, kinds: Sequence[Mapping[str, str]], folder: Path
) -> tuple[dict[str, Any], dict[str, list[str]]]:
    """Run Spark in a child process on local copies."""
    downloaded = folder / "inputs"
    files = [
        str(download(source.uri, downloaded / f"{index:05d}.parquet", source.version_id))
        for index, source in enumerate(manifest.objects)
    ]
    job = folder / "job.json"
    job.write_text(json.dumps(make_job(plan, manifest.objects, files, kinds)), encoding="utf-8")
    output = folder / "output"
    run_locally(job, output, folder)
    (report,) = (output / "report").glob("part-*")
    uris: dict[str, list[str]] = {}
    for part in PARTS:
        uris[part] = [
            upload(path, join(context.output, part, f"part-{index:05d}.parquet"))
            for index, path in enumerate(sorted((output / part).glob("part-*.parquet")))
        ]
    return json.loads(report.read_text(encoding="utf-8")), uris


def run_locally(job: Path, output: Path, scratch: Path) -> None:
    """Run ``spark_job.py`` with as many threads, and as much memory, as the step has.

    Raises:
        JobFailed: it failed.
    """
    settings = {
        "spark.master": f"local[{threads()}]",
        "spark.driver.memory": f"{max(512, int(memory() * 0.7) // 2**20)}m",
        "spark.driver.host": "127.0.0.1",
        "spark.driver.bindAddress": "127.0.0.1",
        "spark.local.dir": str(scratch),
        "spark.sql.warehouse.dir": str(scratch / "warehouse"),
        "spark.sql.shuffle.partitions": str(4 * threads()),
        "spark.ui.enabled": "false",
    }
    # -P: what lies beside the script is no library of it.
    command = [sys.executable, "-P", str(SCRIPT), job.as_uri(), output.as_uri()]
    with (scratch / "spark.log").open("w+b") as errors:
        process = subprocess.Popen([*command, *(f"{key}={value}" for key, value in settings.items())], stderr=errors)
        with shutdown.on_stop(process.terminate):
            code = process.wait()
        if code:
            errors.seek(0)
            raise emr.JobFailed(f"Spark ended with {code}: {errors.read().decode(errors='replace')[-4000:]}")


def _on_emr(
    context: StepContext,
    manifest: InputManifest,
    plan: Plan,
    kinds: Sequence[Mapping[str, str]],
    application: Spark,
) -> tuple[dict[str, Any], dict[str, list[str]]]:
    """Run Spark on EMR Serverless, on S3 itself."""
    work = join(context.output, "spark")
    files = [
        pinned(source, join(work, "inputs", f"{index:05d}.parquet")) for index, source in enumerate(manifest.objects)
    ]
    job = make_job(plan, manifest.objects, files, kinds)
    script_uri = upload(SCRIPT, join(work, SCRIPT.name))
    job_uri = join(work, "job.json")
    write_bytes(job_uri, json.dumps(job, indent=2).encode(), content_type="application/json")
    emr.run_job(
        emr.client(context.config.region),
        application,
        name=f"prepare-{context.config.run_key}",
        script_uri=script_uri,
        arguments=[job_uri, context.output],
        log_uri=join(work, "logs") + "/",
        timeout_minutes=TIMEOUT_MINUTES,
    )
    for source, file in zip(manifest.objects, files, strict=True):
        if file == source.uri and not inputs.is_latest(source):
            raise emr.JobFailed(f"{source.uri}: landed again while Spark read it; another attempt reads a copy")
    bucket, _ = split_uri(context.output)

    def written(folder: str) -> list[str]:
        listed = list_objects(join(context.output, folder) + "/")
        return sorted(f"s3://{bucket}/{item['Key']}" for item in listed if "/part-" in item["Key"])

    (report,) = written("report")
    answer = json.loads(read_bytes(report))
    uris = {part: written(part) for part in PARTS}
    for folder in ("prepared", "report", "spark/inputs"):
        _delete(join(context.output, folder) + "/")
    return answer, uris


def pinned(source: InputObject, copy_uri: str) -> str:
    """Return where Spark, which knows no versions, reads exactly the pinned one: a copy if it is not the latest."""
    return source.uri if inputs.is_latest(source) else inputs.copy_pinned(source, copy_uri)


def _delete(prefix: str) -> None:
    """Delete what nobody reads any more."""
    bucket, _ = split_uri(prefix)
    for item in list_objects(prefix):
        client().delete_object(Bucket=bucket, Key=item["Key"])
