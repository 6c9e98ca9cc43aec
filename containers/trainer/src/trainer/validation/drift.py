"""Drift of the new files against the files that the champion was trained on."""

from __future__ import annotations

import logging
import os
import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import TypeAdapter, ValidationError

from mlplatform.config.dataset import Drift, Table
from mlplatform.documents.paths import RunPaths
from mlplatform.documents.profiles import DataProfile, read_profiles
from mlplatform.documents.results import ValidateResult
from mlplatform.documents.run import RunConfig
from mlplatform.errors import StorageError
from mlplatform.monitoring.drift import CategoryBins, bins_of, comparable, compare
from mlplatform.promotion.registry import CHAMPION, get_version_with_alias
from mlplatform.steps import RESULT
from mlplatform.storage import read_bytes, read_document
from trainer import tracking
from trainer.validation.document import ColumnDrift, DriftReport, Finding, TableDrift
from trainer.validation.profiling import count_in_bins

if TYPE_CHECKING:
    import duckdb

log = logging.getLogger(__name__)

RUN_PREFIX = "run_prefix"
"""Tag of a model version: address of the run that made it."""
PROFILES: TypeAdapter[dict[str, DataProfile]] = TypeAdapter(dict[str, DataProfile])
"""Content of ``profile.json``: a profile by table."""


@dataclass(frozen=True)
class Reference:
    """The champion's training data.

    Attributes:
        champion: version of the registered model, None where there is no champion.
        profiles: by table, None where they are not known.
        note: why they are not known.
        failed: whether that is because somebody did not answer.
    """

    champion: str | None
    profiles: dict[str, DataProfile] | None
    note: str | None = None
    failed: bool = False


def find_reference(config: RunConfig) -> Reference:
    """Read the profiles that the champion's own run wrote when it validated its data.

    Raises:
        MlflowException: the tracking server does not answer, and drift is to fail the run: it cannot pass unmeasured.
    """
    # Drift is one check of many: the client's own patience, minutes, would make each of them wait.
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "2")
    tracking.import_mlflow()
    from mlflow.exceptions import MlflowException

    try:
        champion = get_version_with_alias(config.tracking_uri, config.model.registered_model, CHAMPION)
    except MlflowException as error:
        assert config.model.checks.drift is not None
        if config.model.checks.drift.severity == "fail":
            raise
        reason = textwrap.shorten(str(error), 160, placeholder=" …")
        note = f"the tracking server at {config.tracking_uri} did not tell who the champion is ({reason})"
        return Reference(None, None, note, failed=True)
    if champion is None:
        return Reference(None, None, "there is no champion yet to compare with")
    who = f"champion version {champion.version}"
    prefix = champion.tags.get(RUN_PREFIX)
    if not prefix:
        return Reference(champion.version, None, f"{who} does not say which run made it (tag {RUN_PREFIX})")
    try:
        uri = RunPaths(prefix).step("validate", RESULT)
        result = read_document(uri, ValidateResult)
        profiles = read_profiles(read_bytes(result.profile_uri), result.profile_uri)
    except (StorageError, ValidationError, ValueError) as error:
        reason = str(error).splitlines()[0]
        return Reference(champion.version, None, f"the profile of {who}'s training data cannot be read ({reason})")
    return Reference(champion.version, profiles)


def measure(
    connection: duckdb.DuckDBPyConnection,
    tables: Mapping[str, Table],
    files: Mapping[str, Sequence[Path]],
    drift: Drift,
    reference: Reference,
) -> DriftReport:
    """Compare the files of each table with the reference.

    Args:
        files: by table; structurally sound ones.
    """
    if reference.profiles is None:
        return DriftReport(note=reference.note, champion=reference.champion)
    measured = {
        name: _table(connection, table, files.get(name, []), drift, reference.profiles.get(name))
        for name, table in tables.items()
    }
    return DriftReport(champion=reference.champion, tables=measured)


def _table(
    connection: duckdb.DuckDBPyConnection,
    table: Table,
    paths: Sequence[Path],
    drift: Drift,
    reference: DataProfile | None,
) -> TableDrift:
    if reference is None:
        return TableDrift(note="the champion was trained without this table")
    if not paths:
        return TableDrift(note="no readable file", reference_rows=reference.rows)
    skipped: dict[str, str] = {}
    bins = {}
    for name, column in table.columns.items():
        profile = reference.columns.get(name)
        textual = column.type in ("string", "boolean")
        if column.type == "timestamp":
            skipped[name] = "times move on"
        elif not column.drift:
            skipped[name] = "not wanted (drift: false)"
        elif table.unique_key == [name]:
            skipped[name] = "names the row"
        elif profile is None:
            skipped[name] = "not in the champion's data"
        elif not comparable(profile, reference.rows):
            skipped[name] = "empty in the champion's data"
        elif isinstance(chosen := bins_of(profile, reference.rows), CategoryBins) != textual:
            skipped[name] = "of another type in the champion's data"
        else:
            bins[name] = chosen
    rows, counts = count_in_bins(connection, paths, table, bins)
    few = min(rows, reference.rows)
    if few < drift.minimum_rows:
        whose = "new files have" if rows <= reference.rows else "champion's data has"
        note = f"the {whose} only {few} rows, and below {drift.minimum_rows} (minimum_rows) chance moves a lot"
        return TableDrift(note=note, rows=rows, reference_rows=reference.rows)
    columns: dict[str, ColumnDrift] = {}
    for name in table.columns:
        if name in skipped:
            columns[name] = ColumnDrift(note=skipped[name])
            continue
        change = compare(bins[name], counts[name])
        columns[name] = ColumnDrift(
            psi=change.psi,
            most=change.name,
            before=change.before,
            now=change.now,
            bins=bins[name].names,
            reference=bins[name].reference,
            current=counts[name],
            drifted=change.psi > drift.maximum_psi,
        )
    return TableDrift(rows=rows, reference_rows=reference.rows, columns=columns)


def findings(report: DriftReport, drift: Drift, new: Mapping[str, Sequence[str]]) -> list[Finding]:
    """Return a finding for each column that has drifted.

    Args:
        new: addresses of the new files by table.
    """
    found = []
    for table, measured in report.tables.items():
        for column, one in measured.columns.items():
            if not one.drifted or one.psi is None:
                continue
            found.append(
                Finding(
                    severity=drift.severity,
                    expectation="drift",
                    message=f"table {table}: column {column}: has drifted from the training data of champion version "
                    f"{report.champion}: PSI {one.psi:.2f}, more than {drift.maximum_psi:g}; most of all {one.most}, "
                    f"{one.before:.1%} before and {one.now:.1%} now; find out why, then accept it by training on it or "
                    "correct the data",
                    uris=list(new.get(table, [])),
                    table=table,
                    column=column,
                )
            )
    return found
