"""Step validate: is what landed fit to train on? All problems of all files are reported at once."""

from __future__ import annotations

import logging
from collections import defaultdict
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from mlplatform.results import FileReport, ValidateResult
from mlplatform.steps import Refused, StepContext, StepDefinition
from trainer import expectations, inputs, shutdown, sql
from trainer.inputs import LocalFile

if TYPE_CHECKING:
    import duckdb

log = logging.getLogger(__name__)


def run(context: StepContext) -> ValidateResult:
    """Check every file of the run against the dataset's configuration.

    Args:
        context: its input is the run's prefix, with ``inputs.json``.

    Raises:
        Refused: a file has a problem; the message has a line for each, the subjects are the files at fault.
    """
    model = context.config.model
    manifest = inputs.read_manifest(context.input)
    problems: list[str] = []
    warnings: list[str] = []
    subjects: dict[str, None] = {}
    reports: list[FileReport] = []
    landed = {source.table for source in manifest.objects}
    for table in model.tables:
        if table not in landed:
            problems.append(f"table {table}: no file has landed; put one under {model.name}/{table}/ before the others")
    with shutdown.scratch_folder() as folder:
        connection = sql.connect(folder)
        sound: dict[str, list[LocalFile]] = defaultdict(list)
        for index, source in enumerate(manifest.objects):
            if source.table not in model.tables:
                configured = ", ".join(sorted(model.tables))
                problems.append(f"{source.uri}: table {source.table} is not configured, only {configured}; remove it")
                subjects[source.uri] = None
                continue
            local = inputs.download(source, folder, index)
            if local is None:
                version = f" (version {source.version_id})" if source.version_id else ""
                problems.append(f"{source.uri}: no longer there{version}; land it again")
                subjects[source.uri] = None
                continue
            found = expectations.check_file(connection, local.path, source.uri, model.tables[source.table])
            log.info("%s: %d rows, %d problems", source.uri, found.rows, len(found.problems))
            reports.append(FileReport(uri=source.uri, table=source.table, rows=found.rows))
            warnings += found.warnings
            problems += found.problems
            if found.problems:
                subjects[source.uri] = None
            else:
                sound[source.table].append(local)
        for table, files in sound.items():
            key = model.tables[table].unique_key
            if key:
                problems += _duplicates(connection, table, files, key, subjects)
        connection.close()
    for warning in warnings:
        log.warning("%s", warning)
    if problems:
        raise Refused("\n".join(problems), subjects=list(subjects))
    return ValidateResult(
        run_key=context.config.run_key,
        started_at=context.started_at,
        finished_at=datetime.now(UTC),
        files=reports,
        warnings=warnings,
    )


def _duplicates(
    connection: duckdb.DuckDBPyConnection,
    table: str,
    files: list[LocalFile],
    key: list[str],
    subjects: dict[str, None],
) -> list[str]:
    """Report keys that are not unique within a table. Of several files, those that are new are at fault."""
    by_path = {file.path: file.source for file in files}
    problems = []
    for paths, example in expectations.duplicates(connection, list(by_path), key):
        sources = [by_path[path] for path in sorted(paths)]
        at_fault = [source for source in sources if source.new] or sources
        subjects.update(dict.fromkeys(source.uri for source in at_fault))
        others = f" (also in {', '.join(s.uri for s in sources if s not in at_fault)})" if at_fault != sources else ""
        problems.append(
            f"{', '.join(source.uri for source in at_fault)}: column {', '.join(key)}: "
            f"more than one row of table {table} has {example}{others}; keep one"
        )
    return problems


STEP = StepDefinition(run=run, result=ValidateResult)
