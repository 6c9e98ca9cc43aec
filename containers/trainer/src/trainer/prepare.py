"""Step prepare: from landed tables to train, validation and test examples, and what the train split looks like."""

from __future__ import annotations

import importlib.util
import logging
from datetime import UTC, datetime
from typing import Literal

from mlplatform.config.environment import Preparation
from mlplatform.documents.inputs import InputManifest
from mlplatform.documents.results import PrepareResult
from mlplatform.errors import NonRetryableError
from mlplatform.steps import StepContext
from mlplatform.storage import join, upload, write_document
from trainer import inputs, shutdown
from trainer.preparation import outcome
from trainer.preparation.outcome import Answers
from trainer.preparation.plan import PARTS, Plan

log = logging.getLogger(__name__)


def run(context: StepContext) -> PrepareResult:
    """Run the configured query over the run's files, split its rows, and describe the train split.

    Every column of the query is kept, features or not: a champion trained on other features can still be
    scored on the same rows. Rows without a target, or without what the split goes by, are left out and counted.

    Args:
        context: its input is the run's prefix, with ``inputs.json``.

    Raises:
        NonRetryableError: the query does not run or lacks a column, a split cannot be learned from or measured on, or a
            feature is the target under another name.
    """
    config = context.config
    manifest = inputs.read_manifest(context.input)
    engine = choose_engine(config.preparation, manifest)
    log.info("engine %s for %.3f GiB of input files", engine, _gib(manifest))
    plan, answers, uris = _by_spark(context, manifest) if engine == "spark" else _by_duckdb(context, manifest)
    gone = outcome.dropped(config.model, answers["facts"][0])
    if gone:
        log.warning("%d rows without %s or what the split goes by are left out", gone, config.model.target)
    summaries, profile = outcome.summarise(plan, answers)
    for part, summary in summaries.items():
        log.info("%s: %d rows, %s", part, summary.rows, summary.class_shares or f"mean {summary.target_mean:g}")
    profile_uri = join(context.output, "profile.json")
    write_document(profile_uri, profile)
    return PrepareResult(
        run_key=config.run_key,
        started_at=context.started_at,
        finished_at=datetime.now(UTC),
        engine=engine,
        dropped_rows=gone,
        profile_uri=profile_uri,
        train=summaries["train"].split(uris["train"]),
        validation=summaries["validation"].split(uris["validation"]),
        test=summaries["test"].split(uris["test"]),
    )


def choose_engine(preparation: Preparation, manifest: InputManifest) -> Literal["duckdb", "spark"]:
    """Return who does the work: what is configured, or Spark where there is one and the files are large.

    Raises:
        NonRetryableError: Spark is asked for, and there is none.
    """
    if preparation.engine == "spark" and preparation.spark is None and importlib.util.find_spec("pyspark") is None:
        raise NonRetryableError(
            "preparation.engine: is spark, but preparation.spark names no EMR Serverless application, and this image "
            "has no pyspark to do without; configure one, or choose duckdb",
            kind="bad-config",
        )
    if preparation.engine != "auto":
        return preparation.engine
    if _gib(manifest) <= preparation.spark_above_gib:
        return "duckdb"
    if preparation.spark is None:
        log.warning(
            "input files above preparation.spark_above_gib (%g), but preparation.spark is not configured",
            preparation.spark_above_gib,
        )
        return "duckdb"
    return "spark"


def _gib(manifest: InputManifest) -> float:
    return sum(source.size for source in manifest.objects) / 2**30


def _by_duckdb(context: StepContext, manifest: InputManifest) -> tuple[Plan, Answers, dict[str, list[str]]]:
    from trainer.preparation import duck

    with shutdown.scratch_folder() as folder:
        tables = inputs.download_all(manifest, folder)
        plan, answers = duck.prepare(context.config.model, tables, folder)
        outcome.summarise(plan, answers)  # nothing is uploaded that would be refused
        uris = {part: [upload(folder / f"{part}.parquet", join(context.output, f"{part}.parquet"))] for part in PARTS}
    return plan, answers, uris


def _by_spark(context: StepContext, manifest: InputManifest) -> tuple[Plan, Answers, dict[str, list[str]]]:
    from trainer.preparation.distributed import prepare

    return prepare(context, manifest)
