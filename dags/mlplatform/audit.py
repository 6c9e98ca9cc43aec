"""The audit log: who decided what about which model version, and what became of it. No Airflow import.

One object per event, ``s3://<artifacts>/audit/<dataset>/<UTC timestamp>-<kind>-<version>.json``, written only if it
is not there (S3's conditional put), never changed and never removed. The moment is part of the event, not of the
writing, so that an event written twice is one object.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Literal

from pydantic import Field

from mlplatform import storage
from mlplatform.config import Settings, Strict

Kind = Literal["approved", "rejected", "expired", "deployed", "rolled-back", "deployment-failed"]


class AuditEntry(Strict):
    """One line of the log."""

    schema_version: Literal[1] = 1
    kind: Kind
    at: datetime
    """When it happened, UTC."""
    dataset: str
    registered_model: str
    model_version: str
    model_digest: str
    evaluation_digest: str
    """Of the evaluation that was decided on."""
    by: str
    """A person, ``policy`` or ``deadline``."""
    reason: str
    dag_run: str
    """``<DAG>/<run>`` that wrote it."""
    details: dict[str, str] = Field(default={})


def folder(settings: Settings, dataset: str) -> str:
    """Return the address that all entries of a dataset are under."""
    return f"s3://{settings.buckets.artifacts}/audit/{dataset}"


def address(settings: Settings, entry: AuditEntry) -> str:
    """Return the address of an entry; addresses sort by time."""
    moment = entry.at.astimezone(UTC).strftime("%Y%m%dT%H%M%S.%fZ")
    return storage.join(folder(settings, entry.dataset), f"{moment}-{entry.kind}-{entry.model_version}.json")


def append(settings: Settings, entry: AuditEntry) -> str:
    """Write an entry, and return its address; one that is there already is left as it is.

    Raises:
        StorageError: another entry has its place.
    """
    uri = address(settings, entry)
    if not storage.write_document(uri, entry, new=True) and storage.read_document(uri, AuditEntry) != entry:
        raise storage.StorageError(f"{uri}: another entry of the audit log is there; entries are never overwritten")
    return uri


def entries(settings: Settings, dataset: str, kind: Kind | None = None, version: str | None = None) -> list[AuditEntry]:
    """Return a dataset's entries, oldest first."""
    found = []
    for listed in storage.list_objects(folder(settings, dataset) + "/"):
        _, _, rest = listed["Key"].rsplit("/", 1)[-1].removesuffix(".json").partition("-")
        of_kind, _, of_version = rest.rpartition("-")
        if kind in (None, of_kind) and version in (None, of_version):
            found.append(storage.read_document(f"s3://{settings.buckets.artifacts}/{listed['Key']}", AuditEntry))
    return found
