"""What clients ask to find out what the server has."""

from __future__ import annotations

from local.kubernetes.errors import JSON
from local.kubernetes.kinds import CLUSTER_SCOPED, GROUP_VERSIONS, KINDS, group_version

_SHORT = {
    "pods": ["po"],
    "events": ["ev"],
    "configmaps": ["cm"],
    "serviceaccounts": ["sa"],
    "resourcequotas": ["quota"],
    "limitranges": ["limits"],
    "namespaces": ["ns"],
    "nodes": ["no"],
    "priorityclasses": ["pc"],
}
_READ = ["get", "list", "watch"]
_WRITE = ["create", "delete", "deletecollection", "get", "list", "patch", "update", "watch"]
_MINOR = "36"


def answer(path: str) -> JSON | None:
    """Answer GET of one of the paths that tell what there is, without a slash at its end; None for any other."""
    match path.strip("/").split("/"):
        case ["version"]:
            return _version()
        case ["api"]:
            return {"kind": "APIVersions", "versions": ["v1"], "serverAddressByClientCIDRs": []}
        case ["apis"]:
            groups = [_group(version) for version in GROUP_VERSIONS if "/" in version]
            return {"kind": "APIGroupList", "apiVersion": "v1", "groups": groups}
        case ["apis", group] if f"{group}/v1" in GROUP_VERSIONS:
            return {"kind": "APIGroup", "apiVersion": "v1", **_group(f"{group}/v1")}
        case ["openapi", "v3"]:
            roots = [_root(version) for version in GROUP_VERSIONS]
            return {"paths": {root: {"serverRelativeURL": f"/openapi/v3/{root}?hash=1"} for root in roots}}
    for version in GROUP_VERSIONS:
        if path == f"/{_root(version)}":
            return _resources(version)
        if path == f"/openapi/v3/{_root(version)}":
            return _openapi(version)
    return None


def _root(version: str) -> str:
    return f"apis/{version}" if "/" in version else f"api/{version}"


def _version() -> JSON:
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


def _group(version: str) -> JSON:
    group, _, number = version.partition("/")
    told = {"groupVersion": version, "version": number}
    return {"name": group, "versions": [told], "preferredVersion": told}


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


def _resources(version: str) -> JSON:
    resources = []
    for name, kind in _kinds(version).items():
        extra = {"shortNames": _SHORT[name]} if name in _SHORT else {}
        resources.append(_resource(name, kind, _READ if name == "nodes" else _WRITE, **extra))
    if version == "v1":
        resources += [
            _resource("pods/exec", "PodExecOptions", ["create", "get"]),
            _resource("pods/log", "Pod", ["get"]),
            _resource("pods/status", "Pod", ["get"]),
            _resource("pods/eviction", "Eviction", ["create"], group="policy", version="v1"),
        ]
    elif version == "batch/v1":
        resources.append(_resource("jobs/status", "Job", ["get"]))
    return {"kind": "APIResourceList", "apiVersion": "v1", "groupVersion": version, "resources": resources}


def _kinds(version: str) -> dict[str, str]:
    return {name: kind for name, kind in KINDS.items() if group_version(name) == version}


def _openapi(version: str) -> JSON:
    """Return only what kubectl looks for: that the server itself validates fields."""
    paths: JSON = {}
    parameters = [
        {"name": name, "in": "query", "schema": {"type": "string", "uniqueItems": True}}
        for name in ("dryRun", "fieldManager", "fieldValidation")
    ]
    for name, kind in _kinds(version).items():
        scope = "" if name in CLUSTER_SCOPED else "/namespaces/{namespace}"
        operation = {
            "operationId": f"patch{kind}",
            "parameters": parameters,
            "responses": {"200": {"description": "OK"}},
            "x-kubernetes-action": "patch",
            "x-kubernetes-group-version-kind": {
                "group": version.rpartition("/")[0],
                "kind": kind,
                "version": version.rpartition("/")[2],
            },
        }
        paths[f"/{_root(version)}{scope}/{name}/{{name}}"] = {"patch": operation}
    return {"openapi": "3.0.0", "info": {"title": "Kubernetes", "version": f"v1.{_MINOR}.0"}, "paths": paths}
