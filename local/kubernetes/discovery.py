"""What clients ask to find out what the server has."""

from __future__ import annotations

from local.kubernetes.errors import JSON
from local.kubernetes.store import CLUSTER_SCOPED, KINDS

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
    """Answer /apis: there is only the core group."""
    return {"kind": "APIGroupList", "apiVersion": "v1", "groups": []}


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
    for name, kind in KINDS.items():
        extra = {"shortNames": _SHORT[name]} if name in _SHORT else {}
        resources.append(_resource(name, kind, _READ if name == "nodes" else _WRITE, **extra))
    resources += [
        _resource("pods/exec", "PodExecOptions", ["create", "get"]),
        _resource("pods/log", "Pod", ["get"]),
        _resource("pods/status", "Pod", ["get"]),
        _resource("pods/eviction", "Eviction", ["create"], group="policy", version="v1"),
    ]
    return {"kind": "APIResourceList", "apiVersion": "v1", "groupVersion": "v1", "resources": resources}


def openapi_index() -> JSON:
    """Answer /openapi/v3."""
    return {"paths": {"api/v1": {"serverRelativeURL": "/openapi/v3/api/v1?hash=1"}}}


def openapi_core() -> JSON:
    """Answer /openapi/v3/api/v1: only what kubectl looks for, that the server itself validates fields."""
    paths: JSON = {}
    parameters = [
        {"name": name, "in": "query", "schema": {"type": "string", "uniqueItems": True}}
        for name in ("dryRun", "fieldManager", "fieldValidation")
    ]
    for name, kind in KINDS.items():
        scope = "" if name in CLUSTER_SCOPED else "/namespaces/{namespace}"
        operation = {
            "operationId": f"patch{kind}",
            "parameters": parameters,
            "responses": {"200": {"description": "OK"}},
            "x-kubernetes-action": "patch",
            "x-kubernetes-group-version-kind": {"group": "", "kind": kind, "version": "v1"},
        }
        paths[f"/api/v1{scope}/{name}/{{name}}"] = {"patch": operation}
    return {"openapi": "3.0.0", "info": {"title": "Kubernetes", "version": f"v1.{_MINOR}.0"}, "paths": paths}
