from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from mlplatform import audit, storage
from mlplatform.config import Settings

AT = datetime(2026, 3, 1, 12, 0, 0, 5, tzinfo=UTC)


def entry(**changes: Any) -> audit.AuditEntry:
    facts: dict[str, Any] = {
        "kind": "approved",
        "at": AT,
        "dataset": "parcels",
        "registered_model": "parcels",
        "model_version": "3",
        "model_digest": "m",
        "evaluation_digest": "e",
        "by": "jane",
        "reason": "better",
        "dag_run": "train_model/a",
    }
    return audit.AuditEntry(**{**facts, **changes})


@pytest.mark.usefixtures("s3")
def test_an_entry_s_address_says_when_what_and_which(settings: Settings) -> None:
    uri = audit.append(settings, entry())
    assert uri == "s3://artifacts/audit/parcels/20260301T120000.000005Z-approved-3.json"
    assert storage.read_document(uri, audit.AuditEntry) == entry()


@pytest.mark.usefixtures("s3")
def test_the_same_event_written_twice_is_one_entry(settings: Settings) -> None:
    assert audit.append(settings, entry()) == audit.append(settings, entry())
    assert audit.entries(settings, "parcels") == [entry()]


@pytest.mark.usefixtures("s3")
def test_an_entry_is_never_overwritten(settings: Settings) -> None:
    uri = audit.append(settings, entry())
    with pytest.raises(storage.StorageError, match="another entry of the audit log is there"):
        audit.append(settings, entry(by="john"))
    assert storage.read_document(uri, audit.AuditEntry).by == "jane"


@pytest.mark.usefixtures("s3")
def test_entries_are_found_by_kind_and_version_oldest_first(settings: Settings) -> None:
    later = AT + timedelta(days=40)
    for one in (
        entry(at=later, kind="rolled-back"),
        entry(),
        entry(at=later, kind="deployment-failed", model_version="13"),
        entry(at=later, dataset="iris"),
    ):
        audit.append(settings, one)
    assert [one.kind for one in audit.entries(settings, "parcels")] == ["approved", "deployment-failed", "rolled-back"]
    assert audit.entries(settings, "parcels", "approved", "3") == [entry()]
    assert audit.entries(settings, "parcels", version="13")[0].kind == "deployment-failed"
    assert audit.entries(settings, "parcels", "approved", "13") == []
    assert audit.entries(settings, "titanic") == []
