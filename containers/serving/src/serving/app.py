"""The ASGI application."""

from __future__ import annotations

import asyncio
import time
import uuid
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import orjson
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from modelformat import InputError
from serving import logs, payloads
from serving.model import Model
from serving.payloads import RequestError
from serving.settings import Settings

# A larger body is worked on in a thread, so that /ping and small requests do not wait for it. Below that the
# hand-over costs more than it saves: see README.md, "Inline or in a thread".
INLINE_BYTES = 256 * 1024
REQUEST_ID_HEADERS = (b"x-amzn-sagemaker-inference-id", b"x-request-id")


def create_app(model: Model | None, settings: Settings, *, broken: str | None = None) -> ASGIApp:
    """Return the application for a model, for none yet, or for one that could not be loaded (``broken``)."""
    service = _Service(model, settings, broken)
    app = Starlette(
        routes=[
            Route("/ping", service.ping, methods=["GET"]),
            Route("/invocations", service.invocations, methods=["POST"]),
        ],
        exception_handlers={RequestError: _refuse, HTTPException: _refuse_http, Exception: _apologise},
    )
    return _AccessLog(app, settings.max_in_flight)


class _Service:
    def __init__(self, model: Model | None, settings: Settings, broken: str | None) -> None:
        self._model = model
        self._broken = broken
        self._max_body_bytes = settings.max_body_bytes
        # Two: one parses and encodes, which holds the interpreter, while the engine of the other computes.
        self._threads = ThreadPoolExecutor(max_workers=2, thread_name_prefix="predict")

    async def ping(self, request: Request) -> Response:
        if self._broken:
            return _error(500, "model-broken", self._broken)
        return Response(status_code=200)

    async def invocations(self, request: Request) -> Response:
        if self._broken:
            raise RequestError(503, "model-broken", "the model could not be loaded; see the log")
        if self._model is None:
            raise RequestError(503, "no-model", "no model deployed yet")
        headers = request.headers
        body_type = payloads.body_type(headers.get("content-type"))
        answer_type = payloads.answer_type(headers.get("accept"))
        body = await self._read(request)
        if len(body) <= INLINE_BYTES:
            rows, content = _predict(self._model, body_type, answer_type, body)
        else:
            loop = asyncio.get_running_loop()
            rows, content = await loop.run_in_executor(
                self._threads, _predict, self._model, body_type, answer_type, body
            )
        request.scope["serving.rows"] = rows
        return Response(content, media_type=answer_type)

    async def _read(self, request: Request) -> bytes:
        """Read the body, giving up as soon as it is known to be too large."""
        limit = self._max_body_bytes
        declared = request.headers.get("content-length", "")
        if declared.isdecimal() and int(declared) > limit:
            raise _too_large(int(declared), limit)
        chunks, size = [], 0
        async for chunk in request.stream():
            size += len(chunk)
            if size > limit:
                raise _too_large(size, limit)
            chunks.append(chunk)
        return b"".join(chunks)


def _predict(model: Model, body_type: str, answer_type: str, body: bytes) -> tuple[int, bytes]:
    predictor = model.predictor
    columns = payloads.parse(body_type, body, predictor.encoder)
    try:
        predictions = predictor.predict(columns)
    except InputError as error:
        raise payloads.bad(str(error)) from None
    return len(predictions), payloads.render(answer_type, predictions, model.identity, model.classes)


def _too_large(size: int, limit: int) -> RequestError:
    return RequestError(413, "too-large", f"the body has {size} bytes or more; the limit is {limit}: send fewer rows")


def _error(status: int, code: str, message: str) -> Response:
    content = orjson.dumps({"error": {"code": code, "message": message}})
    headers = {"Retry-After": "1"} if status == 503 else None
    return Response(content, status_code=status, media_type=payloads.JSON, headers=headers)


async def _refuse(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestError)
    request.scope["serving.code"] = error.code
    response = _error(error.status, error.code, str(error))
    if error.status == 413:
        # The rest of the body is still on its way; it is not read, so the connection cannot be used again.
        response.headers["Connection"] = "close"
    return response


async def _refuse_http(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    code = error.detail.lower().replace(" ", "-")
    response = _error(error.status_code, code, f"{error.detail}: {request.method} {request.url.path}")
    response.headers.update(error.headers or {})
    return response


async def _apologise(request: Request, error: Exception) -> Response:
    # Starlette raises the error again after this answer, for the server's log; see logs.Handler.
    request.scope["serving.code"] = "internal"
    return _error(500, "internal", "the request could not be answered; the log has the reason")


class _AccessLog:
    """Gives every request an id and a log line, and refuses requests above the number in flight."""

    def __init__(self, app: ASGIApp, max_in_flight: int) -> None:
        self._app = app
        self._max_in_flight = max_in_flight
        self._in_flight = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        started = time.perf_counter()
        request_id = _request_id(scope)
        status = 0

        async def send_with_id(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message["headers"] = [*message["headers"], (b"x-request-id", request_id)]
            await send(message)

        is_ping = scope["path"] == "/ping"
        self._in_flight += not is_ping  # a busy process is still healthy
        try:
            if self._in_flight > self._max_in_flight and not is_ping:
                scope["serving.code"] = "saturated"
                refusal = _error(503, "saturated", f"more than {self._max_in_flight} requests in progress; try again")
                await refusal(scope, receive, send_with_id)
            else:
                await self._app(scope, receive, send_with_id)
        except ClientDisconnect:
            scope["serving.code"] = "client-gone"
        finally:
            self._in_flight -= not is_ping
            if not is_ping or status != 200:
                _log_request(scope, status, time.perf_counter() - started, request_id)


def _request_id(scope: Scope) -> bytes:
    for name, value in scope["headers"]:
        if name in REQUEST_ID_HEADERS and len(value) <= 128 and value.isascii() and value.decode().isprintable():
            found: bytes = value
            return found
    return uuid.uuid4().hex.encode()


def _log_request(scope: Scope, status: int, seconds: float, request_id: bytes) -> None:
    fields: dict[str, Any] = {"rows": scope.get("serving.rows"), "code": scope.get("serving.code")}
    logs.write(
        "request",
        method=scope["method"],
        path=scope["path"],
        status=status,
        ms=round(seconds * 1000, 3),
        request_id=request_id.decode(),
        **{name: value for name, value in fields.items() if value is not None},
    )
