"""Who does a run: one DAG run at a time, by the run's record in S3; and why tasks of it failed."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from urllib.parse import quote

from mlplatform import storage
from mlplatform.documents.paths import RunPaths
from mlplatform.documents.run import FailureNote, OwnerPointer, RunRecord
from mlplatform.errors import StorageError


@dataclass(frozen=True)
class Claim:
    """Whether a DAG run may do the work, and who had it if not."""

    granted: bool
    record: RunRecord


def claim(paths: RunPaths, data_bucket: str, wanted: RunRecord, is_live: Callable[[str], bool]) -> Claim:
    """Take a run for a DAG run, unless it is finished or another live DAG run has it.

    Conditional writes decide between two that try at once.

    Args:
        paths: of the run.
        data_bucket: where the owner's pointer is written.
        wanted: the record as it shall be if the claim is granted.
        is_live: tells whether a DAG run, given by id, is still queued or running.
    """
    for _ in range(5):
        found = storage.read_stored(paths.record, RunRecord)
        if found is None:
            if storage.create_document(paths.record, wanted) is None:
                continue
        else:
            record = found.document
            live_elsewhere = record.state == "running" and record.owner != wanted.owner and is_live(record.owner)
            if record.state == "finished" or live_elsewhere:
                return Claim(False, record)
            if storage.replace_document(paths.record, wanted, found.etag) is None:
                continue
        clear_failures(paths)
        storage.write_document(_pointer(data_bucket, wanted.owner), OwnerPointer(prefix=paths.prefix))
        return Claim(True, wanted)
    raise StorageError(f"{paths.record}: it kept changing while this run tried to claim it")


def finish(paths: RunPaths, owner: str, **changes: Any) -> RunRecord | None:
    """Write the end of a run into its record; None when the record is not (or no longer) the owner's."""
    found = storage.read_stored(paths.record, RunRecord)
    if found is None or found.document.owner != owner:
        return None
    record = RunRecord.model_validate({**found.document.model_dump(), "finished_at": datetime.now(UTC), **changes})
    return record if storage.replace_document(paths.record, record, found.etag) is not None else None


def paths_of_owner(data_bucket: str, owner: str) -> RunPaths | None:
    """Return the run a DAG run has claimed, None if it has not come that far."""
    pointer = storage.try_read_document(_pointer(data_bucket, owner), OwnerPointer)
    return RunPaths(pointer.prefix) if pointer else None


def note_failure(paths: RunPaths, note: FailureNote) -> None:
    """Keep why a task failed, for the notification at the end of the run."""
    storage.write_document(storage.join(paths.prefix, "failures", f"{quote(note.task, safe='')}.json"), note)


def failures(paths: RunPaths) -> list[FailureNote]:
    """Return the notes of failed tasks, earliest first."""
    bucket, _ = storage.split_uri(paths.prefix)
    listed = storage.list_objects(storage.join(paths.prefix, "failures") + "/")
    notes = (storage.try_read_document(f"s3://{bucket}/{entry['Key']}", FailureNote) for entry in listed)
    return sorted((note for note in notes if note), key=lambda note: note.at)


def clear_failures(paths: RunPaths) -> None:
    """Forget the notes of an earlier attempt."""
    bucket, _ = storage.split_uri(paths.prefix)
    for entry in list(storage.list_objects(storage.join(paths.prefix, "failures") + "/")):
        storage.delete(f"s3://{bucket}/{entry['Key']}")


def root_cause(notes: list[FailureNote]) -> FailureNote | None:
    """Return the note that explains the run's failure best.

    That is the first task that failed, but a training pod only if nothing else did: a run can do without
    some of its trials.
    """
    others = [note for note in notes if not note.task.startswith("training.train")]
    return next(iter(others or notes), None)


def _pointer(data_bucket: str, owner: str) -> str:
    return f"s3://{data_bucket}/runs/_owners/{quote(owner, safe='')}.json"
