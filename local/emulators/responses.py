"""Error responses in each of the wire protocols."""

from __future__ import annotations

import json
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from xml.sax.saxutils import escape


@dataclass(frozen=True)
class Response:
    """An HTTP response."""

    status: int
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""


def error(protocol: str, service: str, code: str, message: str, status: int) -> Response:
    """Return an AWS error as a client of this protocol and service expects it."""
    request_id = str(uuid.uuid4())
    identity = {"x-amzn-RequestId": request_id}
    if protocol == "json":
        body = json.dumps({"__type": code, "message": message}).encode()
        return Response(status, {**identity, "Content-Type": "application/x-amz-json-1.1"}, body)
    if protocol == "rest-json":
        body = json.dumps({"message": message}).encode()
        return Response(status, {**identity, "Content-Type": "application/json", "x-amzn-ErrorType": code}, body)
    if protocol == "cbor":
        body = b"\xa2" + b"".join(_cbor_text(text) for text in ("__type", code, "message", message))
        headers = {
            "Content-Type": "application/cbor",
            "smithy-protocol": "rpc-v2-cbor",
            "x-amzn-query-error": f"{code};",
        }
        return Response(status, {**identity, **headers}, body)
    details = f"<Code>{escape(code)}</Code><Message>{escape(message)}</Message>"
    if protocol == "ec2":
        text = f"<Response><Errors><Error>{details}</Error></Errors><RequestID>{request_id}</RequestID></Response>"
    elif service == "s3":
        text = f"<Error>{details}<RequestId>{request_id}</RequestId></Error>"
    else:
        who = "Sender" if status < 500 else "Receiver"
        text = f"<Error><Type>{who}</Type>{details}</Error><RequestId>{request_id}</RequestId>"
        text = f"<ErrorResponse>{text}</ErrorResponse>"
    xml = f'<?xml version="1.0" encoding="UTF-8"?>\n{text}'.encode()
    return Response(status, {**identity, "x-amz-request-id": request_id, "Content-Type": "text/xml"}, xml)


def json_response(status: int, document: object, content_type: str = "application/json") -> Response:
    """Return a JSON document."""
    return Response(status, {"Content-Type": content_type}, json.dumps(document).encode())


def _cbor_text(text: str) -> bytes:
    data = text.encode()
    if len(data) < 24:
        return bytes([0x60 + len(data)]) + data
    return b"\x79" + len(data).to_bytes(2, "big") + data
