"""Create, change and delete objects, as the API server does for every resource alike."""

from __future__ import annotations

import asyncio
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
    schema,
    validation,
)
from local.kubernetes.answers import answer, list_of
from local.kubernetes.errors import JSON, ApiError, Causes, forbidden, not_found, success
from local.kubernetes.kinds import CLUSTER_SCOPED, KINDS, WITH_GENERATION, group_version
from local.kubernetes.kubelet import Kubelet
from local.kubernetes.logs import integer
from local.kubernetes.names import generated_name
from local.kubernetes.reading import Reader
from local.kubernetes.requests import Target, check_kind, decode, is_dry_run, read_json
from local.kubernetes.store import Store

_GO_WITH_NAMESPACE = tuple(name for name in KINDS if name not in (*CLUSTER_SCOPED, "pods", "events"))


class Resources:
    """The handlers that change objects of any resource."""

    def __init__(self, store: Store, kubelet: Kubelet) -> None:
        self.store = store
        self.kubelet = kubelet
        self.reader = Reader(store)

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
            return answer(request, target, shown, 201, warnings)
        created = self._store_new(target.resource, obj)
        return answer(request, target, created, 201, warnings)

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
            return answer(request, target, new, warnings=warnings)
        updated = self.store.update(resource, namespace, name, _replacement(new))
        if resource == "pods" and old["spec"] != updated["spec"]:
            worker = self.kubelet.workers.get(updated["metadata"]["uid"])
            if worker is not None:
                worker.set_deadline(updated["spec"].get("activeDeadlineSeconds"))
            self.kubelet.schedule()
        return answer(request, target, updated, warnings=warnings)

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
            return answer(request, target, obj)
        if target.resource == "pods":
            return answer(request, target, self.kubelet.delete(obj, options.get("gracePeriodSeconds")))
        if target.resource == "jobs" and _propagation(request, options, target.name) == "Foreground":
            marked = self.store.update("jobs", target.namespace, target.name, _deleted_after_its_pods)
            return answer(request, target, marked)
        if target.resource == "namespaces":
            return answer(request, target, self._delete_namespace(target.name))
        gone = self.store.delete(target.resource, target.namespace, target.name)
        if self.store.find(target.resource, target.namespace, target.name) is not None:
            return answer(request, target, gone)  # its finalizers hold it
        details = {"name": target.name, "kind": target.resource, "uid": obj["metadata"]["uid"]}
        return web.json_response(success(details))

    async def delete_collection(self, request: web.Request, target: Target) -> web.StreamResponse:
        """Answer DELETE of a collection."""
        if target.resource in CLUSTER_SCOPED or not target.namespace:
            raise ApiError(405, "the server does not allow this method on the requested resource")
        options = await self._delete_options(request)
        objects = self.store.select(target.resource, target.namespace, self.reader.filter(target, request))
        for obj in objects if not is_dry_run(request, options) else []:
            if target.resource == "pods":
                self.kubelet.delete(obj, options.get("gracePeriodSeconds"))
            elif target.resource == "jobs" and _propagation(request, options, "") == "Foreground":
                self.store.update("jobs", target.namespace, obj["metadata"]["name"], _deleted_after_its_pods)
            else:
                self.store.delete(target.resource, target.namespace, obj["metadata"]["name"])
        metadata = {"resourceVersion": str(self.store.version)}
        return web.json_response(list_of(target.resource, metadata, objects))

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
