"""Files on their way in: landing, accepted (raw), quarantine.

A file lands as ``s3://<landing>/<dataset>/<table>/<file>.parquet``. Once validated it moves to
``s3://<data>/raw/<dataset>/<table>/<file>.parquet``; refused, to ``quarantine/`` in the landing bucket,
with the reason beside it. Nothing is deleted before its copy is there.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

from mlplatform import storage
from mlplatform.config.dataset import ModelConfig
from mlplatform.documents.inputs import InputManifest, InputObject, QuarantineReason
from mlplatform.documents.results import StepFailure
from mlplatform.errors import NonRetryableError, StorageError

log = logging.getLogger(__name__)
# An accepted file remembers the identity it landed with: a copy may get another ETag.
_CONTENT_ID = "content-id"
_FULL_CHECKSUMS = ("ChecksumSHA256", "ChecksumCRC64NVME", "ChecksumSHA1", "ChecksumCRC32C", "ChecksumCRC32")
_PARALLEL = 16


@dataclass(frozen=True)
class Plan:
    """What a run reads, and what landed for nothing."""

    objects: list[InputObject]
    duplicates: list[InputObject]
    """Landed files whose bytes were accepted before under the same name."""


def plan(landed: Iterable[InputObject], accepted: Iterable[InputObject]) -> Plan:
    """Match what landed with what was accepted before.

    A landed file with the same table, name and content as an accepted one is a duplicate; with other
    content it takes the accepted one's place.
    """
    current = {_name(item): item for item in accepted}
    duplicates = []
    for item in landed:
        known = current.get(_name(item))
        if known is not None and known.content_id == item.content_id:
            duplicates.append(item)
        else:
            current[_name(item)] = item
    return Plan([current[name] for name in sorted(current)], duplicates)


def missing_tables(objects: Iterable[InputObject], model: ModelConfig) -> list[str]:
    """Return the configured tables that have no file at all."""
    return sorted(set(model.tables) - {item.table for item in objects})


def content_id(head: Mapping[str, Any]) -> str:
    """Return the identity of an object's bytes from S3's HeadObject answer.

    The strongest one there is: SHA-256; the ETag where it is the MD5 (one part, no KMS key); another
    checksum of the whole object; else the ETag, which may then differ for equal bytes.
    """
    size = head["ContentLength"]
    etag = head["ETag"].strip('"')
    if "ChecksumSHA256" in head and "-" not in head["ChecksumSHA256"]:
        return f"sha256:{head['ChecksumSHA256']}:{size}"
    if "-" in etag or str(head.get("ServerSideEncryption", "")).startswith("aws:kms"):
        for checksum in _FULL_CHECKSUMS:
            if checksum in head and "-" not in head[checksum]:
                return f"{checksum.removeprefix('Checksum').lower()}:{head[checksum]}:{size}"
    return f"etag:{etag}:{size}"


def list_inputs(bucket: str, prefix: str, tables: Iterable[str], *, new: bool) -> list[InputObject]:
    """Return the Parquet files of a dataset under ``<prefix>/<table>/``, each pinned to its present version."""
    found = []
    for table in sorted(tables):
        start = f"{prefix}/{table}/"
        for entry in storage.list_objects(f"s3://{bucket}/{start}"):
            name = entry["Key"].removeprefix(start)
            if name.endswith(".parquet") and "/" not in name:
                found.append((table, entry["Key"]))
            elif name and new:
                log.warning(
                    "s3://%s/%s is ignored: only <dataset>/<table>/<file>.parquet is read", bucket, entry["Key"]
                )
    with ThreadPoolExecutor(_PARALLEL) as pool:
        pinned = pool.map(lambda item: _pin(bucket, item[0], item[1], new=new), found)
        return [item for item in pinned if item is not None]


def remove(items: Iterable[InputObject]) -> None:
    """Delete landed files, but not one that has been replaced since it was pinned."""
    for item in items:
        present = _pin(item.bucket, item.table, item.key, new=item.new)
        if present is None:
            continue
        if (present.version_id, present.content_id) != (item.version_id, item.content_id):
            log.warning("%s stays: it was replaced while this run read the version before", item.uri)
            continue
        storage.client().delete_object(Bucket=item.bucket, Key=item.key)


def accept(manifest: InputManifest, data_bucket: str, dataset: str) -> InputManifest:
    """Move a run's new files to the accepted ones and return where all its files are now."""
    return InputManifest(objects=[_accept(item, data_bucket, dataset) for item in manifest.objects])


def quarantine(manifest: InputManifest, failure: StepFailure, run_key: str) -> list[InputObject]:
    """Move the new files a validation blames (all of them if it names none) to quarantine, and return them.

    The other new files stay in landing and are tried again with whatever lands next.
    """
    new = [item for item in manifest.objects if item.new]
    blamed = [item for item in new if item.uri in failure.subjects] if failure.subjects else new
    for item in blamed:
        target = f"quarantine/{item.key}"
        if not _copy(item, item.bucket, target):
            continue
        reason = QuarantineReason(run_key=run_key, uri=item.uri, content_id=item.content_id, reason=failure.message)
        storage.write_document(f"s3://{item.bucket}/{target}.reason.json", reason)
        remove([item])
    return blamed


def _name(item: InputObject) -> tuple[str, str]:
    return item.table, item.key.rsplit("/", 1)[-1]


def _head(bucket: str, key: str, version_id: str | None = None) -> dict[str, Any] | None:
    from botocore.exceptions import ClientError

    version = {"VersionId": version_id} if version_id else {}
    try:
        answer: dict[str, Any] = storage.client().head_object(Bucket=bucket, Key=key, ChecksumMode="ENABLED", **version)
    except ClientError as error:
        if error.response["Error"]["Code"] in ("404", "NoSuchKey", "NoSuchVersion"):
            return None
        raise
    return answer


def _pin(bucket: str, table: str, key: str, *, new: bool) -> InputObject | None:
    head = _head(bucket, key)
    if head is None:  # gone since it was listed
        return None
    identity = None if new else head["Metadata"].get(_CONTENT_ID)
    version = head.get("VersionId")
    return InputObject(
        table=table,
        bucket=bucket,
        key=key,
        version_id=None if version == "null" else version,
        content_id=identity or content_id(head),
        size=head["ContentLength"],
        new=new,
    )


def _copy(item: InputObject, bucket: str, key: str, metadata: Mapping[str, str] | None = None) -> bool:
    """Copy a pinned file, in parts if it is large; False if it is there no more."""
    if _head(item.bucket, item.key, item.version_id) is None:
        return False
    source = {"Bucket": item.bucket, "Key": item.key}
    if item.version_id:
        source["VersionId"] = item.version_id
    extra = {"Metadata": dict(metadata), "MetadataDirective": "REPLACE"} if metadata else None
    storage.client().copy(source, bucket, key, ExtraArgs=extra)
    return True


def _accept(item: InputObject, data_bucket: str, dataset: str) -> InputObject:
    if not item.new:
        return item
    key = f"raw/{dataset}/{item.table}/{item.key.rsplit('/', 1)[-1]}"
    present = _pin(data_bucket, item.table, key, new=False)
    if present is None or present.content_id != item.content_id:
        if not _copy(item, data_bucket, key, {_CONTENT_ID: item.content_id}):
            raise NonRetryableError(f"{item.uri} is gone though this run has not moved it; land it again")
        present = _pin(data_bucket, item.table, key, new=False)
        if present is None:
            raise StorageError(f"s3://{data_bucket}/{key}: no such object right after it was copied")
    remove([item])
    return present
