"""Small helpers around S3: addresses, JSON documents, whole files. No Airflow import.

Where S3 is, and with which rights, is the environment's business (``AWS_ENDPOINT_URL``, Pod Identity,
an execution role); nothing here knows.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, ValidationError

if TYPE_CHECKING:
    from collections.abc import Iterator


class StorageError(RuntimeError):
    """An object is missing or does not have the promised content; the message names it."""


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
    from botocore.exceptions import ClientError

    bucket, key = split_uri(uri)
    extra = {"VersionId": version_id} if version_id else {}
    try:
        body: bytes = client().get_object(Bucket=bucket, Key=key, **extra)["Body"].read()
    except ClientError as error:
        if error.response["Error"]["Code"] in ("NoSuchKey", "NoSuchVersion", "404"):
            return None
        raise
    return body


def write_bytes(uri: str, content: bytes, *, content_type: str = "application/octet-stream", new: bool = False) -> bool:
    """Write an object whole.

    Args:
        new: write only if there is no such object yet (S3's conditional put).

    Returns:
        False if ``new`` was asked and the object was there already, else True.
    """
    from botocore.exceptions import ClientError

    bucket, key = split_uri(uri)
    condition = {"IfNoneMatch": "*"} if new else {}
    try:
        client().put_object(Bucket=bucket, Key=key, Body=content, ContentType=content_type, **condition)
    except ClientError as error:
        if new and error.response["Error"]["Code"] in ("PreconditionFailed", "ConditionalRequestConflict"):
            return False
        raise
    return True


def write_document(uri: str, document: BaseModel, *, new: bool = False) -> bool:
    """Write a pydantic model as JSON; see `write_bytes`."""
    content = document.model_dump_json(indent=2, by_alias=True).encode()
    return write_bytes(uri, content, content_type="application/json", new=new)


def read_document[Document: BaseModel](uri: str, model: type[Document]) -> Document:
    """Read and validate a JSON document.

    Raises:
        StorageError: it is missing, or is not what the model describes.
    """
    document = try_read_document(uri, model)
    if document is None:
        raise StorageError(f"{uri}: no such object; the step that writes it has not finished")
    return document


def try_read_document[Document: BaseModel](uri: str, model: type[Document]) -> Document | None:
    """Like `read_document`, but None when there is no such object."""
    content = try_read_bytes(uri)
    if content is None:
        return None
    try:
        return model.model_validate_json(content)
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(str(part) for part in first["loc"])
        raise StorageError(f"{uri}: not a valid {model.__name__}: {key}: {first['msg']}") from None


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
