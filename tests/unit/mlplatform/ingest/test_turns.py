"""At work on a dataset is one run at a time."""

from __future__ import annotations

from typing import Any

import pytest

from mlplatform import storage
from mlplatform.documents.run import Turn
from mlplatform.ingest import turns

A, B, C = (f"train__parcels/{name}" for name in "abc")
URI = "s3://data/runs/_turns/parcels.json"


def take(owner: str, *live: str, dataset: str = "parcels") -> str | None:
    return turns.take("data", dataset, owner, lambda other: other in live)


def holder() -> str | None:
    return storage.read_document(URI, Turn).owner


def test_the_first_to_come_has_the_turn_and_keeps_it(s3: Any) -> None:
    assert take(A) is None
    before = storage.read_bytes(URI)
    assert take(A, A) is None
    assert storage.read_bytes(URI) == before, "since when it is at work is told by the first time"


def test_a_run_waits_for_one_that_is_at_work(s3: Any) -> None:
    take(A)
    assert take(B, A) == A
    assert holder() == A


def test_datasets_do_not_wait_for_one_another(s3: Any) -> None:
    take(A)
    assert take("train__iris/a", A, dataset="iris") is None


def test_the_turn_of_a_run_that_ended_without_giving_it_back_is_anybody_s(s3: Any) -> None:
    take(A)
    assert take(B) is None
    assert holder() == B


def test_a_turn_that_was_given_back_is_anybody_s(s3: Any) -> None:
    take(A)
    turns.give_back("data", "parcels", A)
    assert holder() is None
    assert take(B, A) is None, "though the one before is not over: it waits for a person"
    assert take(A, B) == B, "and has to wait if it is to work again"


def test_only_the_owner_gives_the_turn_back(s3: Any) -> None:
    turns.give_back("data", "parcels", A)
    assert storage.try_read_document(URI, Turn) is None
    take(A)
    turns.give_back("data", "parcels", B)
    assert holder() == A


def overtake(monkeypatch: pytest.MonkeyPatch, other: str, *live: str) -> None:
    """Have another run take the turn between the next look at it and the write that follows."""
    read = storage.read_stored

    def read_then_lose(uri: str, kind: Any) -> Any:
        found = read(uri, kind)
        monkeypatch.setattr(storage, "read_stored", read)
        assert take(other, *live) is None
        return found

    monkeypatch.setattr(storage, "read_stored", read_then_lose)


@pytest.mark.parametrize("before", [None, A], ids=["nobody-s", "of-one-that-ended"])
def test_between_two_that_try_at_once_one_has_it(s3: Any, monkeypatch: pytest.MonkeyPatch, before: str | None) -> None:
    if before:
        take(before)
    overtake(monkeypatch, B)
    assert take(C, B) == "another run, which was faster"
    assert holder() == B
    assert take(C, B) == B, "and from then on it is named"


def test_a_turn_that_was_taken_over_meanwhile_is_not_given_back(s3: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    take(A)
    overtake(monkeypatch, B)
    turns.give_back("data", "parcels", A)
    assert holder() == B
