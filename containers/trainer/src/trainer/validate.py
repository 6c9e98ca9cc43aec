"""Step validate: is what landed fit to train on? All problems of all files are reported at once.

Beside its result, and also where there is none because a file is refused, the step leaves ``report.html`` for people,
``validate.json`` with the same facts for programs, and ``profile.json``: what the next runs measure drift against.
"""

from __future__ import annotations

import logging
from collections import defaultdict
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from mlplatform.config.dataset import ModelConfig, Table
from mlplatform.documents.profiles import DataProfile
from mlplatform.documents.results import FileReport, ValidateResult
from mlplatform.errors import NonRetryableError
from mlplatform.steps import REPORT as REPORT
from mlplatform.steps import StepContext
from mlplatform.storage import join, write_bytes, write_document
from trainer import inputs, shutdown, sql
from trainer.inputs import LocalFile
from trainer.validation import balance, drift, expectations, profiling
from trainer.validation.document import Balance, DriftReport, Finding, TableFacts, ValidationDocument

if TYPE_CHECKING:
    from pathlib import Path

    import duckdb

log = logging.getLogger(__name__)

DOCUMENT = "validate.json"
PROFILE = "profile.json"


def run(context: StepContext) -> ValidateResult:
    """Check every file of the run against the dataset's configuration.

    Args:
        context: its input is the run's prefix, with ``inputs.json``.

    Raises:
        NonRetryableError: something is wrong that is to fail the run; the message has a line for each, the subjects are
            the files at fault. The reports are written before.
    """
    with shutdown.scratch_folder() as folder:
        with sql.connect(folder) as connection:
            checked = _Checked(context, connection)
            checked.check_files(folder)
            checked.check_tables()
            checked.check_data()
        document = checked.document()
        for warning in document.of("warn"):
            log.warning("%s", warning.message)
        _write(context.output, document, checked.profiles)
    if problems := document.of("fail"):
        subjects = dict.fromkeys(uri for problem in problems for uri in problem.uris)
        raise NonRetryableError("\n".join(problem.message for problem in problems), subjects=list(subjects))
    return ValidateResult(
        run_key=context.config.run_key,
        started_at=context.started_at,
        finished_at=document.finished_at,
        files=document.files,
        warnings=[warning.message for warning in document.of("warn")],
        drift=[warning.message for warning in document.of("warn") if warning.expectation == "drift"],
        report_uri=join(context.output, REPORT),
        profile_uri=join(context.output, PROFILE),
    )


class _Checked:
    """What is known so far of a run's files."""

    def __init__(self, context: StepContext, connection: duckdb.DuckDBPyConnection) -> None:
        self.context = context
        self.model: ModelConfig = context.config.model
        self.connection = connection
        self.manifest = inputs.read_manifest(context.input)
        self.findings: list[Finding] = []
        self.files: list[FileReport] = []
        self.sound: dict[str, list[LocalFile]] = defaultdict(list)
        self.profiles: dict[str, DataProfile] = {}
        self.facts: dict[str, TableFacts] = {}
        self.balance = Balance(note="not reached")
        self.drift = DriftReport(note="not reached")

    def check_files(self, folder: Path) -> None:
        """Check that each table has a file, and each file by itself."""
        model = self.model
        landed = {source.table for source in self.manifest.objects}
        for table in model.tables:
            if table not in landed:
                missing = f"table {table}: no file has landed; put one under {model.name}/{table}/ before the others"
                self.findings.append(Finding(severity="fail", expectation="landed", message=missing, table=table))
        for index, source in enumerate(self.manifest.objects):
            if source.table not in model.tables:
                configured = ", ".join(sorted(model.tables))
                unknown = f"{source.uri}: table {source.table} is not configured, only {configured}; remove it"
                self.findings.append(
                    Finding(severity="fail", expectation="configured", message=unknown, uris=[source.uri])
                )
                continue
            local = inputs.download(source, folder, index)
            if local is None:
                version = f" (version {source.version_id})" if source.version_id else ""
                gone = f"{source.uri}: no longer there{version}; land it again"
                self.findings.append(
                    Finding(severity="fail", expectation="landed", message=gone, uris=[source.uri], table=source.table)
                )
                continue
            check = expectations.check_file(
                self.connection, local.path, source.uri, source.table, model.tables[source.table]
            )
            log.info("%s: %d rows, %d findings", source.uri, check.rows, len(check.findings))
            self.files.append(FileReport(uri=source.uri, table=source.table, rows=check.rows))
            self.findings += check.findings
            if check.sound:
                self.sound[source.table].append(local)

    def check_tables(self) -> None:
        """Check what only the files of a table together can tell, and profile them."""
        for name, table in self.model.tables.items():
            files = self.sound.get(name)
            if not files:
                continue
            paths = [file.path for file in files]
            if table.unique_key:
                self._unique(name, table, files)
            if table.freshness is not None:
                self._fresh(name, table, files)
            self.profiles[name], self.facts[name] = profiling.profile(self.connection, paths, table)

    def check_data(self) -> None:
        """Check what is expected of the data as a whole: the balance of its classes, and drift."""
        checks = self.model.checks
        paths = {name: [file.path for file in files] for name, files in self.sound.items()}
        self.balance = balance.measure(self.connection, self.model, paths)
        self.findings += balance.findings(self.balance, self.model, self._new(self.model.trigger_table))
        if self.balance.failed:
            note = f"target {self.model.target}: label balance is not measured: {self.balance.note}"
            self.findings.append(Finding(severity="warn", expectation="label balance", message=note))
        if checks.drift is None:
            self.drift = DriftReport(note="switched off (checks.drift)")
            return
        incoming = {name: self._incoming(name) for name in self.sound}
        if max((self._rows(files) for files in incoming.values()), default=0) < checks.drift.minimum_rows:
            note = (
                f"no table has {checks.drift.minimum_rows} new rows (minimum_rows), and below that chance moves a lot"
            )
            self.drift = DriftReport(note=note)
            return
        reference = drift.find_reference(self.context.config)
        if reference.failed:
            note = f"drift is not measured: {reference.note}; see that it answers before the next run"
            self.findings.append(Finding(severity="warn", expectation="drift", message=note))
        local = {name: [file.path for file in files] for name, files in incoming.items()}
        self.drift = drift.measure(self.connection, self.model.tables, local, checks.drift, reference)
        new = {name: self._new(name) for name in self.model.tables}
        self.findings += drift.findings(self.drift, checks.drift, new)

    def document(self) -> ValidationDocument:
        """Return all that was found."""
        return ValidationDocument(
            dataset=self.model.name,
            description=self.model.description,
            run_key=self.context.config.run_key,
            passed=not any(finding.severity == "fail" for finding in self.findings),
            started_at=self.context.started_at,
            finished_at=datetime.now(UTC),
            files=self.files,
            findings=self.findings,
            balance=self.balance,
            drift=self.drift,
            tables=self.facts,
        )

    def _new(self, table: str) -> list[str]:
        """Return the addresses of a table's new files: only those can be refused, others are accepted already."""
        return [source.uri for source in self.manifest.objects if source.table == table and source.new]

    def _incoming(self, table: str) -> list[LocalFile]:
        """Return the readable files that are new, or all where none is."""
        files = self.sound[table]
        return [file for file in files if file.source.new] or files

    def _rows(self, files: list[LocalFile]) -> int:
        uris = {file.source.uri for file in files}
        return sum(file.rows for file in self.files if file.uri in uris)

    def _unique(self, name: str, table: Table, files: list[LocalFile]) -> None:
        """Report keys that are not unique within a table. Of several files, those that are new are at fault."""
        by_path = {file.path: file.source for file in files}
        found = expectations.duplicates(self.connection, list(by_path), table.unique_key)
        if found is None:
            return
        sources = [by_path[path] for path in sorted(found.paths)]
        at_fault = [source for source in sources if source.new] or sources
        others = f" (also in {', '.join(s.uri for s in sources if s not in at_fault)})" if at_fault != sources else ""
        example = ", ".join(f"{k}={v}" for k, v in zip(table.unique_key, found.examples[0], strict=True))
        more = f", and {found.keys - 1} other values more than one" if found.keys > 1 else ""
        self.findings.append(
            Finding(
                severity=table.severity,
                expectation="unique key",
                message=f"{', '.join(source.uri for source in at_fault)}: column {', '.join(table.unique_key)}: more "
                f"than one row of table {name} has {example}{more}{others}; keep one",
                uris=[source.uri for source in at_fault],
                table=name,
                column=", ".join(table.unique_key),
                rows=found.rows,
                example_columns=table.unique_key,
                example_rows=found.examples,
            )
        )

    def _fresh(self, name: str, table: Table, files: list[LocalFile]) -> None:
        """Report a table whose newest row is too old at the step's start."""
        assert table.freshness is not None
        expected = table.freshness
        column = sql.identifier(expected.column)
        row = self.connection.execute(
            f"select epoch(max({column})::timestamp), max({column})::varchar from "
            f"{sql.files([file.path for file in files])}"
        ).fetchone()
        assert row is not None
        if row[0] is None:
            stale = f"has no time, so nothing tells how old the table is; fill it, {expected.maximum_age_hours:g} h old"
            stale += " at most"
        else:
            hours = (self.context.started_at.timestamp() - row[0]) / 3600
            if hours <= expected.maximum_age_hours:
                return
            stale = f"the newest row is of {row[1]}, {hours:.1f} h old, expected {expected.maximum_age_hours:g} h or "
            stale += "less; land newer data"
        new = self._new(name)
        self.findings.append(
            Finding(
                severity=expected.severity,
                expectation="freshness",
                message=f"{', '.join(new) or f'table {name}'}: column {expected.column}: {stale}",
                uris=new,
                table=name,
                column=expected.column,
            )
        )


def _write(output: str, document: ValidationDocument, profiles: dict[str, DataProfile]) -> None:
    from trainer.reports import validation  # Jinja2, after all that may refuse

    write_bytes(join(output, PROFILE), drift.PROFILES.dump_json(profiles, indent=2),
                        content_type="application/json")  # fmt: skip
    write_document(join(output, DOCUMENT), document)
    page = validation.page(document, profiles)
    write_bytes(join(output, REPORT), page.encode(), content_type="text/html; charset=utf-8")
