"""ECR's registry, which Docker pushes to: Debian's docker-registry keeps the blobs, ECR's records say what is there.

It answers at ECR's own names (`<account>.dkr.ecr.<region>.amazonaws.com`), to a client whose HTTP proxy is the front.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Any

from multidict import CIMultiDict

from local.emulators.calls import Call, Request
from local.emulators.responses import Response

Ask = Callable[[Call, Request], Awaitable[Response]]
Keep = Callable[[Request], Awaitable[Response]]
HOST = re.compile(r"(?P<account>[0-9]{12})\.dkr\.ecr\.(?P<region>[a-z0-9-]+)\.amazonaws\.com")
ACCEPTED = "application/vnd.docker.distribution.manifest.v2+json"
_MANIFEST = re.compile(r"^/v2/(?P<name>.+)/manifests/(?P<reference>[^/]+)$")
_TARGET = "AmazonEC2ContainerRegistry_V20150921"


class Registry:
    """The registry of every account and region.

    Args:
        ask: has ECR's API answer.
        keep: has docker-registry answer.
    """

    def __init__(self, ask: Ask, keep: Keep) -> None:
        self._ask = ask
        self._keep = keep

    async def answer(self, host: re.Match[str], request: Request) -> Response:
        """Answer a request to one account's registry."""
        _, token = await self._ecr(host, "GetAuthorizationToken", {})
        expected = f"Basic {token['authorizationData'][0]['authorizationToken']}"
        if request.headers.get("Authorization") != expected:
            refused = _error(401, "UNAUTHORIZED", "sign in with a token of GetAuthorizationToken")
            return replace(refused, headers={**refused.headers, "Www-Authenticate": f'Basic realm="{host[0]}"'})
        if request.method == "PUT" and (manifest := _MANIFEST.match(request.path)):
            return await self._put_manifest(host, manifest["name"], manifest["reference"], request)
        return await self._keep(request)

    async def _put_manifest(self, host: re.Match[str], name: str, reference: str, request: Request) -> Response:
        """Take an image in as ECR does, but for the forms that SageMaker and ECR's own scan refuse later."""
        media_type = request.headers.get("Content-Type", "")
        if media_type != ACCEPTED:
            return _error(400, "MANIFEST_INVALID", f"Unsupported manifest media type {media_type}")
        digest = f"sha256:{hashlib.sha256(request.body).hexdigest()}"
        kept = await self._keep(replace(request, path=f"/v2/{name}/manifests/{digest}"))
        if kept.status >= 400 or reference == digest:
            return kept
        put = {"imageManifest": request.body.decode(), "imageManifestMediaType": media_type, "imageTag": reference}
        status, problem = await self._ecr(host, "PutImage", {"repositoryName": name, **put})
        if status != 200:
            code = "NAME_UNKNOWN" if "NotFound" in problem["__type"] else "TAG_INVALID"
            return _error(status, code, problem["message"])
        return await self._keep(request)

    async def _ecr(self, host: re.Match[str], action: str, body: dict[str, Any]) -> tuple[int, dict[str, Any]]:
        """Ask ECR's API on behalf of the registry's account."""
        scope = f"{host['account']}/20260101/{host['region']}/ecr/aws4_request"
        headers = {
            "Authorization": f"AWS4-HMAC-SHA256 Credential={scope}, SignedHeaders=host, Signature=0",
            "Content-Type": "application/x-amz-json-1.1",
            "X-Amz-Target": f"{_TARGET}.{action}",
        }
        asked = Request("POST", "/", "", CIMultiDict(headers), json.dumps(body).encode())
        answer = await self._ask(Call("ecr", action, "json", host["region"]), asked)
        return answer.status, json.loads(answer.body)


def _error(status: int, code: str, message: str) -> Response:
    document = {"errors": [{"code": code, "message": message}]}
    headers = {"Content-Type": "application/json", "Docker-Distribution-Api-Version": "registry/2.0"}
    return Response(status, headers, json.dumps(document).encode())
