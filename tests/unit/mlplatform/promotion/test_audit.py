from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from mlplatform.config.environment import Settings
from mlplatform.documents.decisions import AuditEntry
from mlplatform.errors import StorageError
from mlplatform.promotion.audit import append, entries
from mlplatform.storage import read_document

AT = datetime(2026, 3, 1, 12, 0, 0, 5, tzinfo=UTC)


def entry(**changes: Any) -> AuditEntry:
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
        "dag_run": "train__parcels/a",
    }
    return AuditEntry(**{**facts, **changes})


@pytest.mark.usefixtures("s3")
def test_an_entry_s_address_says_when_what_and_which(settings: Settings) -> None:
    uri = append(settings, entry())
    assert uri == "s3://artifacts/audit/parcels/20260301T120000.000005Z-approved-3.json"
    assert read_document(uri, AuditEntry) == entry()


@pytest.mark.usefixtures("s3")
def test_the_same_event_written_twice_is_one_entry(settings: Settings) -> None:
    assert append(settings, entry()) == append(settings, entry())
    assert entries(settings, "parcels") == [entry()]


@pytest.mark.usefixtures("s3")
def test_an_entry_is_never_overwritten(settings: Settings) -> None:
    uri = append(settings, entry())
    with pytest.raises(StorageError, match="another entry of the audit log is there"):
        append(settings, entry(by="john"))
    assert read_document(uri, AuditEntry).by == "jane"


@pytest.mark.usefixtures("s3")
def test_entries_are_found_by_kind_and_version_oldest_first(settings: Settings) -> None:
    later = AT + timedelta(days=40)
    for one in (
        entry(at=later, kind="rolled-back"),
        entry(),
        entry(at=later, kind="deployment-failed", model_version="13"),
        entry(at=later, dataset="iris"),
    ):
        append(settings, one)
    assert [one.kind for one in entries(settings, "parcels")] == ["approved", "deployment-failed", "rolled-back"]
    assert entries(settings, "parcels", "approved", "3") == [entry()]
    assert entries(settings, "parcels", version="13")[0].kind == "deployment-failed"
    assert entries(settings, "parcels", "approved", "13") == []
    assert entries(settings, "titanic") == []
