"""What clients ask to find out what the server has."""

from __future__ import annotations

from local.kubernetes.errors import JSON
from local.kubernetes.store import CLUSTER_SCOPED, KINDS, group_version

_SHORT = {
    "pods": ["po"],
    "events": ["ev"],
    "configmaps": ["cm"],
    "serviceaccounts": ["sa"],
    "namespaces": ["ns"],
    "nodes": ["no"],
}
_READ = ["get", "list", "watch"]
_WRITE = ["create", "delete", "deletecollection", "get", "list", "patch", "update", "watch"]
_MINOR = "36"
_BATCH_VERSION = {"groupVersion": "batch/v1", "version": "v1"}
_BATCH: JSON = {"name": "batch", "versions": [_BATCH_VERSION], "preferredVersion": _BATCH_VERSION}


def version() -> JSON:
    """Answer /version."""
    return {
        "major": "1",
        "minor": _MINOR,
        "gitVersion": f"v1.{_MINOR}.0+local",
        "gitCommit": "",
        "gitTreeState": "",
        "buildDate": "",
        "goVersion": "",
        "compiler": "",
        "platform": "linux/amd64",
    }


def api_versions() -> JSON:
    """Answer /api."""
    return {"kind": "APIVersions", "versions": ["v1"], "serverAddressByClientCIDRs": []}


def api_groups() -> JSON:
    """Answer /apis: besides the core group there is only `batch`."""
    return {"kind": "APIGroupList", "apiVersion": "v1", "groups": [_BATCH]}


def batch_group() -> JSON:
    """Answer /apis/batch."""
    return {"kind": "APIGroup", "apiVersion": "v1", **_BATCH}


def _resource(name: str, kind: str, verbs: list[str], **more: object) -> JSON:
    plural = name.split("/")[0]
    return {
        "name": name,
        "singularName": "" if "/" in name else kind.lower(),
        "namespaced": plural not in CLUSTER_SCOPED,
        "kind": kind,
        "verbs": verbs,
        **more,
    }


def api_resources() -> JSON:
    """Answer /api/v1."""
    resources = []
    for name, kind in _kinds("v1").items():
        extra = {"shortNames": _SHORT[name]} if name in _SHORT else {}
        resources.append(_resource(name, kind, _READ if name == "nodes" else _WRITE, **extra))
    resources += [
        _resource("pods/exec", "PodExecOptions", ["create", "get"]),
        _resource("pods/log", "Pod", ["get"]),
        _resource("pods/status", "Pod", ["get"]),
        _resource("pods/eviction", "Eviction", ["create"], group="policy", version="v1"),
    ]
    return {"kind": "APIResourceList", "apiVersion": "v1", "groupVersion": "v1", "resources": resources}


def batch_resources() -> JSON:
    """Answer /apis/batch/v1."""
    resources = [_resource("jobs", "Job", _WRITE, categories=["all"]), _resource("jobs/status", "Job", ["get"])]
    return {"kind": "APIResourceList", "apiVersion": "v1", "groupVersion": "batch/v1", "resources": resources}


def _kinds(version: str) -> dict[str, str]:
    return {name: kind for name, kind in KINDS.items() if group_version(name) == version}


def openapi_index() -> JSON:
    """Answer /openapi/v3."""
    paths = ("api/v1", "apis/batch/v1")
    return {"paths": {path: {"serverRelativeURL": f"/openapi/v3/{path}?hash=1"} for path in paths}}


def openapi_core() -> JSON:
    """Answer /openapi/v3/api/v1."""
    return _openapi("", "api/v1")


def openapi_batch() -> JSON:
    """Answer /openapi/v3/apis/batch/v1."""
    return _openapi("batch", "apis/batch/v1")


def _openapi(group: str, root: str) -> JSON:
    """Return only what kubectl looks for: that the server itself validates fields."""
    paths: JSON = {}
    parameters = [
        {"name": name, "in": "query", "schema": {"type": "string", "uniqueItems": True}}
        for name in ("dryRun", "fieldManager", "fieldValidation")
    ]
    for name, kind in _kinds(f"{group}/v1" if group else "v1").items():
        scope = "" if name in CLUSTER_SCOPED else "/namespaces/{namespace}"
        operation = {
            "operationId": f"patch{kind}",
            "parameters": parameters,
            "responses": {"200": {"description": "OK"}},
            "x-kubernetes-action": "patch",
            "x-kubernetes-group-version-kind": {"group": group, "kind": kind, "version": "v1"},
        }
        paths[f"/{root}{scope}/{name}/{{name}}"] = {"patch": operation}
    return {"openapi": "3.0.0", "info": {"title": "Kubernetes", "version": f"v1.{_MINOR}.0"}, "paths": paths}
