"""Create, read, watch, change and delete objects, as the API server does for every resource alike."""

from __future__ import annotations

import asyncio
import base64
import json
import time
import uuid
from collections.abc import Callable
from typing import Any

from aiohttp import web

from local.kubernetes import (
    admission,
    defaults,
    deletion,
    job_controller,
    job_validation,
    patches,
    policy_validation,
    quotas,
    schema,
    validation,
)
from local.kubernetes.errors import JSON, ApiError, Causes, forbidden, not_found, success
from local.kubernetes.errors import status as failure
from local.kubernetes.kinds import CLUSTER_SCOPED, KINDS, WITH_GENERATION, group_version
from local.kubernetes.kubelet import Kubelet
from local.kubernetes.logs import boolean, integer
from local.kubernetes.names import generated_name
from local.kubernetes.requests import Target, check_kind, decode, is_dry_run, read_json
from local.kubernetes.selectors import parse_fields, parse_labels
from local.kubernetes.store import Change, Store
from local.kubernetes.tables import table

_MAX_WATCH_SECONDS = 1800
_GO_WITH_NAMESPACE = tuple(name for name in KINDS if name not in (*CLUSTER_SCOPED, "pods", "events"))


class Resources:
    """The handlers that are the same for every resource."""

    def __init__(self, store: Store, kubelet: Kubelet) -> None:
        self.store = store
        self.kubelet = kubelet

    # -- reading

    def get(self, request: web.Request, target: Target) -> web.StreamResponse:
        """Answer GET of one object."""
        obj = self.store.get(target.resource, target.namespace, target.name)
        return _answer(request, target, self._with_status(target.resource, obj))

    def _with_status(self, resource: str, obj: JSON) -> JSON:
        """Add what nobody keeps up to date: how much of a quota is used."""
        return {**obj, "status": quotas.status(self.store, obj)} if resource == "resourcequotas" else obj

    def list_all(self, request: web.Request, target: Target) -> web.StreamResponse:
        """Answer GET of a collection."""
        query = request.query
        self._check_version(query.get("resourceVersion", ""))
        objects = self.store.select(target.resource, target.namespace, self._filter(target, request))
        metadata: JSON = {"resourceVersion": str(self.store.version)}
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
        if _wants_table(request):
            return web.json_response(table(target.resource, objects, metadata))
        for obj in objects:
            obj.pop("kind", None)
            obj.pop("apiVersion", None)
        return web.json_response(_list_of(target.resource, metadata, objects))

    def _filter(self, target: Target, request: web.Request) -> Callable[[JSON], bool]:
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
        if version > self.store.version:
            raise ApiError(504, f"Too large resource version: {version}, current: {self.store.version}")
        return version

    async def watch(self, request: web.Request, target: Target) -> web.StreamResponse:
        """Answer a watch: what is there, unless a version is given, then every change until the time is up."""
        matches = self._filter(target, request)
        version = self._check_version(request.query.get("resourceVersion", ""))
        initial = boolean(request.query, "sendInitialEvents")
        bookmarks = boolean(request.query, "allowWatchBookmarks")
        seconds = integer(request.query, "timeoutSeconds")
        deadline = time.monotonic() + min(seconds or _MAX_WATCH_SECONDS, _MAX_WATCH_SECONDS)
        response = web.StreamResponse(headers={"Content-Type": "application/json"})
        await response.prepare(request)
        as_table = _wants_table(request)
        sent_columns = False

        async def send(kind: str, obj: JSON) -> None:
            nonlocal sent_columns
            if as_table and kind not in ("ERROR", "BOOKMARK"):
                metadata = {"resourceVersion": obj["metadata"]["resourceVersion"]}
                obj = table(target.resource, [obj], metadata, columns=not sent_columns)
                sent_columns = True
            await response.write(json.dumps({"type": kind, "object": obj}).encode() + b"\n")

        def bookmark(annotations: JSON) -> JSON:
            metadata = {"resourceVersion": str(self.store.version), "creationTimestamp": None, **annotations}
            version = group_version(target.resource)
            return {"kind": KINDS[target.resource], "apiVersion": version, "metadata": metadata}

        try:
            if version is None or initial:
                version = self.store.version
                for obj in self.store.select(target.resource, target.namespace, matches):
                    await send("ADDED", obj)
                if initial and bookmarks:
                    await send("BOOKMARK", bookmark({"annotations": {"k8s.io/initial-events-end": "true"}}))
            while (left := deadline - time.monotonic()) > 0:
                for change in self.store.changes_since(version):
                    version = change.version
                    if change.resource == target.resource and (event := _event(change, matches)):
                        await send(event, change.object)
                await self.store.wait_for_change(version, left)
            if bookmarks:
                await send("BOOKMARK", bookmark({}))
        except ApiError as error:
            await send("ERROR", error.body)
        await response.write_eof()
        return response

    # -- writing

    async def create(self, request: web.Request, target: Target) -> web.StreamResponse:
        """Answer POST of a new object."""
        _check_writable(target)
        kind = KINDS[target.resource]
        obj, warnings = decode(request, await read_json(request), kind, group_version(target.resource))
        metadata = obj["metadata"]
        for server_side in ("uid", "resourceVersion", "creationTimestamp", "deletionTimestamp", "managedFields"):
            metadata.pop(server_side, None)
        if target.resource not in CLUSTER_SCOPED:
            if metadata.setdefault("namespace", target.namespace) != target.namespace:
                raise ApiError(
                    400, "the namespace of the provided object does not match the namespace sent on the request"
                )
            home = self.store.find("namespaces", "", target.namespace)
            if home is None:
                raise not_found("namespaces", target.namespace)
            if home["status"]["phase"] == "Terminating":
                why = f"unable to create new content in namespace {target.namespace} because it is being terminated"
                raise forbidden(target.resource, admission.shown_name(obj), why)
        warnings += self._prepare(target.resource, obj)
        if is_dry_run(request):
            shown = {"apiVersion": group_version(target.resource), "kind": kind, **obj}
            return _answer(request, target, shown, 201, warnings)
        created = self._store_new(target.resource, obj)
        return _answer(request, target, created, 201, warnings)

    def add(self, resource: str, obj: JSON) -> JSON:
        """Default, check, admit and store an object that no client has sent; raises what one would be answered."""
        self._prepare(resource, obj)
        return self._store_new(resource, obj)

    def change(self, resource: str, old: JSON, new: JSON) -> None:
        """Check and store what becomes of an object; raises what a client would be answered."""
        merged = self._merge_update(resource, old, new)
        self.store.update(resource, old["metadata"].get("namespace", ""), old["metadata"]["name"], _replacement(merged))

    def _store_new(self, resource: str, obj: JSON) -> JSON:
        created = self.store.create(resource, obj)
        if resource == "pods":
            self.kubelet.admit(created)
        elif resource == "namespaces":
            self.store.create(
                "serviceaccounts", {"metadata": {"namespace": created["metadata"]["name"], "name": "default"}}
            )
        return created

    def _prepare(self, resource: str, obj: JSON) -> list[str]:
        """Default, validate and admit a new object, in place; return the warnings to send with it."""
        if resource == "pods":
            defaults.default_pod(obj)
            admission.default(self.store, resource, obj)
        metadata = obj["metadata"]
        if not metadata.get("name") and metadata.get("generateName"):
            metadata["name"] = generated_name(metadata["generateName"])
        match resource:
            case "pods":
                validation.check_pod(obj)
                obj["status"] = {"phase": "Pending", "qosClass": defaults.qos_class(obj["spec"])}
            case "jobs":
                obj["metadata"]["uid"] = str(uuid.uuid4())
                job_validation.default_job(obj)
                job_validation.check_job(obj)
                obj["status"] = {}
            case "configmaps" | "secrets":
                validation.check_config(KINDS[resource], obj)
            case _:
                policy_validation.check(resource, obj)
                if resource == "namespaces":
                    obj["status"] = {"phase": "Active"}
                    obj["spec"] = {"finalizers": ["kubernetes"]}
                    obj["metadata"].setdefault("labels", {})["kubernetes.io/metadata.name"] = obj["metadata"]["name"]
        return admission.check(self.store, resource, obj)

    async def replace(self, request: web.Request, target: Target) -> web.StreamResponse:
        """Answer PUT."""
        _check_writable(target)
        kind, version = KINDS[target.resource], group_version(target.resource)
        body, warnings = decode(request, await read_json(request), kind, version)
        return self._store_update(request, target, body, warnings)

    async def patch(self, request: web.Request, target: Target) -> web.StreamResponse:
        """Answer PATCH in one of the three formats."""
        _check_writable(target)
        if request.content_type not in patches.FORMATS:
            patches.apply(request.content_type, {}, {})
        patch = await read_json(request)
        current = self.store.get(target.resource, target.namespace, target.name)
        patched = patches.apply(request.content_type, current, patch)
        body, warnings = decode(request, patched, KINDS[target.resource], group_version(target.resource))
        return self._store_update(request, target, body, warnings)

    def _store_update(
        self, request: web.Request, target: Target, body: JSON, warnings: list[str]
    ) -> web.StreamResponse:
        resource, namespace, name = target.resource, target.namespace, target.name
        old = self.store.get(resource, namespace, name)
        new = self._merge_update(resource, old, body)
        if is_dry_run(request):
            return _answer(request, target, new, warnings=warnings)
        updated = self.store.update(resource, namespace, name, _replacement(new))
        if resource == "pods" and old["spec"] != updated["spec"]:
            worker = self.kubelet.workers.get(updated["metadata"]["uid"])
            if worker is not None:
                worker.set_deadline(updated["spec"].get("activeDeadlineSeconds"))
            self.kubelet.schedule()
        return _answer(request, target, updated, warnings=warnings)

    def _merge_update(self, resource: str, old: JSON, body: JSON) -> JSON:
        """Return what an update makes of an object; raises what is wrong with it."""
        before, after = old["metadata"], body["metadata"]
        name = before["name"]
        if after.setdefault("name", name) != name:
            raise ApiError(400, f"the name of the object ({after['name']}) does not match the name on the URL ({name})")
        if after.get("namespace", before.get("namespace", "")) != before.get("namespace", ""):
            raise ApiError(400, "the namespace of the provided object does not match the namespace sent on the request")
        version = after.get("resourceVersion")
        if version and version != before["resourceVersion"]:
            raise ApiError(
                409,
                f'Operation cannot be fulfilled on {resource} "{name}": the object has been modified; '
                "please apply your changes to the latest version and try again",
            )
        if after.get("uid", before["uid"]) != before["uid"]:
            why = f"Precondition failed: UID in precondition: {after['uid']}, UID in object meta: {before['uid']}"
            raise ApiError(409, f'Operation cannot be fulfilled on {resource} "{name}": {why}')
        kept = {k: v for k, v in before.items() if k not in ("labels", "annotations", "ownerReferences", "finalizers")}
        settable = {k: after[k] for k in ("labels", "annotations", "ownerReferences", "finalizers") if after.get(k)}
        new = {"apiVersion": group_version(resource), "kind": KINDS[resource], **body, "metadata": kept | settable}
        if "status" in old:
            new["status"] = old["status"]  # only the status subresource changes it
        if "deletionTimestamp" in before:
            _check_no_new_finalizers(old, new)
        if resource == "pods":
            new["spec"] = body.get("spec", {})
            spec = dict(new["spec"])
            defaults.default_pod({"spec": spec})
            validation.check_pod_update(old, new | {"spec": spec})
            new["spec"] = spec
        elif resource == "jobs":
            job_validation.default_job(new)
            job_validation.check_job_update(old, new)
        elif resource in ("configmaps", "secrets"):
            validation.check_config(KINDS[resource], new)
            if old.get("immutable") and any(old.get(k) != new.get(k) for k in ("data", "binaryData", "immutable")):
                raise ApiError(
                    422,
                    f'{KINDS[resource]} "{name}" is invalid: data: Forbidden: '
                    "field is immutable when `immutable` is set",
                )
        else:
            policy_validation.check_update(resource, old, new)
            if resource == "priorityclasses":
                admission.check_default_class(self.store, new)
        if resource in WITH_GENERATION and new["spec"] != old["spec"]:
            new["metadata"]["generation"] += 1
        return new

    async def delete(self, request: web.Request, target: Target) -> web.StreamResponse:
        """Answer DELETE of one object."""
        _check_writable(target)
        options = await self._delete_options(request)
        obj = self.store.get(target.resource, target.namespace, target.name)
        wanted = options.get("preconditions", {})
        for key in ("uid", "resourceVersion"):
            if wanted.get(key) not in (None, obj["metadata"][key]):
                why = (
                    f"Precondition failed: {key} in precondition: {wanted[key]}, in object meta: {obj['metadata'][key]}"
                )
                raise ApiError(409, f'Operation cannot be fulfilled on {target.resource} "{target.name}": {why}')
        if is_dry_run(request, options):
            return _answer(request, target, obj)
        if target.resource == "pods":
            return _answer(request, target, self.kubelet.delete(obj, options.get("gracePeriodSeconds")))
        if target.resource == "jobs" and _propagation(request, options, target.name) == "Foreground":
            marked = self.store.update("jobs", target.namespace, target.name, _deleted_after_its_pods)
            return _answer(request, target, marked)
        if target.resource == "namespaces":
            return _answer(request, target, self._delete_namespace(target.name))
        gone = self.store.delete(target.resource, target.namespace, target.name)
        if self.store.find(target.resource, target.namespace, target.name) is not None:
            return _answer(request, target, gone)  # its finalizers hold it
        details = {"name": target.name, "kind": target.resource, "uid": obj["metadata"]["uid"]}
        return web.json_response(success(details))

    async def delete_collection(self, request: web.Request, target: Target) -> web.StreamResponse:
        """Answer DELETE of a collection."""
        if target.resource in CLUSTER_SCOPED or not target.namespace:
            raise ApiError(405, "the server does not allow this method on the requested resource")
        options = await self._delete_options(request)
        objects = self.store.select(target.resource, target.namespace, self._filter(target, request))
        for obj in objects if not is_dry_run(request, options) else []:
            if target.resource == "pods":
                self.kubelet.delete(obj, options.get("gracePeriodSeconds"))
            elif target.resource == "jobs" and _propagation(request, options, "") == "Foreground":
                self.store.update("jobs", target.namespace, obj["metadata"]["name"], _deleted_after_its_pods)
            else:
                self.store.delete(target.resource, target.namespace, obj["metadata"]["name"])
        metadata = {"resourceVersion": str(self.store.version)}
        return web.json_response(_list_of(target.resource, metadata, objects))

    async def _delete_options(self, request: web.Request) -> JSON:
        options: JSON = {}
        if await request.read():
            body: Any = await read_json(request)
            if isinstance(body, dict) and body.get("apiVersion") not in (None, "v1"):
                body = {**body, "apiVersion": "v1"}  # kubectl sends the group's own version of DeleteOptions
            options, _ = schema.check("DeleteOptions", check_kind(body, "DeleteOptions"))
        grace = integer(request.query, "gracePeriodSeconds")
        if grace is not None:
            options["gracePeriodSeconds"] = grace
        return options

    def _delete_namespace(self, name: str) -> JSON:
        if name == "default":
            raise forbidden("namespaces", name, "this namespace may not be deleted")
        marked = self.store.update("namespaces", "", name, _terminating)
        for resource in _GO_WITH_NAMESPACE:
            for obj in self.store.select(resource, name):
                self.store.delete(resource, name, obj["metadata"]["name"])
        for pod in self.store.select("pods", name):
            self.kubelet.delete(pod, None)
        self.kubelet.spawn(self._finish_namespace(name))
        return marked

    async def _finish_namespace(self, name: str) -> None:
        while any(self.store.select(resource, name) for resource in ("pods", *_GO_WITH_NAMESPACE)):
            await asyncio.sleep(0.1)
        for event in self.store.select("events", name):
            self.store.delete("events", name, event["metadata"]["name"])
        self.store.delete("namespaces", "", name)


def _check_writable(target: Target) -> None:
    if target.resource == "nodes":
        raise ApiError(405, "the nodes of the local Kubernetes API are fixed")


def _replacement(new: JSON) -> Callable[[JSON], None]:
    def replace(stored: JSON) -> None:
        stored.clear()
        stored.update(new)

    return replace


def _check_no_new_finalizers(old: JSON, new: JSON) -> None:
    had = old["metadata"].get("finalizers", [])
    added = [name for name in new["metadata"].get("finalizers", []) if name not in had]
    if added:
        causes = Causes()
        listed = ", ".join(f'"{name}"' for name in added)
        why = (
            f"no new finalizers can be added if the object is being deleted, found new finalizers []string{{{listed}}}"
        )
        causes.forbidden("metadata.finalizers", why)
        causes.raise_if_any(new["kind"], new["metadata"]["name"])


def _terminating(namespace: JSON) -> None:
    namespace["status"]["phase"] = "Terminating"


def _propagation(request: web.Request, options: JSON, name: str) -> str:
    """Return whether a job's pods are deleted before it or after it; 422 where they would stay."""
    chosen = request.query.get("propagationPolicy") or options.get("propagationPolicy")
    if chosen is None and options.get("orphanDependents") is False:
        chosen = "Background"
    if chosen in ("Foreground", "Background"):
        return str(chosen)
    if chosen not in (None, "Orphan"):
        why = f'propagationPolicy: Unsupported value: "{chosen}": supported values: "Background", "Foreground"'
        raise ApiError(422, f"DeleteOptions is invalid: {why}")
    given = "propagationPolicy Orphan" if chosen else "no propagationPolicy, which for batch/v1 means Orphan,"
    raise ApiError(
        422,
        f'jobs.batch "{name}": {given} would leave the pods running without their job; the local Kubernetes API '
        "does not do that: delete it with propagationPolicy Background or Foreground",
    )


def _deleted_after_its_pods(job: JSON) -> None:
    deletion.mark(job)
    metadata = job["metadata"]
    metadata["finalizers"] = list(dict.fromkeys([*metadata.get("finalizers", []), job_controller.FOREGROUND]))


def _list_of(resource: str, metadata: JSON, objects: list[JSON]) -> JSON:
    version = group_version(resource)
    return {"kind": f"{KINDS[resource]}List", "apiVersion": version, "metadata": metadata, "items": objects}


def _key(obj: JSON) -> tuple[str, str]:
    return obj["metadata"].get("namespace", ""), obj["metadata"]["name"]


def _wants_table(request: web.Request) -> bool:
    return "as=Table" in request.headers.get("Accept", "")


def _answer(
    request: web.Request, target: Target, obj: JSON, code: int = 200, warnings: list[str] | None = None
) -> web.Response:
    if _wants_table(request) and code == 200:
        obj = table(target.resource, [obj], {"resourceVersion": obj["metadata"].get("resourceVersion", "")})
    response = web.json_response(obj, status=code)
    for warning in warnings or []:
        text = warning.replace("\\", "\\\\").replace('"', '\\"')
        response.headers.add("Warning", f'299 - "{text}"')
    return response


def _event(change: Change, matches: Callable[[JSON], bool]) -> str | None:
    """Return what a change is to a watcher who only sees the objects that match."""
    before = change.previous is not None and matches(change.previous)
    after = change.type != "DELETED" and matches(change.object)
    if before and after:
        return "MODIFIED"
    if after:
        return "ADDED"
    return "DELETED" if before else None


def not_allowed(request: web.Request) -> web.Response:
    """Answer a method that the resource does not have."""
    return web.json_response(
        failure(405, "the server does not allow this method on the requested resource"), status=405
    )
