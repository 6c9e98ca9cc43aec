"""Reading requests: which object they are about, their verb, their body."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from aiohttp import web

from local.kubernetes import documents, schema
from local.kubernetes.errors import JSON, ApiError
from local.kubernetes.kinds import CLUSTER_SCOPED, KINDS, group_version
from local.kubernetes.rbac import Attributes

_YAML = ("application/yaml", "application/x-yaml", "text/yaml")


@dataclass(frozen=True)
class Target:
    """What a path is about: `/api/v1/namespaces/{namespace}/{resource}/{name}/{subresource}`, or `/apis/batch/v1/…`."""

    resource: str
    namespace: str = ""
    name: str = ""
    subresource: str = ""

    @property
    def path(self) -> str:
        """The one way to write it."""
        version = group_version(self.resource)
        home = ("namespaces", self.namespace) if self.namespace else ()
        parts = ("apis" if "/" in version else "api", version, *home, self.resource, self.name, self.subresource)
        return "/" + "/".join(part for part in parts if part)


_VERBS = {"GET": "get", "HEAD": "get", "POST": "create", "PUT": "update", "PATCH": "patch", "DELETE": "delete"}
_BY_NAME = re.compile(r"(?:^|,)metadata\.name==?([^,]+)(?:,|$)")


def read_target(request: web.Request) -> tuple[Attributes, Target | None]:
    """Return what a request wants to do, and which of the resources that there are it is about.

    Follows k8s.io/apiserver/pkg/endpoints/request.RequestInfoFactory. The path is read once, so that nobody is
    judged by one object and answered with another.
    """
    method = request.method
    match request.path.strip("/").split("/"):
        case ["api", _, first, *rest]:
            group = ""
        case ["apis", group, _, first, *rest]:
            pass
        case _:
            return Attributes(method.lower(), path=request.path), None
    by_path = first in ("watch", "proxy") and bool(rest)  # the old spelling of verbs, /api/v1/watch/pods
    verb = first if by_path else _VERBS.get(method, "")
    if by_path:
        first, *rest = rest
    namespace = ""
    if first == "namespaces" and rest:
        namespace = rest[0]
        if len(rest) > 1 and rest[1] not in ("status", "finalize"):
            first, *rest = rest[1:]
    name, subresource = [*rest, "", ""][:2]
    target = Target(first, "" if first in CLUSTER_SCOPED else namespace, name, subresource)
    if verb == "get" and not name:
        # Whatever does not say no is yes, an empty value too.
        verb = "list" if request.query.get("watch", "false").lower() in ("0", "false") else "watch"
        found = _BY_NAME.search(request.query.get("fieldSelector", ""))
        name = found[1] if found else ""
    elif verb == "delete" and not name:
        verb = "deletecollection"
    wanted = Attributes(verb, group, first, subresource, namespace, name)
    return wanted, target if _exists(target, request.path) else None


def _exists(target: Target, path: str) -> bool:
    """Tell whether there is such a resource, and a path is the one way to write it, but for slashes at its end."""
    if target.resource not in KINDS or target.path != path.rstrip("/"):
        return False
    return not target.name or bool(target.namespace) or target.resource in CLUSTER_SCOPED


async def read_json(request: web.Request) -> Any:
    """Read a body of JSON (or YAML); 400 when it is malformed, 415 when it is something else."""
    body = await request.read()
    media_type = request.content_type
    try:
        if media_type in _YAML:
            read = documents.read_yaml(body)
            if len(read) > 1:
                raise ValueError("expected a single document in the stream")
            return read[0] if read else None
        if media_type not in ("application/json", "application/octet-stream") and not media_type.endswith("+json"):
            raise ApiError(
                415,
                "the body of the request was in an unknown format - accepted media types include: "
                "application/json, application/yaml",
            )
        return documents.read_json(body)
    except ValueError as error:
        raise ApiError(400, f"couldn't parse the body of the request: {error}") from error


def check_kind(body: Any, kind: str, *, version: str = "v1") -> JSON:
    """Check that a body is an object of a kind."""
    if not isinstance(body, dict):
        raise ApiError(400, f"the object provided is unrecognized (must be of type {kind})")
    given = (body.get("apiVersion", version), body.get("kind", kind))
    if given != (version, kind):
        raise ApiError(
            400,
            f'{given[1]} in version "{given[0]}" cannot be handled as a {kind}: '
            f"no kind is registered for it here (expected {kind} in version {version})",
        )
    return body


def decode(request: web.Request, body: Any, kind: str, version: str = "v1") -> tuple[JSON, list[str]]:
    """Return the object and the warnings to send, by `fieldValidation`; 400 for unknown fields when strict."""
    obj, unknown = schema.check(kind, check_kind(body, kind, version=version), version=version)
    mode = request.query.get("fieldValidation") or "Warn"
    if mode not in ("Ignore", "Warn", "Strict"):
        allowed = 'supported values: "Ignore", "Strict", "Warn"'
        raise ApiError(422, f'fieldValidation: Unsupported value: "{mode}": {allowed}')
    if unknown and mode == "Strict":
        raise ApiError(
            400,
            f'{kind} in version "{version}" cannot be handled as a {kind}: strict decoding error: {", ".join(unknown)}',
        )
    obj.setdefault("metadata", {})
    return obj, unknown if mode == "Warn" else []


def is_dry_run(request: web.Request, body: JSON | None = None) -> bool:
    """Tell whether nothing is to be stored."""
    value = request.query.getall("dryRun", []) or (body or {}).get("dryRun", [])
    if value and value != ["All"]:
        raise ApiError(422, f'dryRun: Unsupported value: {value}: supported values: "All"')
    return bool(value)
