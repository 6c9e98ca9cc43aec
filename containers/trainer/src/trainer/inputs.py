"""The landed files of a run: which they are, and local copies of exactly the versions pinned when it began."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from mlplatform import storage
from mlplatform.config import InputManifest, InputObject
from mlplatform.steps import Refused

MANIFEST = "inputs.json"


@dataclass(frozen=True)
class LocalFile:
    """A downloaded input."""

    source: InputObject
    path: Path


def read_manifest(prefix: str) -> InputManifest:
    """Read ``inputs.json`` of a run.

    Raises:
        Refused: it is missing, malformed or names no file.
    """
    uri = storage.join(prefix, MANIFEST)
    try:
        manifest = storage.read_document(uri, InputManifest)
    except storage.StorageError as error:
        raise Refused(f"{error}; --input must be the prefix of a run", kind="bad-config") from None
    if not manifest.objects:
        raise Refused(f"{uri}: names no file, so there is nothing to work on; land the data first")
    return manifest


def download(source: InputObject, folder: Path, index: int) -> LocalFile | None:
    """Copy one input into a folder, or return None if that version no longer exists."""
    from botocore.exceptions import ClientError

    path = folder / f"{index:05d}.parquet"
    try:
        storage.download(source.uri, path, source.version_id)
    except ClientError as error:
        if error.response["Error"]["Code"] in ("404", "NoSuchKey", "NoSuchVersion"):
            return None
        raise
    return LocalFile(source, path)
