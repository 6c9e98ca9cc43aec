"""How objects, lists and refusals are answered."""

from __future__ import annotations

from aiohttp import web

from local.kubernetes.errors import JSON, status
from local.kubernetes.kinds import KINDS, group_version
from local.kubernetes.requests import Target
from local.kubernetes.tables import table


def wants_table(request: web.Request) -> bool:
    """Tell whether a client wants the columns that `kubectl get` prints."""
    return "as=Table" in request.headers.get("Accept", "")


def answer(
    request: web.Request, target: Target, obj: JSON, code: int = 200, warnings: list[str] | None = None
) -> web.Response:
    """Answer with an object, and with warnings for who reads them."""
    if wants_table(request) and code == 200:
        obj = table(target.resource, [obj], {"resourceVersion": obj["metadata"].get("resourceVersion", "")})
    response = web.json_response(obj, status=code)
    for warning in warnings or []:
        text = warning.replace("\\", "\\\\").replace('"', '\\"')
        response.headers.add("Warning", f'299 - "{text}"')
    return response


def list_of(resource: str, metadata: JSON, objects: list[JSON]) -> JSON:
    """Return a list of objects of a resource."""
    version = group_version(resource)
    return {"kind": f"{KINDS[resource]}List", "apiVersion": version, "metadata": metadata, "items": objects}


def not_allowed(request: web.Request) -> web.Response:
    """Answer a method that the resource does not have."""
    return web.json_response(status(405, "the server does not allow this method on the requested resource"), status=405)
