"""The front: one port that is an AWS endpoint and an HTTP proxy to itself.

A client is given the endpoint `http://aws.test` and this server as its HTTP proxy. It then resolves no name, whatever
it puts before or after the endpoint's host (`api.` for MWAA, `bucket.` for S3, a port in a queue's URL), and its
request arrives here with the whole URL in the request line. What is signed decides who answers.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import logging
import os
import re
import signal
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import replace
from pathlib import Path

import aiohttp
from aiohttp import web
from aiohttp.typedefs import Handler
from multidict import CIMultiDict
from pydantic import ValidationError
from yarl import URL

from local.emulators import airflow_page, registry
from local.emulators.backends import LOCAL_AWS, MINISTACK, REGISTRY, Backends
from local.emulators.calls import Call, Request, identify
from local.emulators.faults import Fault, Faults
from local.emulators.journal import Journal
from local.emulators.names import ACCOUNT, HOST, PAGES, PREFIX, REGION
from local.emulators.responses import Response, error, json_response
from local.emulators.shims import Shims
from local.kubernetes.tls import server_context

OWN_SERVICES = frozenset({"sagemaker", "application-autoscaling", "monitoring"})
"""What the project's own AWS API answers: ministack lacks the first two, and forgets most of an alarm."""

log = logging.getLogger(__name__)
_HOP_BY_HOP = ("Connection", "Keep-Alive", "Proxy-Connection", "Transfer-Encoding", "Content-Length", "Expect", "Host")
_TLS_SECONDS = 0.1
_MAXIMUM_BODY = 256 * 1024 * 1024


class Front:
    """Answers every request: itself, by a shim, or by one of the backends."""

    def __init__(self, backends: Backends) -> None:
        self._backends = backends
        self._faults = Faults()
        self._journal = Journal()
        self._shims = Shims(self._ask)
        self._registry = registry.Registry(self._ask, self._keep) if backends.has_registry else None
        self._session: aiohttp.ClientSession | None = None

    def application(self) -> web.Application:
        """Return the server's application."""
        app = web.Application(client_max_size=_MAXIMUM_BODY, middlewares=[self._tunnel])
        app.router.add_route("*", "/{path:.*}", self._handle)
        app.cleanup_ctx.append(self._open_session)
        return app

    def pages(self) -> web.Application:
        """Return the application that serves the pages of all Airflow environments, each under its own name."""
        app = web.Application()
        app.router.add_route("*", "/{path:.*}", self._show_page)
        return app

    async def _show_page(self, incoming: web.Request) -> web.Response:
        page = self._shims.airflow_page(airflow_page.name_of(incoming.host))
        if page is None:
            return web.Response(status=404, text=f"There is no Airflow at {incoming.host}.\n")
        body = await incoming.read()
        return _response(page.answer(incoming.method, incoming.raw_path, incoming.headers, body))

    async def _open_session(self, app: web.Application) -> AsyncIterator[None]:
        connector = aiohttp.TCPConnector(limit=0, keepalive_timeout=30)
        # Bodies pass as they are: an object stored with Content-Encoding gzip is read back compressed.
        async with aiohttp.ClientSession(connector=connector, auto_decompress=False, trust_env=False) as session:
            self._session = session
            yield

    @web.middleware
    async def _tunnel(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        """Refuse a tunnel, which has no path that a route could match."""
        if request.method != "CONNECT":
            return await handler(request)
        if self._registry and registry.HOST.fullmatch(request.raw_path.partition(":")[0].lower()):
            return await _refuse_tls(request)
        return web.Response(status=403, text="The AWS emulator's proxy passes plain HTTP to itself only.\n")

    async def _handle(self, incoming: web.Request) -> web.Response:
        began = time.perf_counter()
        body = await incoming.read()
        if self._registry and (found := as_registry_request(incoming, body)):
            host, pushed = found
            return _response(await self._registry.answer(host, pushed))
        request = as_request(incoming, body)
        if request is None:
            return web.Response(status=403, text=f"The AWS emulator's proxy serves {HOST} only, not {incoming.host}.\n")
        if request.path.startswith(PREFIX):
            return _response(await self._administer(request))
        call = identify(request)
        answer, backend = await self._answer(call, request)
        self._journal.add(call, answer.status, backend, began, request.headers.get("User-Agent", ""))
        if answer.status >= 500 and backend not in ("fault", "front"):
            log.warning("%s %s answered %s: %s", call.service, call.action, answer.status, answer.body[:500])
        return _response(answer)

    async def _answer(self, call: Call, request: Request) -> tuple[Response, str]:
        if fault := self._faults.strike(call, request):
            return fault, "fault"
        if shim := self._shims.find(call):
            return await shim(call, request), "shim"
        return await self._ask(call, request), backend_of(call)

    async def _ask(self, call: Call, request: Request) -> Response:
        """Have a backend answer."""
        try:
            return await self._pass_on(backend_of(call), request)
        except aiohttp.ClientError as problem:
            message = f"The emulator behind {call.service or 'this request'} does not answer: {problem}"
            return error(call.protocol, call.service, "ServiceUnavailable", message, 503)

    async def _keep(self, request: Request) -> Response:
        """Have the container registry answer."""
        headers = CIMultiDict(request.headers)
        headers.popall("Authorization", None)
        try:
            return await self._pass_on(REGISTRY, replace(request, headers=headers))
        except aiohttp.ClientError as problem:
            return json_response(503, {"errors": [{"code": "UNAVAILABLE", "message": str(problem)}]})

    async def _pass_on(self, backend: str, request: Request) -> Response:
        assert self._session is not None
        base = self._backends.url(backend)
        headers = CIMultiDict(request.headers)
        for name in _HOP_BY_HOP:
            headers.popall(name, None)
        url = URL(f"{base}{request.path}{'?' if request.query else ''}{request.query}", encoded=True)
        async with self._session.request(
            request.method, url, headers=headers, data=request.body or None, allow_redirects=False
        ) as reply:
            return Response(reply.status, CIMultiDict(reply.headers), await reply.read())

    # --- Administration -----------------------------------------------------------------------

    async def _administer(self, request: Request) -> Response:
        handlers: dict[str, Callable[[Request], Awaitable[Response]]] = {
            "health": self._health,
            "faults": self._answer_faults,
            "calls": self._answer_calls,
        }
        handler = handlers.get(request.path.removeprefix(PREFIX))
        if handler is None:
            return json_response(404, {"message": f"{PREFIX} has {', '.join(handlers)}."})
        return await handler(request)

    async def _health(self, request: Request) -> Response:
        ended = self._backends.ended()
        status = "degraded" if ended else "ok"
        return json_response(503 if ended else 200, {"status": status, "ended": ended, "pid": os.getpid()})

    async def _answer_faults(self, request: Request) -> Response:
        if request.method == "POST":
            try:
                self._faults.add(Fault.model_validate_json(request.body))
            except ValidationError as problem:
                details = [f"{'.'.join(map(str, e['loc'])) or 'fault'}: {e['msg']}" for e in problem.errors()]
                return json_response(400, {"message": "; ".join(details)})
        elif request.method == "DELETE":
            self._faults.clear()
        return json_response(200, {"faults": [fault.model_dump() for fault in self._faults.armed()]})

    async def _answer_calls(self, request: Request) -> Response:
        if request.method == "DELETE":
            self._journal.clear()
        parameters = request.parameters
        found = self._journal.find(parameters.get("service", ""), parameters.get("action", ""))
        return json_response(200, {"calls": found})


def backend_of(call: Call) -> str:
    """Return who answers a call."""
    return LOCAL_AWS if call.service in OWN_SERVICES else MINISTACK


def as_request(incoming: web.Request, body: bytes) -> Request | None:
    """Return a request with its bucket in the path, or None of one that is for another host than ours."""
    host, target = _addressed(incoming)
    if not host:
        return None
    name = host.partition(":")[0].lower()
    path, _, query = target.partition("?")
    if bucket := bucket_of(name, path):
        path = f"/{bucket}{path}"
    elif name not in (HOST, "127.0.0.1", "localhost") and not name.endswith(f".{HOST}"):
        return None
    return Request(incoming.method, path, query, incoming.headers, body)


def as_registry_request(incoming: web.Request, body: bytes) -> tuple[re.Match[str], Request] | None:
    """Return a request with the account and region whose registry it is for, or None of any other request."""
    host, target = _addressed(incoming)
    if not (found := registry.HOST.fullmatch(host.partition(":")[0].lower())):
        return None
    path, _, query = target.partition("?")
    return found, Request(incoming.method, path, query, incoming.headers, body)


async def _refuse_tls(incoming: web.Request) -> web.Response:
    """Answer TLS in plain HTTP: only after that does Docker speak plainly to a registry that it knows as insecure."""
    assert incoming.transport is not None
    incoming.transport.write(b"HTTP/1.1 200 OK\r\n\r\n")
    await asyncio.sleep(_TLS_SECONDS)  # it throws away what comes before it has spoken
    incoming.transport.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")
    incoming.transport.close()
    return web.Response(status=400)


def _addressed(incoming: web.Request) -> tuple[str, str]:
    """Return the host that a request is for, empty where its line is no address, and what is asked of it."""
    target = incoming.raw_path
    if target.startswith("/"):
        return incoming.host, target
    _, _, rest = target.partition("://")  # a proxy request
    host, slash, target = rest.partition("/")
    if not slash:
        host, question, target = rest.partition("?")
        target = question + target
    return host.rpartition("@")[2], "/" + target if slash else f"/{target}"


# Prefixes that clients put before the endpoint's host; everything else before it is a bucket.
_API_PREFIXES = frozenset({"api", "env", "ops", "streaming", "data", "sync", "discovery", "query", "s3"})


def bucket_of(host: str, path: str) -> str:
    """Return the bucket that the host names, an empty string of another host."""
    if not host.endswith(f".{HOST}"):
        return ""
    prefix = host.removesuffix(f".{HOST}").removesuffix(".s3")
    # S3 Control puts the account before its host.
    is_other = prefix in _API_PREFIXES or path.startswith("/v20180820/")
    return "" if is_other else prefix


def _response(answer: Response) -> web.Response:
    headers = CIMultiDict(answer.headers)
    for name in _HOP_BY_HOP:
        if answer.body or name != "Content-Length":  # the answer to HEAD has a length and no body
            headers.popall(name, None)
    return web.Response(status=answer.status, body=answer.body, headers=headers)


# --- The process ----------------------------------------------------------------------------------


async def serve(arguments: argparse.Namespace) -> int:
    """Start the backends, serve until told to stop, stop them."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        loop.add_signal_handler(number, stop.set)
    if arguments.ends_with_stdin:
        # The other end of this pipe closes when whoever started us ends, in whichever way.
        loop.add_reader(sys.stdin, lambda: stop.set() if not os.read(0, 4096) else None)
    backends = Backends(
        arguments.folder, arguments.images, arguments.region, arguments.account, arguments.port, arguments.registry
    )
    front = Front(backends)
    # Bodies are not ours to unpack; an object with Content-Encoding gzip may even not be compressed.
    runner = web.AppRunner(front.application(), access_log=None, handle_signals=False, auto_decompress=False)
    pages = web.AppRunner(front.pages(), access_log=None, handle_signals=False)
    try:
        started = asyncio.create_task(backends.start())
        stopped = asyncio.create_task(stop.wait())
        await asyncio.wait({started, stopped}, return_when=asyncio.FIRST_COMPLETED)
        if not started.done():
            started.cancel()
            return 0
        try:
            started.result()
        except (RuntimeError, OSError) as problem:
            log.error("%s", problem)
            return 1
        await runner.setup()
        if arguments.airflow_port:
            # First: who waits for the front's own port finds both.
            await pages.setup()
            certificates = arguments.folder / PAGES
            certificates.mkdir(exist_ok=True)
            context = server_context(certificates, airflow_page.hosts_in(arguments.region))
            await web.TCPSite(pages, "127.0.0.1", arguments.airflow_port, ssl_context=context).start()
        await web.TCPSite(runner, "127.0.0.1", arguments.port).start()
        log.warning("ready on http://127.0.0.1:%s", arguments.port)
        await stopped
        return 0
    finally:
        with contextlib.suppress(asyncio.CancelledError):
            await backends.stop()
        await runner.cleanup()
        await pages.cleanup()


def main() -> None:
    """Serve until SIGTERM."""
    parser = argparse.ArgumentParser(prog="python -m local.emulators.front", description=__doc__)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--airflow-port", type=int, help="where Airflow's pages answer, by TLS")
    parser.add_argument("--folder", type=Path, required=True, help="logs and state of the backends")
    parser.add_argument("--images", type=Path, required=True, help="images.json of the local AWS API")
    parser.add_argument("--region", default=REGION)
    parser.add_argument("--account", default=ACCOUNT)
    parser.add_argument("--registry", type=Path, help="Debian's docker-registry, to keep what Docker pushes")
    parser.add_argument("--ends-with-stdin", action="store_true", help="stop when standard input is closed")
    arguments = parser.parse_args()
    logging.basicConfig(format="%(asctime)s %(levelname)s %(name)s: %(message)s", level=logging.WARNING)
    sys.exit(asyncio.run(serve(arguments)))


if __name__ == "__main__":
    main()
