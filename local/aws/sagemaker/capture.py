"""Data capture: a sample of requests and answers, written to S3 in the format of the real service.

A request only puts its record into a queue; a thread encodes and writes. S3 in trouble costs records, never answers.
"""

from __future__ import annotations

import base64
import json
import logging
import queue
import random
import threading
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from botocore.exceptions import BotoCoreError, ClientError

from local.aws.sagemaker.store import now

log = logging.getLogger(__name__)

_FLUSH_BYTES = 1024 * 1024
_WAITING_BYTES = 64 * 1024 * 1024
_CLOSE_SECONDS = 3.0


@dataclass(frozen=True)
class Message:
    """A body and its content type, as they came over the wire."""

    body: bytes
    content_type: str


@dataclass(frozen=True)
class Captured:
    """One request with its answer."""

    endpoint: str
    variant: str
    config: dict[str, Any]
    request: Message
    answer: Message
    inference_id: str | None = None
    attributes: str | None = None
    at: datetime = field(default_factory=now)

    @property
    def size(self) -> int:
        """Return about how many bytes it holds."""
        return len(self.request.body) + len(self.answer.body)


@dataclass
class _File:
    """An object in the making."""

    began: float
    key: str
    kms_key: str | None
    bucket: str
    lines: list[bytes] = field(default_factory=list)
    size: int = 0


class Capture:
    """Samples, collects and writes what endpoints with a DataCaptureConfig are asked and answer."""

    def __init__(self, s3: Callable[[], Any], flush_seconds: float) -> None:
        self._s3 = s3
        self._flush_seconds = flush_seconds
        self._lock = threading.Lock()
        self._waiting = 0  # bytes
        self._queue: queue.SimpleQueue[Captured | None] = queue.SimpleQueue()
        self._files: dict[tuple[str, ...], _File] = {}
        self._client: Any = None
        self._thread = threading.Thread(target=self._run, name="data-capture", daemon=True)

    def start(self) -> None:
        """Begin to write."""
        self._thread.start()

    def close(self) -> None:
        """Write what there is, and stop."""
        self._queue.put(None)
        if self._thread.ident is not None:
            self._thread.join(_CLOSE_SECONDS)

    def offer(self, captured: Captured) -> None:
        """Take a request if it is in the sample; returns at once."""
        if not captured.config.get("EnableCapture", True):
            return
        if random.random() * 100 >= captured.config["InitialSamplingPercentage"]:
            return
        with self._lock:
            full = self._waiting + captured.size > _WAITING_BYTES
            self._waiting += 0 if full else captured.size
        if full:
            log.warning(
                "data capture of endpoint %s: too much waits to be written, a record is lost", captured.endpoint
            )
        else:
            self._queue.put(captured)

    def _run(self) -> None:
        while True:
            try:
                captured = self._queue.get(timeout=self._flush_seconds / 4)
            except queue.Empty:
                self._flush(older_than=self._flush_seconds)
                continue
            if captured is None:
                self._flush(older_than=0)
                return
            self._add(captured)
            self._flush(older_than=self._flush_seconds)

    def _add(self, captured: Captured) -> None:
        bucket, _, prefix = captured.config["DestinationS3Uri"].removeprefix("s3://").partition("/")
        hour = captured.at.strftime("%Y/%m/%d/%H")
        folder = "/".join(part for part in (prefix.strip("/"), captured.endpoint, captured.variant, hour) if part)
        kms_key = captured.config.get("KmsKeyId")
        name = f"{captured.at:%M-%S}-{captured.at.microsecond // 1000:03}-{uuid.uuid4()}.jsonl"
        slot = (bucket, folder, kms_key or "")
        file = self._files.setdefault(slot, _File(time.monotonic(), f"{folder}/{name}", kms_key, bucket))
        file.lines.append(json.dumps(record(captured), separators=(",", ":")).encode() + b"\n")
        file.size += len(file.lines[-1])
        with self._lock:
            self._waiting -= captured.size

    def _flush(self, older_than: float) -> None:
        before = time.monotonic() - older_than
        for slot, file in list(self._files.items()):
            if file.began <= before or file.size >= _FLUSH_BYTES:
                del self._files[slot]
                self._write(file)

    def _write(self, file: _File) -> None:
        encryption = {"ServerSideEncryption": "aws:kms", "SSEKMSKeyId": file.kms_key} if file.kms_key else {}
        try:
            self._client = self._client or self._s3()
            self._client.put_object(Bucket=file.bucket, Key=file.key, Body=b"".join(file.lines), **encryption)
        except (ClientError, BotoCoreError) as error:
            count = len(file.lines)
            log.warning("data capture: %s records to s3://%s/%s are lost: %s", count, file.bucket, file.key, error)


def record(captured: Captured) -> dict[str, Any]:
    """Return one line of a capture file."""
    options = {option["CaptureMode"] for option in captured.config["CaptureOptions"]}
    headers = captured.config.get("CaptureContentTypeHeader", {})
    data: dict[str, Any] = {}
    if options & {"Input", "InputAndOutput"}:
        data["endpointInput"] = {**_encoded(captured.request, headers), "mode": "INPUT"}
    if options & {"Output", "InputAndOutput"}:
        data["endpointOutput"] = {**_encoded(captured.answer, headers), "mode": "OUTPUT"}
    metadata: dict[str, Any] = {"eventId": str(uuid.uuid4())}
    if captured.attributes:
        metadata["customAttributes"] = [captured.attributes]
    if captured.inference_id:
        metadata["inferenceId"] = captured.inference_id
    metadata["inferenceTime"] = captured.at.strftime("%Y-%m-%dT%H:%M:%SZ")
    return {"captureData": data, "eventMetadata": metadata, "eventVersion": "0"}


def _encoded(message: Message, headers: dict[str, list[str]]) -> dict[str, str]:
    media_type = message.content_type.partition(";")[0].strip().lower()
    for encoding, member in (("CSV", "CsvContentTypes"), ("JSON", "JsonContentTypes")):
        if media_type in {value.lower() for value in headers.get(member, [])}:
            text = message.body.decode("utf-8", "replace")
            return {"observedContentType": message.content_type, "data": text, "encoding": encoding}
    text = base64.b64encode(message.body).decode()
    return {"observedContentType": message.content_type, "data": text, "encoding": "BASE64"}
