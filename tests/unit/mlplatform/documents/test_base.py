from __future__ import annotations

import json
from typing import Any

import pytest
from pydantic import Field

from mlplatform.config.base import Strict
from mlplatform.config.policy import GUARDS_VERSION
from mlplatform.documents.base import Document, versions
from mlplatform.errors import NewerReleaseError, StorageError


class Limit(Strict):
    """What people write, and a document embeds."""

    most: float


class Note(Document):
    """A document that was changed once so that older readers must not read it."""

    schema_version: int = 3
    oldest_readable = 2
    text: str
    limits: dict[str, Limit] = Field(default={})

    @classmethod
    def upgrade(cls, found: dict[str, Any], written: int) -> dict[str, Any]:
        """Version 2 called the text `message`."""
        return {**found, "text": found["message"]} if written == 2 else found


def read(**content: Any) -> Note:
    return Note.read(json.dumps(content), "s3://b/note.json")


def test_what_is_made_is_strict_and_what_is_read_is_tolerant() -> None:
    with pytest.raises(ValueError, match="Extra inputs are not permitted"):
        Note(text="x", more=1)  # type: ignore[call-arg]
    content = {"text": "x", "more": 1, "limits": {"a": {"most": 2, "least": 1}}}
    assert read(schema_version=3, **content) == Note(text="x", limits={"a": Limit(most=2)})
    with pytest.raises(ValueError, match="Extra inputs are not permitted"):
        Limit.model_validate({"most": 2, "least": 1})


def test_what_was_written_is_read_and_says_its_version() -> None:
    note = Note(text="x", limits={"a": Limit(most=2)})
    assert json.loads(note.model_dump_json())["schema_version"] == 3
    assert Note.read(note.model_dump_json(), "note") == note


def test_an_older_version_is_made_a_present_one() -> None:
    assert read(schema_version=2, message="x") == Note(text="x")
    assert read(version=2, message="x") == Note(text="x"), "as release 0.1.0 called it"


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ({"schema_version": 1, "text": "x"}, r"an older release wrote it \(Note in schema version 1; .* from 2 on\)"),
        ({"text": "x"}, "an older release wrote it"),
        ({"schema_version": "3", "text": "x"}, "schema_version: '3' is not a whole number"),
        ({"schema_version": True, "text": "x"}, "schema_version: True is not a whole number"),
        ({"schema_version": 3}, "not a valid Note: text: Field required"),
        ({"schema_version": 3, "text": "x", "limits": {"a": {}}}, r"not a valid Note: limits.a.most: Field required"),
    ],
)
def test_what_cannot_be_read_says_where_and_why(content: dict[str, Any], says: str) -> None:
    with pytest.raises(StorageError, match=rf"^s3://b/note.json: .*{says}"):
        read(**content)


@pytest.mark.parametrize("content", ["{", "[]", "null", ""])
def test_what_is_no_document_at_all(content: str) -> None:
    with pytest.raises(StorageError, match=r"^note: .*JSON"):
        Note.read(content, "note")


def test_a_newer_version_is_refused_though_it_would_fit() -> None:
    with pytest.raises(NewerReleaseError, match=r"\(Note in schema version 4; this release reads up to 3\)$"):
        read(schema_version=4, text="x")


def test_every_kind_says_its_versions_without_being_imported_first() -> None:
    found = versions()
    assert found["RunConfig"] == [2, 1 + GUARDS_VERSION]
    assert {"EvaluateResult", "DataProfile", "LockRecord", "AuditEntry"} <= found.keys()
    assert all(oldest <= newest for oldest, newest in found.values())
