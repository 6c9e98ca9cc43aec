"""A Kubernetes API with all kinds that config/kubernetes has, as far as kubectl's apply, diff and delete go.

It keeps objects and merges server-side applies; it does not validate them and runs nothing.
"""

from __future__ import annotations

import copy
import json
import re
import threading
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

import yaml

Object = dict[str, Any]
Key = tuple[str, str, str]  # plural, namespace, name

# Plural: group and version, kind, whether in a namespace.
RESOURCES = {
    "namespaces": ("v1", "Namespace", False),
    "pods": ("v1", "Pod", True),
    "configmaps": ("v1", "ConfigMap", True),
    "services": ("v1", "Service", True),
    "serviceaccounts": ("v1", "ServiceAccount", True),
    "resourcequotas": ("v1", "ResourceQuota", True),
    "limitranges": ("v1", "LimitRange", True),
    "deployments": ("apps/v1", "Deployment", True),
    "poddisruptionbudgets": ("policy/v1", "PodDisruptionBudget", True),
    "networkpolicies": ("networking.k8s.io/v1", "NetworkPolicy", True),
    "priorityclasses": ("scheduling.k8s.io/v1", "PriorityClass", False),
    "roles": ("rbac.authorization.k8s.io/v1", "Role", True),
    "rolebindings": ("rbac.authorization.k8s.io/v1", "RoleBinding", True),
    "clusterroles": ("rbac.authorization.k8s.io/v1", "ClusterRole", False),
    "clusterrolebindings": ("rbac.authorization.k8s.io/v1", "ClusterRoleBinding", False),
}
GROUPS = sorted({version for version, _, _ in RESOURCES.values() if "/" in version})
VERBS = ["create", "delete", "get", "list", "patch", "update", "watch"]
PATH = re.compile(
    r"/(?:api|apis/[^/]+)/v1(?:/namespaces/(?P<namespace>[^/]+)(?=/))?/(?P<plural>[a-z]+)(?:/(?P<name>[^/]+))?$"
)


class Refused(Exception):
    """An answer that is an error."""

    def __init__(self, code: int, reason: str, message: str) -> None:
        super().__init__(message)
        self.code, self.reason = code, reason


class FakeApi:
    """The objects, and what was asked."""

    def __init__(self) -> None:
        self.objects: dict[Key, Object] = {}
        self.calls: list[tuple[str, str]] = []
        self.refuse: dict[tuple[str, str], Refused] = {}  # by method and plural
        self.rolled_out = True
        self.url = ""
        for name in ("default", "kube-system"):
            self.put("namespaces", {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}})

    def put(self, plural: str, item: Object) -> None:
        """Have an object there already."""
        metadata = item["metadata"]
        stored = copy.deepcopy(item)
        stored["metadata"] |= {"uid": str(uuid.uuid4()), "resourceVersion": "1", "managedFields": []}
        self.objects[plural, metadata.get("namespace", ""), metadata["name"]] = stored

    def writes(self) -> list[tuple[str, str]]:
        """Return what was asked to be changed, and not only tried."""
        return [call for call in self.calls if call[0] in ("PATCH", "DELETE", "POST", "PUT")]

    def answer(self, method: str, path: str, query: dict[str, list[str]], body: bytes) -> Object:
        """Return the answer to a request."""
        if (known := self._discovery(path)) is not None:
            return known
        if not (match := PATH.match(path)) or match["plural"] not in RESOURCES:
            raise Refused(404, "NotFound", "the server could not find the requested resource")
        plural, namespace, name = match["plural"], match["namespace"] or "", match["name"] or ""
        dry = "dryRun" in query
        if not dry:
            self.calls.append((method, path))
        if refused := self.refuse.get((method, plural)):
            raise refused
        if namespace and ("namespaces", "", namespace) not in self.objects and method != "GET":
            raise Refused(404, "NotFound", f'namespaces "{namespace}" not found')
        if not name:
            return self._list(plural, namespace, query)
        key = (plural, namespace, name)
        if method == "PATCH":
            assert "fieldManager" in query
            return self._apply(key, yaml.safe_load(body), dry)
        if key not in self.objects:
            raise Refused(404, "NotFound", f'{plural} "{name}" not found')
        return self.objects.pop(key) if method == "DELETE" and not dry else self._shown(self.objects[key])

    def _apply(self, key: Key, wanted: Object, dry: bool) -> Object:
        before = self.objects.get(key)
        stored = copy.deepcopy(wanted)
        old = (before or {}).get("metadata", {})
        same = before is not None and _content(before) == _content(stored)
        stored["metadata"] |= {
            "uid": old.get("uid", str(uuid.uuid4())),
            "resourceVersion": old.get("resourceVersion", "0")
            if same
            else str(int(old.get("resourceVersion", "0")) + 1),
            "generation": 1,
        }
        if not dry:
            self.objects[key] = stored
        return self._shown(stored)

    def _shown(self, stored: Object) -> Object:
        item = copy.deepcopy(stored)
        if item["kind"] == "Deployment":
            replicas = item["spec"]["replicas"]
            ready = replicas if self.rolled_out else 0
            item["status"] = {
                "observedGeneration": 1,
                "replicas": replicas,
                "updatedReplicas": replicas,
                "availableReplicas": ready,
                "readyReplicas": ready,
            }
        return item

    def _list(self, plural: str, namespace: str, query: dict[str, list[str]]) -> Object:
        version, kind, _ = RESOURCES[plural]
        labels = dict(pair.split("=") for pair in query.get("labelSelector", [""])[0].split(",") if pair)
        items = [
            self._shown(item)
            for key, item in sorted(self.objects.items())
            if key[0] == plural
            and namespace in ("", key[1])
            and labels.items() <= item["metadata"].get("labels", {}).items()
        ]
        return {"apiVersion": version, "kind": f"{kind}List", "metadata": {"resourceVersion": "1"}, "items": items}

    def _discovery(self, path: str) -> Object | None:
        if path == "/api":
            return {"kind": "APIVersions", "versions": ["v1"]}
        if path == "/apis":
            groups = [
                {"name": group.split("/")[0], "versions": [version], "preferredVersion": version}
                for group in GROUPS
                for version in ({"groupVersion": group, "version": "v1"},)
            ]
            return {"kind": "APIGroupList", "apiVersion": "v1", "groups": groups}
        if path == "/openapi/v3":
            paths = ["api/v1", *(f"apis/{group}" for group in GROUPS)]
            return {"paths": {item: {"serverRelativeURL": f"/openapi/v3/{item}?hash=1"} for item in paths}}
        prefix = path.removeprefix("/openapi/v3")
        version = prefix.removeprefix("/apis/").removeprefix("/api/")
        resources = {plural: entry for plural, entry in RESOURCES.items() if entry[0] == version}
        if not resources:
            return None
        if path != prefix:
            return _openapi(prefix, resources)
        found = [
            {"name": plural, "singularName": kind.lower(), "namespaced": namespaced, "kind": kind, "verbs": VERBS}
            for plural, (_, kind, namespaced) in resources.items()
        ]
        return {"kind": "APIResourceList", "apiVersion": "v1", "groupVersion": version, "resources": found}


def _content(item: Object) -> Object:
    volatile = ("uid", "resourceVersion", "generation", "managedFields")
    metadata = {key: value for key, value in item["metadata"].items() if key not in volatile}
    return {**{key: value for key, value in item.items() if key != "status"}, "metadata": metadata}


def _openapi(prefix: str, resources: dict[str, tuple[str, str, bool]]) -> Object:
    """Only what kubectl looks for: that the server can try a change, and validates fields itself."""
    parameters = [{"name": name, "in": "query"} for name in ("dryRun", "fieldManager", "fieldValidation")]
    paths: Object = {}
    for plural, (version, kind, namespaced) in resources.items():
        group = version.rpartition("/")[0]
        scope = "/namespaces/{namespace}" if namespaced else ""
        paths[f"{prefix}{scope}/{plural}/{{name}}"] = {
            "patch": {
                "parameters": parameters,
                "responses": {"200": {"description": "OK"}},
                "x-kubernetes-group-version-kind": {"group": group, "kind": kind, "version": "v1"},
            }
        }
    return {"openapi": "3.0.0", "info": {"title": "Kubernetes", "version": "v1.36.0"}, "paths": paths}


@contextmanager
def serve() -> Iterator[FakeApi]:
    """Serve a new API on a free port of this machine."""
    api, closing = FakeApi(), threading.Event()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True  # an answer is two writes, and the second would wait for the first's receipt

        def _answer(self) -> None:
            url = urlsplit(self.path)
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            query = parse_qs(url.query)
            try:
                if "sendInitialEvents" in query:
                    raise Refused(422, "Invalid", "sendInitialEvents: Forbidden")
                if "watch" in query:
                    return self._nothing_happens()
                code, content = 200, api.answer(self.command, url.path, query, body)
            except Refused as refused:
                code = refused.code
                content = {
                    "kind": "Status",
                    "apiVersion": "v1",
                    "status": "Failure",
                    "message": str(refused),
                    "reason": refused.reason,
                    "code": code,
                }
            payload = json.dumps(content).encode()
            self.send_response(code)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(payload)))
            self.end_headers()
            self.wfile.write(payload)

        def _nothing_happens(self) -> None:
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Connection", "close")
            self.end_headers()
            self.close_connection = True
            closing.wait(5)

        do_GET = do_PATCH = do_DELETE = do_POST = do_PUT = _answer

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    api.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield api
    finally:
        closing.set()
        server.shutdown()
        server.server_close()
        thread.join()
