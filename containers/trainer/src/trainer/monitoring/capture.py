"""Captured requests and answers on S3: one line after another, in memory that does not grow with them."""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from mlplatform.storage import client, join, split_uri
from trainer.monitoring.bodies import Malformed

HOUR = timedelta(hours=1)


@dataclass(frozen=True)
class Message:
    """A body and its content type."""

    content_type: str
    body: bytes


@dataclass(frozen=True)
class Exchange:
    """A captured request with its answer."""

    variant: str
    at: datetime
    inference_id: str | None
    request: Message
    answer: Message
    source: str = ""
    """File and line, for people."""


def variants(uri: str) -> list[str]:
    """Return the variants of an endpoint that have captures."""
    bucket, prefix = split_uri(uri.rstrip("/") + "/")
    pages = client().get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=prefix, Delimiter="/")
    found = [item["Prefix"] for page in pages for item in page.get("CommonPrefixes", [])]
    return [name.rstrip("/").rsplit("/", 1)[-1] for name in found]


def exchanges(uri: str, start: datetime, end: datetime) -> Iterator[Exchange | Malformed]:
    """Yield what was captured from start (inclusive) to end (exclusive), and in place of a bad line what is wrong.

    Args:
        uri: of the endpoint's captures; below are ``<variant>/yyyy/mm/dd/hh/*.jsonl``.
    """
    bucket, _ = split_uri(uri)
    for variant in variants(uri):
        for key in _keys(join(uri, variant), start, end):
            yield from _file(bucket, key, variant, start, end)


def _keys(uri: str, start: datetime, end: datetime) -> Iterator[str]:
    """Yield a variant's files of the hours from start to end; names sort by hour, so that one listing finds them."""
    bucket, prefix = split_uri(uri + "/")
    # A file is filed under the hour of its first line, and may go on into the next.
    first, last = (f"{prefix}{at.astimezone(UTC):%Y/%m/%d/%H}/" for at in (start - HOUR, end))
    pages = client().get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=prefix, StartAfter=first)
    for page in pages:
        for item in page.get("Contents", []):
            if item["Key"][: len(last)] > last:
                return
            if item["Key"].endswith(".jsonl"):
                yield item["Key"]


def _file(bucket: str, key: str, variant: str, start: datetime, end: datetime) -> Iterator[Exchange | Malformed]:
    body = client().get_object(Bucket=bucket, Key=key)["Body"]
    for number, line in enumerate(body.iter_lines(chunk_size=1 << 16), 1):
        if not line.strip():
            continue
        source = f"s3://{bucket}/{key} line {number}"
        try:
            found = parse(line, variant, source)
        except Malformed as error:
            yield Malformed(f"{source}: {error}")
            continue
        if start <= found.at < end:
            yield found


def parse(line: bytes, variant: str, source: str = "") -> Exchange:
    """Read one line in the format of SageMaker's data capture.

    Raises:
        Malformed: it is not in that format, or request or answer was not captured.
    """
    try:
        content = json.loads(line)
        data, event = content["captureData"], content["eventMetadata"]
        at = datetime.fromisoformat(event["inferenceTime"])
        at = at.astimezone(UTC) if at.tzinfo else at.replace(tzinfo=UTC)
        known = str(event.get("inferenceId") or "")
        known.encode()  # half a character cannot be written down
        request, answer = _message(data["endpointInput"]), _message(data["endpointOutput"])
    except KeyError as error:
        raise Malformed(f"has no {error.args[0]}") from None
    except (ValueError, TypeError, AttributeError, OverflowError, RecursionError) as error:
        raise Malformed(str(error) if isinstance(error, Malformed) else "is not a captured request") from None
    return Exchange(variant, at, known or None, request, answer, source)


def _message(half: Any) -> Message:
    text, kind = half["data"], str(half.get("observedContentType") or "")
    if half.get("encoding") != "BASE64":
        return Message(kind, text.encode())
    try:
        return Message(kind, base64.b64decode(text, validate=True))
    except binascii.Error:
        raise Malformed("has a body that is not base64") from None
