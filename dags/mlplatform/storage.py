"""Small helpers around S3: addresses, JSON documents, whole files.

Where S3 is, and with which rights, is the environment's business (``AWS_ENDPOINT_URL``, Pod Identity,
an execution role); nothing here knows.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, Self

from pydantic import BaseModel

from mlplatform.errors import StorageError, UnavailableError

if TYPE_CHECKING:
    from collections.abc import Iterator

_JSON = "application/json"
_NOT_FOUND = ("NoSuchKey", "NoSuchVersion", "404")
_CONFLICT_PAUSES = (0.1, 0.5, 2.0)
"""Seconds before a write that met another one is tried again."""


@cache
def client() -> Any:
    """Return the process's S3 client."""
    import boto3
    from botocore.config import Config

    return boto3.client("s3", config=Config(retries={"mode": "standard", "max_attempts": 5}))


def split_uri(uri: str) -> tuple[str, str]:
    """Split ``s3://bucket/key`` into bucket and key.

    Raises:
        ValueError: the address is not of that form.
    """
    scheme, _, rest = uri.partition("://")
    bucket, _, key = rest.partition("/")
    if scheme != "s3" or not bucket:
        raise ValueError(f"{uri!r} is not an S3 address of the form s3://bucket/key")
    return bucket, key


def join(prefix: str, *parts: str) -> str:
    """Append path parts to an S3 address."""
    return "/".join([prefix.rstrip("/"), *(part.strip("/") for part in parts)])


def read_bytes(uri: str, version_id: str | None = None) -> bytes:
    """Return an object's content.

    Raises:
        StorageError: there is no such object or version.
    """
    content = try_read_bytes(uri, version_id)
    if content is None:
        raise StorageError(f"{uri}: no such object" + (f" (version {version_id})" if version_id else ""))
    return content


def try_read_bytes(uri: str, version_id: str | None = None) -> bytes | None:
    """Return an object's content, or None when there is none."""
    found = _get(uri, version_id)
    return None if found is None else found[0]


def _get(uri: str, version_id: str | None = None) -> tuple[bytes, str] | None:
    """Return an object's content and ETag, or None when there is none."""
    from botocore.exceptions import ClientError

    bucket, key = split_uri(uri)
    version = {"VersionId": version_id} if version_id else {}
    try:
        answer = client().get_object(Bucket=bucket, Key=key, **version)
    except ClientError as error:
        if error.response["Error"]["Code"] in _NOT_FOUND:
            return None
        raise
    return answer["Body"].read(), answer["ETag"]


def write_bytes(uri: str, content: bytes, *, content_type: str = "application/octet-stream") -> None:
    """Write an object whole."""
    bucket, key = split_uri(uri)
    client().put_object(Bucket=bucket, Key=key, Body=content, ContentType=content_type)


def delete(uri: str) -> None:
    """Remove an object; one that is not there is no error."""
    bucket, key = split_uri(uri)
    client().delete_object(Bucket=bucket, Key=key)


class Readable(Protocol):
    """A kind of document that can be read from JSON: see `mlplatform.documents.base.Document`."""

    @classmethod
    def read(cls, content: bytes | str, source: str) -> Self:
        """Read it; raises `StorageError` where it is not one."""


@dataclass(frozen=True)
class Stored[Kind]:
    """A document as it lies in S3, and the ETag that a replacement has to name."""

    document: Kind
    etag: str


def read_document[Kind: Readable](uri: str, kind: type[Kind]) -> Kind:
    """Read a JSON document.

    Raises:
        StorageError: it is missing, or is not of that kind.
    """
    document = try_read_document(uri, kind)
    if document is None:
        raise StorageError(f"{uri}: no such object; the step that writes it has not finished")
    return document


def try_read_document[Kind: Readable](uri: str, kind: type[Kind]) -> Kind | None:
    """Like `read_document`, but None when there is no such object."""
    content = try_read_bytes(uri)
    return None if content is None else kind.read(content, uri)


def read_stored[Kind: Readable](uri: str, kind: type[Kind]) -> Stored[Kind] | None:
    """Like `try_read_document`, with what `replace_document` needs."""
    found = _get(uri)
    return None if found is None else Stored(kind.read(found[0], uri), found[1])


def write_document(uri: str, document: BaseModel) -> None:
    """Write a document as JSON, whatever was there before."""
    write_bytes(uri, _json(document), content_type=_JSON)


def create_document(uri: str, document: BaseModel) -> str | None:
    """Write a document if there is none yet, and return its ETag; None if another one is there."""
    return _put_if(uri, _json(document), IfNoneMatch="*")


def replace_document(uri: str, document: BaseModel, etag: str) -> str | None:
    """Write a document if the one with this ETag is still there, and return the new ETag; None if it is not."""
    return _put_if(uri, _json(document), IfMatch=etag)


def _json(document: BaseModel) -> bytes:
    return document.model_dump_json(indent=2, by_alias=True).encode()


def _put_if(uri: str, content: bytes, **condition: str) -> str | None:
    """Write an object on a condition, and return its ETag; None if the condition does not hold.

    The condition may fail because this very write was done and only its answer was lost, so that the client sent it
    again: then the object has this content. 409 says that another write was under way, and that one may try again
    (https://docs.aws.amazon.com/AmazonS3/latest/userguide/conditional-writes.html).
    """
    from botocore.exceptions import ClientError

    bucket, key = split_uri(uri)
    for pause in (*_CONFLICT_PAUSES, None):
        try:
            answer = client().put_object(Bucket=bucket, Key=key, Body=content, ContentType=_JSON, **condition)
        except ClientError as error:
            code = error.response["Error"]["Code"]
            if code == "ConditionalRequestConflict":
                if pause is None:
                    raise UnavailableError(f"{uri}: another write was under way at each of several tries") from None
                time.sleep(pause)
                continue
            if code not in ("PreconditionFailed", *_NOT_FOUND):
                raise
            found = _get(uri)
            return found[1] if found is not None and found[0] == content else None
        return str(answer["ETag"])
    raise AssertionError("the last try returns or raises")


def list_objects(uri: str) -> Iterator[dict[str, Any]]:
    """Yield the objects under an address, as S3 lists them (Key, ETag, Size, LastModified)."""
    bucket, prefix = split_uri(uri)
    for page in client().get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=prefix):
        yield from page.get("Contents", [])


def download(uri: str, path: Path, version_id: str | None = None) -> Path:
    """Copy an object to a local file, streaming."""
    bucket, key = split_uri(uri)
    path.parent.mkdir(parents=True, exist_ok=True)
    client().download_file(bucket, key, str(path), ExtraArgs={"VersionId": version_id} if version_id else None)
    return path


def upload(path: Path, uri: str) -> str:
    """Copy a local file to an object, streaming, and return the address."""
    bucket, key = split_uri(uri)
    client().upload_file(str(path), bucket, key)
    return uri
