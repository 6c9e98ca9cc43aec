"""One run of the pipeline: its identity, its addresses in S3, and the record of who does it. No Airflow import.

The run key is a hash of everything that decides the outcome: the input files' contents, the effective
configuration and the images. All outputs of a run live under it, so the same work is never done twice:
a finished run is recognised, a failed one goes on where it stopped.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Literal
from urllib.parse import quote

from pydantic import Field

from mlplatform import storage
from mlplatform.config import Images, InputObject, Strict, digest


@dataclass(frozen=True)
class RunPaths:
    """Addresses of a run's documents, ``s3://<data>/runs/<dataset>/<run_key>/…``."""

    prefix: str

    @classmethod
    def of(cls, data_bucket: str, dataset: str, run_key: str) -> RunPaths:
        """Return the addresses of the run with this key."""
        return cls(f"s3://{data_bucket}/runs/{dataset}/{run_key}")

    @property
    def record(self) -> str:
        """`RunRecord`: who does the run, and how it ended."""
        return storage.join(self.prefix, "run.json")

    @property
    def config(self) -> str:
        """`RunConfig` of the steps validate and prepare."""
        return storage.join(self.prefix, "config.json")

    @property
    def inputs(self) -> str:
        """`InputManifest`."""
        return storage.join(self.prefix, "inputs.json")

    @property
    def decision(self) -> str:
        """`mlplatform.gate.Decision`."""
        return storage.join(self.prefix, "decision.json")

    def step(self, name: str, document: str = "") -> str:
        """Return the output prefix of a step, or the address of a document in it."""
        return storage.join(self.prefix, name, *([document] if document else []))

    @property
    def selection(self) -> str:
        """`mlplatform.selection.Selection`."""
        return storage.join(self.prefix, "selection.json")

    def training_pod(self, index: int, document: str = "") -> str:
        """Return the output prefix of a training pod, or the address of a document in it."""
        return self.step(f"train/{index:03d}", document)


class RunRecord(Strict):
    """``run.json``."""

    version: Literal[1] = 1
    run_key: str
    dataset: str
    owner: str
    """The DAG run that does the work."""
    state: Literal["running", "finished", "failed"]
    started_at: datetime
    finished_at: datetime | None = None
    outcome: Literal["promoted", "rejected"] | None = None
    model_version: str | None = None
    reasons: list[str] = Field(default=[])
    failed_task: str | None = None


class OwnerPointer(Strict):
    """Leads from a DAG run to its run record: a callback knows no more than the DAG run's id."""

    prefix: str


class FailureNote(Strict):
    """Why a task failed for good, written by the task itself."""

    task: str
    message: str
    log_url: str | None
    at: datetime


@dataclass(frozen=True)
class Claim:
    """Whether a DAG run may do the work, and who had it if not."""

    granted: bool
    record: RunRecord


def run_key(
    objects: Iterable[InputObject],
    configuration: Mapping[str, Any],
    images: Images,
) -> str:
    """Return the identity of a run: equal inputs, configuration and images give an equal key.

    Args:
        objects: the files it reads.
        configuration: everything that was chosen and decides the outcome, as JSON has it.
        images: of the steps.
    """
    inputs = sorted((item.table, item.key.rsplit("/", 1)[-1], item.content_id) for item in objects)
    return digest(inputs, configuration, images.model_dump(mode="json"))


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
        found = _read(paths.record)
        if found is None:
            if not storage.write_document(paths.record, wanted, new=True):
                continue
        else:
            record, etag = found
            live_elsewhere = record.state == "running" and record.owner != wanted.owner and is_live(record.owner)
            if record.state == "finished" or live_elsewhere:
                return Claim(False, record)
            if not _replace(paths.record, wanted, etag):
                continue
        clear_failures(paths)
        storage.write_document(_pointer(data_bucket, wanted.owner), OwnerPointer(prefix=paths.prefix))
        return Claim(True, wanted)
    raise storage.StorageError(f"{paths.record}: it kept changing while this run tried to claim it")


def finish(paths: RunPaths, owner: str, **changes: Any) -> RunRecord | None:
    """Write the end of a run into its record; None when the record is not (or no longer) the owner's."""
    found = _read(paths.record)
    if found is None or found[0].owner != owner:
        return None
    record = RunRecord.model_validate({**found[0].model_dump(), "finished_at": datetime.now(UTC), **changes})
    return record if _replace(paths.record, record, found[1]) else None


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
        storage.client().delete_object(Bucket=bucket, Key=entry["Key"])


def culprit(notes: list[FailureNote]) -> FailureNote | None:
    """Return the note that explains the run's failure best.

    That is the first task that failed, but a training pod only if nothing else did: a run can do without
    some of its trials.
    """
    others = [note for note in notes if not note.task.startswith("training.train")]
    return next(iter(others or notes), None)


def _pointer(data_bucket: str, owner: str) -> str:
    return f"s3://{data_bucket}/runs/_owners/{quote(owner, safe='')}.json"


def _read(uri: str) -> tuple[RunRecord, str] | None:
    from botocore.exceptions import ClientError

    bucket, key = storage.split_uri(uri)
    try:
        answer = storage.client().get_object(Bucket=bucket, Key=key)
    except ClientError as error:
        if error.response["Error"]["Code"] in ("NoSuchKey", "404"):
            return None
        raise
    return RunRecord.model_validate_json(answer["Body"].read()), answer["ETag"]


def _replace(uri: str, record: RunRecord, etag: str) -> bool:
    from botocore.exceptions import ClientError

    bucket, key = storage.split_uri(uri)
    body = record.model_dump_json(indent=2).encode()
    try:
        storage.client().put_object(Bucket=bucket, Key=key, Body=body, ContentType="application/json", IfMatch=etag)
    except ClientError as error:
        if error.response["Error"]["Code"] in ("PreconditionFailed", "ConditionalRequestConflict", "NoSuchKey"):
            return False
        raise
    return True
