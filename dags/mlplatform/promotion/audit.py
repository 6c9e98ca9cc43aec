"""The audit log: who decided what about which model version, and what became of it.

One object per event, ``s3://<artifacts>/audit/<dataset>/<UTC timestamp>-<kind>-<version>.json``, written only if it
is not there (S3's conditional put), never changed and never removed. The moment is part of the event, not of the
writing, so that an event written twice is one object.
"""

from __future__ import annotations

from datetime import UTC, datetime

from mlplatform import storage
from mlplatform.config.environment import Settings
from mlplatform.documents.decisions import AuditEntry, AuditKind
from mlplatform.errors import StorageError


def folder(settings: Settings, dataset: str) -> str:
    """Return the address that all entries of a dataset are under."""
    return f"s3://{settings.buckets.artifacts}/audit/{dataset}"


def address(settings: Settings, entry: AuditEntry) -> str:
    """Return the address of an entry; addresses sort by time."""
    moment = entry.at.astimezone(UTC).strftime("%Y%m%dT%H%M%S.%fZ")
    return storage.join(folder(settings, entry.dataset), f"{moment}-{entry.kind}-{entry.model_version}.json")


def key_since(dataset: str, moment: datetime) -> str:
    """Return a key that sorts before those of a dataset's entries from a moment on, and after all earlier ones."""
    return f"audit/{dataset}/{moment.astimezone(UTC):%Y%m%dT%H%M%S}"


def kind_and_version(key: str) -> tuple[str, str]:
    """Return what an entry is about, which its key says."""
    _, _, rest = key.rsplit("/", 1)[-1].removesuffix(".json").partition("-")
    kind, _, version = rest.rpartition("-")
    return kind, version


def append(settings: Settings, entry: AuditEntry) -> str:
    """Write an entry, and return its address; one that is there already is left as it is.

    Raises:
        StorageError: another entry has its place.
    """
    uri = address(settings, entry)
    if storage.create_document(uri, entry) is None and storage.read_document(uri, AuditEntry) != entry:
        raise StorageError(f"{uri}: another entry of the audit log is there; entries are never overwritten")
    return uri


def entries(
    settings: Settings, dataset: str, kind: AuditKind | None = None, version: str | None = None
) -> list[AuditEntry]:
    """Return a dataset's entries, oldest first."""
    found = []
    for listed in storage.list_objects(folder(settings, dataset) + "/"):
        of_kind, of_version = kind_and_version(listed["Key"])
        if kind in (None, of_kind) and version in (None, of_version):
            found.append(storage.read_document(f"s3://{settings.buckets.artifacts}/{listed['Key']}", AuditEntry))
    return found
