"""Whose turn it is to work on a dataset: of its training runs one at a time, so that no two settle the same files or
are compared with a champion that the other replaces.

A run takes its turn when its data is there and gives it back before it waits for a person, so that what waits holds up
nothing. A turn whose run has ended without giving it back is anybody's.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime

from mlplatform import storage
from mlplatform.documents.run import Turn


def take(data_bucket: str, dataset: str, owner: str, is_live: Callable[[str], bool]) -> str | None:
    """Take the turn, or keep it; conditional writes decide between two that try at once.

    Args:
        data_bucket: where turns are written down.
        dataset: that the run is about.
        owner: ``<DAG>/<run>``.
        is_live: tells whether a DAG run, given as its ``owner``, is still queued or running.

    Returns:
        None if the turn is the owner's, else whose it is.
    """
    uri = address(data_bucket, dataset)
    wanted = Turn(owner=owner, since=datetime.now(UTC))
    found = storage.read_stored(uri, Turn)
    if found is None:
        taken = storage.create_document(uri, wanted) is not None
    else:
        holder = found.document.owner
        if holder == owner:
            return None
        if holder is not None and is_live(holder):
            return holder
        taken = storage.replace_document(uri, wanted, found.etag) is not None
    return None if taken else "another run, which was faster"


def give_back(data_bucket: str, dataset: str, owner: str) -> None:
    """Give the turn back; one that is not the owner's is left alone."""
    uri = address(data_bucket, dataset)
    found = storage.read_stored(uri, Turn)
    if found is not None and found.document.owner == owner:
        # Written by somebody else in between: then it is theirs.
        storage.replace_document(uri, Turn(owner=None, since=datetime.now(UTC)), found.etag)


def address(data_bucket: str, dataset: str) -> str:
    """Return where a dataset's turn is written down (`Turn`)."""
    return f"s3://{data_bucket}/runs/_turns/{dataset}.json"
