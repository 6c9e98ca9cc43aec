"""The ASGI application: a plain one, because a router and request objects would cost more than a prediction."""

from __future__ import annotations

import asyncio
import itertools
import os
import time
from collections.abc import Awaitable, Callable, MutableMapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import orjson

from serving import logs, metrics, openapi, payloads
from serving.errors import RequestError
from serving.model import Model
from serving.predict import Answers
from serving.settings import Settings

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
Headers = list[tuple[bytes, bytes]]

# A larger body is worked on in a thread, so that /ping and small requests do not wait for it. Below that the
# hand-over costs more than it saves, which is earlier where the thread has a core of its own: see README.md, "Inline
# or in a thread".
INLINE_BYTES = 256 * 1024
INLINE_BYTES_WITH_SPARE_CORE = 16 * 1024
COLUMNAR = (payloads.PARQUET, payloads.ARROW)
# The usual spellings of what is answered without a task; any other takes the longer way to the same answer.
AT_ONCE = (b"", payloads.JSON.encode(), payloads.CSV.encode())
METHODS = {"/ping": "GET", "/invocations": "POST", "/metrics": "GET", "/openapi.json": "GET", "/docs": "GET"}
METRICS_TYPE = "text/plain; version=0.0.4; charset=utf-8"


class _ClientGoneError(Exception):
    pass


class _Call:
    """An invocation: what its head asks for, and what is answered."""

    __slots__ = ("accept", "answer_type", "body_type", "code", "content", "content_type", "declared", "more",
                 "request_id", "rows", "started", "status")  # fmt: skip

    def __init__(self, headers: Headers) -> None:
        self.started = time.perf_counter()
        self.content_type = self.accept = self.request_id = self.declared = self.content = b""
        for name, value in headers:
            if name == b"content-type":
                self.content_type = value
            elif name == b"accept":
                self.accept = value
            elif name == b"content-length":
                self.declared = value
            elif name in (b"x-amzn-sagemaker-inference-id", b"x-request-id") and _is_id(value):
                self.request_id = value
        self.status, self.code, self.rows = 200, "ok", 0
        self.body_type = self.answer_type = payloads.JSON
        self.more: Headers = []

    def answer_headers(self, connection: Headers) -> Headers:
        """Return the answer's headers."""
        return [
            *connection,
            (b"x-request-id", self.request_id),
            *self.more,
            (b"content-length", b"%d" % len(self.content)),
            (b"content-type", self.answer_type.encode()),
        ]


class Application:
    """The application for a model, for none yet, or for one that could not be loaded (``broken``)."""

    def __init__(
        self,
        model: Model | None,
        settings: Settings,
        *,
        broken: str | None = None,
        numbers: metrics.Metrics | None = None,
        log: logs.Buffer | None = None,
    ) -> None:
        self.draining = False
        self._model = model
        self._answers = Answers(model, settings.max_decoded_bytes) if model else None
        self._broken = broken
        self._max_body_bytes = settings.max_body_bytes
        inline_bytes = INLINE_BYTES_WITH_SPARE_CORE if settings.spare_core else INLINE_BYTES
        self._inline_bytes = min(inline_bytes, settings.max_body_bytes)
        self._max_in_flight = settings.max_in_flight
        self._metrics = numbers or metrics.Metrics()
        self._log = log
        self._in_flight = 0
        # An id is this process's random start and a count, of 32 digits like any other.
        self._ids = map((os.urandom(8).hex() + "%016x").__mod__, itertools.count(1))
        # Two: one parses and encodes, which holds the interpreter, while the engine of the other computes.
        self._threads = ThreadPoolExecutor(max_workers=2, thread_name_prefix="predict")

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request."""
        if scope["type"] != "http":
            return
        path, method = scope["path"], scope["method"]
        if path == "/invocations" and method == "POST":
            await self._invocation(scope, receive, send)
        elif path == "/ping" and method in ("GET", "HEAD") and not self._broken:
            await _send(send, 200, b"", payloads.JSON, self._connection())
        else:
            await self._page(path, method, send)

    def answer_now(self, headers: Headers, body: bytes) -> tuple[int, Headers, bytes] | None:
        """Return status, headers and body of the answer to an invocation that is there whole, without a task for it.

        None where it may have to wait, be it for a thread or for the connection to be closed: then call this object.
        """
        call = _Call(headers)
        if len(body) > self._inline_bytes or self.draining or call.content_type.partition(b";")[0] not in AT_ONCE:
            return None
        self._begin(call)
        try:
            try:
                call.rows, call.content = self._admit(call).answer(call.body_type, call.answer_type, body, fast=True)
            except Exception as error:
                self._refuse(call, error)
            return call.status, call.answer_headers(self._connection()), call.content
        finally:
            self._end(call)

    async def _invocation(self, scope: Scope, receive: Receive, send: Send) -> None:
        call = _Call(scope["headers"])
        self._begin(call)
        try:
            try:
                answers = self._admit(call)
                body = await self._read(call.declared, receive)
                kinds = call.body_type, call.answer_type
                if len(body) <= self._inline_bytes and call.body_type not in COLUMNAR:
                    call.rows, call.content = answers.answer(*kinds, body, fast=True)
                else:
                    call.rows, call.content = await self._in_thread(answers, *kinds, body)
            except _ClientGoneError:
                call.status, call.code = 0, "client-gone"
                return
            except Exception as error:
                self._refuse(call, error)
            await _start(send, call.status, call.answer_headers(self._connection()), call.content)
        finally:
            self._end(call)

    def _begin(self, call: _Call) -> None:
        call.request_id = call.request_id or next(self._ids).encode()
        self._in_flight += 1
        self._metrics.begin()

    def _admit(self, call: _Call) -> Answers:
        if self._in_flight > self._max_in_flight:
            message = f"more than {self._max_in_flight} requests in progress; try again"
            raise RequestError(503, "saturated", message)
        if self._answers is None:
            raise self._no_model()
        call.body_type = payloads.body_type(call.content_type.decode("latin-1"))
        call.answer_type = payloads.answer_type(call.accept.decode("latin-1"))
        return self._answers

    def _refuse(self, call: _Call, error: Exception) -> None:
        call.answer_type = payloads.JSON
        if isinstance(error, RequestError):
            call.status, call.code, message = error.status, error.code, str(error)
            if call.status == 503:
                call.more.append((b"retry-after", b"1"))
            elif call.status == 413 and not self.draining:
                # The rest of the body is still on its way; it is not read, so the connection cannot be used again.
                call.more.append((b"connection", b"close"))
        else:
            call.status, call.code = 500, "internal"
            message = "the request could not be answered; the log has the reason"
            logs.write("log", level="error", message="a request failed", **logs.where(error))
        call.content = _refusal(call.code, message)

    def _end(self, call: _Call) -> None:
        self._in_flight -= 1
        seconds = time.perf_counter() - call.started
        self._metrics.end(call.code, seconds, call.rows)
        self._log_request(call.status, call.code, call.rows, seconds, call.request_id)

    def _no_model(self) -> RequestError:
        if self._broken:
            return RequestError(503, "model-broken", "the model could not be loaded; see the log")
        return RequestError(503, "no-model", "no model deployed yet")

    async def _in_thread(self, answers: Answers, body_type: str, answer_type: str, body: bytes) -> tuple[int, bytes]:
        self._metrics.wait(1)
        begun = False

        def work() -> tuple[int, bytes]:
            nonlocal begun
            begun = True
            loop.call_soon_threadsafe(self._metrics.wait, -1)
            return answers.answer(body_type, answer_type, body, fast=False)

        loop = asyncio.get_running_loop()
        try:
            return await loop.run_in_executor(self._threads, work)
        except asyncio.CancelledError:
            if not begun:
                self._metrics.wait(-1)
            raise

    async def _read(self, declared: bytes, receive: Receive) -> bytes:
        """Read the body, giving up as soon as it is known to be too large."""
        limit = self._max_body_bytes
        if declared.isdigit() and int(declared[:20]) > limit:
            raise _too_large(int(declared[:20]), limit)
        message = await receive()
        if message["type"] == "http.request" and not message.get("more_body") and len(message["body"]) <= limit:
            body: bytes = message["body"]
            return body
        chunks, size = [], 0
        while message["type"] == "http.request":
            chunk = message.get("body", b"")
            size += len(chunk)
            if size > limit:
                raise _too_large(size, limit)
            chunks.append(chunk)
            if not message.get("more_body"):
                return b"".join(chunks)
            message = await receive()
        raise _ClientGoneError

    async def _page(self, path: str, method: str, send: Send) -> None:
        """Answer everything but predictions and healthy pings."""
        started = time.perf_counter()
        status, kind, code, headers = 200, payloads.JSON, "ok", self._connection()
        allowed = METHODS.get(path)
        if allowed is None:
            status, code = 404, "not-found"
            content = _refusal(code, f"Not Found: {method[:20]} {path[:100]}; there are {', '.join(METHODS)}")
        elif method != allowed and not (allowed == "GET" and method == "HEAD"):
            status, code = 405, "method-not-allowed"
            content = _refusal(code, f"Method Not Allowed: {method[:20]} {path}; use {allowed}")
            headers.append((b"allow", allowed.encode()))
        elif path == "/ping":
            status, code = 500, "model-broken"
            content = _refusal(code, self._broken or "")
        elif path == "/metrics":
            kind = METRICS_TYPE
            content = metrics.render(self._metrics.table, self._info())
        elif path == "/openapi.json":
            content = orjson.dumps(openapi.document(self._model), option=orjson.OPT_INDENT_2)
        else:
            kind = "text/html; charset=utf-8"
            content = openapi.page(self._model).encode()
            headers.append((b"content-security-policy", b"default-src 'none'; style-src 'unsafe-inline'"))
        await _send(send, status, content, kind, headers)
        if path not in ("/ping", "/metrics"):
            self._metrics.begin()
            self._metrics.end(code, time.perf_counter() - started, 0)
        if status != 200:
            fields = {"method": method[:20], "path": path[:100], "status": status, "code": code}
            self._write({**fields, "ms": round((time.perf_counter() - started) * 1000, 3)})

    def _info(self) -> dict[str, str]:
        if self._model is None:
            return {"version": "", "digest": "", "family": "", "engine": "", "task": ""}
        manifest = self._model.predictor.manifest
        identity = {"version": self._model.version or "", "digest": self._model.digest}
        return identity | {"family": manifest.family, "engine": manifest.engine, "task": manifest.task}

    def _connection(self) -> Headers:
        return [(b"connection", b"close")] if self.draining else []

    def _log_request(self, status: int, code: str, rows: int, seconds: float, request_id: bytes) -> None:
        fields: dict[str, Any] = {
            "method": "POST",
            "path": "/invocations",
            "status": status,
            "ms": round(seconds * 1000, 3),
            "request_id": request_id.decode(),
        }
        if rows:
            fields["rows"] = rows
        if code != "ok":
            fields["code"] = code
        self._write(fields)

    def _write(self, fields: dict[str, Any]) -> None:
        if self._log is not None:
            self._log.write("request", fields)
        else:
            logs.write("request", **fields)


async def _send(send: Send, status: int, content: bytes, kind: str, headers: Headers) -> None:
    headers.append((b"content-length", b"%d" % len(content)))
    headers.append((b"content-type", kind.encode()))
    await _start(send, status, headers, content)


async def _start(send: Send, status: int, headers: Headers, content: bytes) -> None:
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": content})


def _is_id(value: bytes) -> bool:
    return len(value) <= 128 and value.isascii() and value.decode().isprintable()


def _refusal(code: str, message: str) -> bytes:
    # What a client sent may have halves of characters, which are not UTF-8.
    return orjson.dumps({"error": {"code": code, "message": message.encode(errors="replace").decode()}})


def _too_large(size: int, limit: int) -> RequestError:
    return RequestError(413, "too-large", f"the body has {size} bytes or more; the limit is {limit}: send fewer rows")


def create_app(model: Model | None, settings: Settings, **options: Any) -> Application:
    """Return the application; see `Application`."""
    return Application(model, settings, **options)
