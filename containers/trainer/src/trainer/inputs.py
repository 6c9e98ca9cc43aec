"""The landed files of a run: which they are, and exactly the versions pinned when it began."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from mlplatform import storage
from mlplatform.documents.inputs import InputManifest, InputObject
from mlplatform.errors import NonRetryableError, StorageError

MANIFEST = "inputs.json"
_MAGIC = b"PAR1"


@dataclass(frozen=True)
class LocalFile:
    """A downloaded input."""

    source: InputObject
    path: Path


def read_manifest(prefix: str) -> InputManifest:
    """Read ``inputs.json`` of a run.

    Raises:
        NonRetryableError: it is missing, malformed or names no file.
    """
    uri = storage.join(prefix, MANIFEST)
    try:
        manifest = storage.read_document(uri, InputManifest)
    except StorageError as error:
        raise NonRetryableError(f"{error}; --input must be the prefix of a run", kind="bad-config") from None
    if not manifest.objects:
        raise NonRetryableError(f"{uri}: names no file, so there is nothing to work on; land the data first")
    return manifest


def download(source: InputObject, folder: Path, index: int) -> LocalFile | None:
    """Copy one input into a folder, or return None if that version no longer exists."""
    path = folder / f"{index:05d}.parquet"
    try:
        with _there(source):
            storage.download(source.uri, path, source.version_id)
    except NonRetryableError:
        return None
    return LocalFile(source, path)


def download_all(manifest: InputManifest, folder: Path) -> dict[str, list[Path]]:
    """Copy all inputs into a folder and return them by table.

    Raises:
        NonRetryableError: a version no longer exists.
    """
    files: dict[str, list[Path]] = defaultdict(list)
    for index, source in enumerate(manifest.objects):
        path = folder / f"{index:05d}.parquet"
        with _there(source):
            files[source.table].append(storage.download(source.uri, path, source.version_id))
    return dict(files)


def download_footer(source: InputObject, folder: Path, index: int) -> Path:
    """Make a file as long as an input that has its footer only: enough to learn its columns' types.

    The rest is a hole and takes no space.

    Raises:
        NonRetryableError: that version no longer exists, or is no Parquet file.
    """
    bucket, key = storage.split_uri(source.uri)
    version = {"VersionId": source.version_id} if source.version_id else {}

    def read(start: int) -> bytes:
        with _there(source):
            answer = storage.client().get_object(Bucket=bucket, Key=key, Range=f"bytes={start}-", **version)
            content: bytes = answer["Body"].read()
            return content

    # Ends in the footer's length (4 bytes, little endian) and the magic number.
    end = read(max(0, source.size - 8)) if source.size >= 12 else b""
    length = int.from_bytes(end[:4], "little") + 8
    if end[4:] != _MAGIC or length > source.size:
        raise NonRetryableError(
            f"{source.uri}: not a readable Parquet file; write it again whole", subjects=[source.uri]
        )
    path = folder / f"{index:05d}.parquet"
    with path.open("wb") as file:
        file.write(_MAGIC)
        file.seek(source.size - length)
        file.write(read(source.size - length))
    return path


def is_latest(source: InputObject) -> bool:
    """Tell whether the pinned version is the one that a reader without a version gets.

    Raises:
        NonRetryableError: the object no longer exists.
    """
    if source.version_id is None:
        return True
    bucket, key = storage.split_uri(source.uri)
    from botocore.exceptions import ClientError

    try:
        latest = storage.client().head_object(Bucket=bucket, Key=key).get("VersionId")
    except ClientError as error:
        if error.response["Error"]["Code"] in ("404", "NoSuchKey", "405", "MethodNotAllowed"):  # a delete marker
            return False
        raise
    return bool(latest == source.version_id)


def copy_pinned(source: InputObject, uri: str) -> str:
    """Copy the pinned version to another address, within S3, and return it.

    Raises:
        NonRetryableError: that version no longer exists.
    """
    bucket, key = storage.split_uri(uri)
    origin = {"Bucket": source.bucket, "Key": source.key}
    if source.version_id:
        origin["VersionId"] = source.version_id
    with _there(source):
        storage.client().copy(origin, bucket, key)
    return uri


@contextmanager
def _there(source: InputObject) -> Iterator[None]:
    """Refuse an input that is gone."""
    from botocore.exceptions import ClientError

    try:
        yield
    except ClientError as error:
        if error.response["Error"]["Code"] in ("404", "NoSuchKey", "NoSuchVersion"):
            raise NonRetryableError(f"{source.uri}: no longer there; land it again", subjects=[source.uri]) from None
        raise
