"""The HTTP side: who calls and may, what is recorded, which handler answers."""

from __future__ import annotations

import hashlib
import logging
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import replace

from aiohttp import web

from local.kubernetes import discovery, rbac, subresources
from local.kubernetes.answers import not_allowed
from local.kubernetes.errors import ApiError, not_found, status
from local.kubernetes.faults import Faults
from local.kubernetes.job_controller import JobController
from local.kubernetes.kinds import CLUSTER_SCOPED
from local.kubernetes.kubelet import Kubelet
from local.kubernetes.records import Records, RequestRecord
from local.kubernetes.requests import Target, read_json, read_target
from local.kubernetes.resources import Resources
from local.kubernetes.store import Store

logger = logging.getLogger(__name__)

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
_PREPARED, _CALLER = "prepared", "caller"
_CLIENT_GONE = 499  # nobody reads it; it is for the request log
_OPEN = ("/readyz", "/livez", "/healthz")
_MAX_BODY = 3 * 1024 * 1024  # the API server's own limit


class Api:
    """The routes of the server.

    Args:
        users: who may call, by bearer token.
    """

    def __init__(
        self, store: Store, kubelet: Kubelet, faults: Faults, records: Records, users: Mapping[str, rbac.User]
    ) -> None:
        self.resources = Resources(store, kubelet)
        self.jobs = JobController(store, kubelet, self.resources.add)
        self.store = store
        self.kubelet = kubelet
        self.faults = faults
        self.records = records
        # Compared as digests: how long that takes says nothing about a token.
        self._users = {_digest(token): user for token, user in users.items()}

    def application(self) -> web.Application:
        """Return the web application."""
        app = web.Application(middlewares=[self._record, self._errors], client_max_size=_MAX_BODY)
        app.on_response_prepare.append(_note_prepared)
        app.router.add_route("*", "/{path:.*}", self._dispatch)
        return app

    @web.middleware
    async def _record(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        user = request[_CALLER] = self._caller(request)
        if request.path in _OPEN or request.path.startswith("/local/"):
            return await handler(request)
        began = time.time()
        agent = request.headers.get("User-Agent", "")
        name = user.name if user else ""
        record = RequestRecord(began, request.method, request.path, request.query_string, agent, name)
        self.records.requests.append(record)
        try:
            response = await handler(request)
            record.status = response.status
            return response
        finally:
            record.seconds = time.time() - began

    @web.middleware
    async def _errors(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        try:
            return await handler(request)
        except ApiError as error:
            headers = {"Retry-After": "1"} if error.code == 429 else None
            return web.json_response(error.body, status=error.code, headers=headers)
        except ConnectionError:
            return web.Response(status=_CLIENT_GONE)
        except web.HTTPException as error:
            return web.json_response(status(error.status, error.reason), status=error.status)
        except Exception as error:
            logger.exception("%s %s failed", request.method, request.path)
            if _PREPARED in request:
                raise  # too late for another answer: the connection is closed
            return web.json_response(status(500, f"the local Kubernetes API failed: {error!r}"), status=500)

    async def _dispatch(self, request: web.Request) -> web.StreamResponse:
        path = request.path
        if path in _OPEN:
            return web.Response(text="ok")
        user = request[_CALLER]
        if user is None:
            return web.json_response(status(401, "Unauthorized"), status=401)
        wanted, target = read_target(request)
        self._authorize(user, wanted)
        if path.startswith("/local/"):
            return await self._control(request)
        fault = self.faults.take_request(wanted.verb, path)
        if fault is not None:
            if fault.request.status == 0:
                if request.transport is not None:
                    request.transport.abort()
                raise ConnectionAbortedError
            raise ApiError(fault.request.status, fault.request.message or "the server was told to fail this request")
        accept = request.headers.get("Accept", "")
        if accept and not any(part in accept for part in ("json", "*/*", "application/*", "text/plain")):
            raise ApiError(406, "only the following media types are accepted: application/json")
        if target is None:
            return self._discover(request)
        if target.subresource:
            return await self._subresource(request, target)
        return await self._resource(request, target, wanted.verb)

    def _caller(self, request: web.Request) -> rbac.User | None:
        scheme, _, rest = request.headers.get("Authorization", "").strip().partition(" ")
        return self._users.get(_digest(rest.partition(" ")[0])) if scheme.lower() == "bearer" else None

    def _authorize(self, user: rbac.User, wanted: rbac.Attributes) -> None:
        asked = [wanted]
        if wanted.verb == "get" and wanted.subresource == "exec":
            # A WebSocket begins with a GET, and does what needs "create": the feature gate
            # AuthorizePodWebsocketUpgradeCreatePermission.
            asked.append(replace(wanted, verb="create"))
        for attributes in asked:
            if not rbac.allowed(self.store, user, attributes):
                raise rbac.refused(self.store, user, attributes)

    def _discover(self, request: web.Request) -> web.StreamResponse:
        answer = discovery.answer(request.path.rstrip("/"))
        if answer is None or request.method != "GET":
            raise ApiError(404, "the server could not find the requested resource")
        return web.json_response(answer)

    async def _resource(self, request: web.Request, target: Target, verb: str) -> web.StreamResponse:
        resources = self.resources
        match verb:
            case "get" if request.method == "GET":
                return resources.reader.get(request, target)
            case "list":
                return resources.reader.list_all(request, target)
            case "watch":
                return await resources.reader.watch(request, target)
            case "create" if not target.name and _is_complete(target):
                return await resources.create(request, target)
            case "update" if target.name:
                return await resources.replace(request, target)
            case "patch" if target.name:
                return await resources.patch(request, target)
            case "delete":
                return await resources.delete(request, target)
            case "deletecollection":
                return await resources.delete_collection(request, target)
        return not_allowed(request)

    async def _subresource(self, request: web.Request, target: Target) -> web.StreamResponse:
        methods = {"log": ("GET",), "exec": ("GET", "POST"), "eviction": ("POST",), "status": ("GET",)}
        if target.resource == "jobs":
            methods = {"status": ("GET",)}
        if target.resource not in ("pods", "jobs") or target.subresource not in methods:
            raise ApiError(404, "the server could not find the requested resource")
        if request.method not in methods[target.subresource]:
            return not_allowed(request)
        if target.subresource == "status":
            return self.resources.reader.get(request, target)
        pod = self.store.get("pods", target.namespace, target.name)
        match target.subresource:
            case "log":
                return await subresources.log(request, self.kubelet, pod)
            case "exec":
                return await subresources.execute(request, self.kubelet, pod)
            case _:
                return await subresources.evict(request, self.kubelet, pod)

    async def _control(self, request: web.Request) -> web.StreamResponse:
        """Answer the endpoints no real API server has: faults, requests, history."""
        match request.method, request.path.rstrip("/").split("/")[2:]:
            case "GET", ["faults"]:
                return web.json_response(self.faults.list())
            case "POST", ["faults"]:
                fault = self.faults.add(await read_json(request))
                self.kubelet.apply(fault)
                return web.json_response(fault.describe(), status=201)
            case "DELETE", ["faults", *number] if len(number) <= 1:
                if not self.faults.clear(number[0] if number else None):
                    raise not_found("faults", number[0])
                self.kubelet.schedule()
                return web.json_response([])
            case "GET", ["requests"]:
                return web.json_response(self.records.list_requests())
            case "DELETE", ["requests"]:
                self.records.requests.clear()
                return web.json_response([])
            case "GET", ["pods-history"]:
                return web.json_response(self.records.list_pods())
        raise ApiError(404, "there are /local/faults, /local/requests and /local/pods-history")


async def _note_prepared(request: web.Request, response: web.StreamResponse) -> None:
    request[_PREPARED] = True


def _is_complete(target: Target) -> bool:
    return bool(target.namespace) or target.resource in CLUSTER_SCOPED


def _digest(text: str) -> bytes:
    return hashlib.sha256(text.encode()).digest()
