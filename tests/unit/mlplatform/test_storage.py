"""Writes on a condition, where S3's answers are lost or others write at the same time."""

from __future__ import annotations

from typing import Any

import pytest
from botocore.exceptions import ClientError

from mlplatform import storage
from mlplatform.documents.run import OwnerPointer
from mlplatform.errors import UnavailableError

URI = "s3://data/note.json"
ONE, TWO = OwnerPointer(prefix="s3://data/one"), OwnerPointer(prefix="s3://data/two")


def refused(code: str) -> ClientError:
    return ClientError({"Error": {"Code": code, "Message": code}}, "PutObject")


@pytest.fixture
def answers(s3: Any, monkeypatch: pytest.MonkeyPatch) -> list[str | None]:
    """What S3 says to the next writes: None is its own word; another one comes though the write was done."""
    planned: list[str | None] = []
    put = storage.client().put_object

    def answer(**wanted: Any) -> Any:
        code = planned.pop(0) if planned else None
        if code == "ConditionalRequestConflict":
            raise refused(code)  # nothing was written
        done = put(**wanted)
        if code is not None:
            raise refused(code)
        return done

    monkeypatch.setattr(storage.client(), "put_object", answer)
    monkeypatch.setattr(storage, "_CONFLICT_PAUSES", (0, 0, 0))
    return planned


def test_one_creates_and_the_other_finds_it_there(answers: list[str | None]) -> None:
    assert storage.create_document(URI, ONE) is not None
    assert storage.create_document(URI, TWO) is None
    found = storage.read_stored(URI, OwnerPointer)
    assert found is not None
    assert found.document == ONE


def test_only_what_was_seen_is_replaced(answers: list[str | None]) -> None:
    etag = storage.create_document(URI, ONE)
    assert etag is not None
    newer = storage.replace_document(URI, TWO, etag)
    assert newer is not None
    assert storage.replace_document(URI, ONE, etag) is None
    storage.delete(URI)
    assert storage.replace_document(URI, ONE, newer) is None


def test_a_write_whose_answer_was_lost_was_done(answers: list[str | None]) -> None:
    answers.append("PreconditionFailed")  # to the second sending of the same write
    etag = storage.create_document(URI, ONE)
    found = storage.read_stored(URI, OwnerPointer)
    assert found is not None
    assert (found.document, found.etag) == (ONE, etag)
    answers.append("PreconditionFailed")
    assert storage.replace_document(URI, TWO, found.etag) is not None


def test_a_conflict_is_tried_again(answers: list[str | None]) -> None:
    answers += ["ConditionalRequestConflict"] * 3
    assert storage.create_document(URI, ONE) is not None


def test_nobody_is_said_to_have_won_where_every_try_met_another_write(answers: list[str | None]) -> None:
    answers += ["ConditionalRequestConflict"] * 4
    with pytest.raises(UnavailableError, match="another write was under way"):
        storage.create_document(URI, ONE)


def test_other_errors_are_not_taken_for_an_answer(answers: list[str | None]) -> None:
    answers.append("AccessDenied")
    with pytest.raises(ClientError, match="AccessDenied"):
        storage.create_document(URI, ONE)
