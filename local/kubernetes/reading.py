"""GET: one object, a collection, and what changes in it."""

from __future__ import annotations

import base64
import json
import time
from collections.abc import Callable

from aiohttp import web

from local.kubernetes import quotas
from local.kubernetes.answers import answer, list_of, wants_table
from local.kubernetes.errors import JSON, ApiError
from local.kubernetes.kinds import KINDS, group_version
from local.kubernetes.logs import boolean, integer
from local.kubernetes.requests import Target
from local.kubernetes.selectors import parse_fields, parse_labels
from local.kubernetes.store import Change, Store
from local.kubernetes.tables import table

_MAX_WATCH_SECONDS = 1800


class Reader:
    """The handlers that only look."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def get(self, request: web.Request, target: Target) -> web.StreamResponse:
        """Answer GET of one object."""
        obj = self._store.get(target.resource, target.namespace, target.name)
        return answer(request, target, self._with_status(target.resource, obj))

    def _with_status(self, resource: str, obj: JSON) -> JSON:
        """Add what nobody keeps up to date: how much of a quota is used."""
        return {**obj, "status": quotas.status(self._store, obj)} if resource == "resourcequotas" else obj

    def list_all(self, request: web.Request, target: Target) -> web.StreamResponse:
        """Answer GET of a collection."""
        query = request.query
        self._check_version(query.get("resourceVersion", ""))
        objects = self._store.select(target.resource, target.namespace, self.filter(target, request))
        metadata: JSON = {"resourceVersion": str(self._store.version)}
        if token := query.get("continue"):
            try:
                after = tuple(json.loads(base64.urlsafe_b64decode(token)))
            except ValueError as error:
                raise ApiError(400, f"continue key is not valid: {error}") from error
            objects = [o for o in objects if _key(o) > after]
        limit = integer(query, "limit")
        if limit and len(objects) > limit:
            last = _key(objects[limit - 1])
            metadata["continue"] = base64.urlsafe_b64encode(json.dumps(last).encode()).decode()
            metadata["remainingItemCount"] = len(objects) - limit
            objects = objects[:limit]
        objects = [self._with_status(target.resource, obj) for obj in objects]
        if wants_table(request):
            return web.json_response(table(target.resource, objects, metadata))
        for obj in objects:
            obj.pop("kind", None)
            obj.pop("apiVersion", None)
        return web.json_response(list_of(target.resource, metadata, objects))

    def filter(self, target: Target, request: web.Request) -> Callable[[JSON], bool]:
        """Return whether an object is among those that a request's selectors choose."""
        labels = parse_labels(request.query.get("labelSelector", ""))
        fields = parse_fields(target.resource, request.query.get("fieldSelector", ""))
        name = target.name

        def matches(obj: JSON) -> bool:
            metadata = obj["metadata"]
            if target.namespace and metadata.get("namespace", "") != target.namespace:
                return False
            return (not name or metadata["name"] == name) and labels(metadata.get("labels") or {}) and fields(obj)

        return matches

    def _check_version(self, text: str) -> int | None:
        if not text or text == "0":
            return None
        try:
            version = int(text)
        except ValueError as error:
            raise ApiError(400, f'invalid resource version "{text}": {error}') from error
        if version > self._store.version:
            raise ApiError(504, f"Too large resource version: {version}, current: {self._store.version}")
        return version

    async def watch(self, request: web.Request, target: Target) -> web.StreamResponse:
        """Answer a watch: what is there, unless a version is given, then every change until the time is up."""
        matches = self.filter(target, request)
        version = self._check_version(request.query.get("resourceVersion", ""))
        initial = boolean(request.query, "sendInitialEvents")
        bookmarks = boolean(request.query, "allowWatchBookmarks")
        seconds = integer(request.query, "timeoutSeconds")
        deadline = time.monotonic() + min(seconds or _MAX_WATCH_SECONDS, _MAX_WATCH_SECONDS)
        response = web.StreamResponse(headers={"Content-Type": "application/json"})
        await response.prepare(request)
        as_table = wants_table(request)
        sent_columns = False

        async def send(kind: str, obj: JSON) -> None:
            nonlocal sent_columns
            if as_table and kind not in ("ERROR", "BOOKMARK"):
                metadata = {"resourceVersion": obj["metadata"]["resourceVersion"]}
                obj = table(target.resource, [obj], metadata, columns=not sent_columns)
                sent_columns = True
            await response.write(json.dumps({"type": kind, "object": obj}).encode() + b"\n")

        def bookmark(annotations: JSON) -> JSON:
            metadata = {"resourceVersion": str(self._store.version), "creationTimestamp": None, **annotations}
            version = group_version(target.resource)
            return {"kind": KINDS[target.resource], "apiVersion": version, "metadata": metadata}

        try:
            if version is None or initial:
                version = self._store.version
                for obj in self._store.select(target.resource, target.namespace, matches):
                    await send("ADDED", obj)
                if initial and bookmarks:
                    await send("BOOKMARK", bookmark({"annotations": {"k8s.io/initial-events-end": "true"}}))
            while (left := deadline - time.monotonic()) > 0:
                for change in self._store.changes_since(version):
                    version = change.version
                    if change.resource == target.resource and (event := _event(change, matches)):
                        await send(event, change.object)
                await self._store.wait_for_change(version, left)
            if bookmarks:
                await send("BOOKMARK", bookmark({}))
        except ApiError as error:
            await send("ERROR", error.body)
        await response.write_eof()
        return response


def _key(obj: JSON) -> tuple[str, str]:
    return obj["metadata"].get("namespace", ""), obj["metadata"]["name"]


def _event(change: Change, matches: Callable[[JSON], bool]) -> str | None:
    """Return what a change is to a watcher who only sees the objects that match."""
    before = change.previous is not None and matches(change.previous)
    after = change.type != "DELETED" and matches(change.object)
    if before and after:
        return "MODIFIED"
    if after:
        return "ADDED"
    return "DELETED" if before else None
