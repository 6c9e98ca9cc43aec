"""Which part of this server answers a request."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any

from pydantic import ValidationError
from werkzeug.wrappers import Request, Response

from local.aws.sagemaker.faults import Fault, Faults
from local.aws.sagemaker.protocol import ControlPlane, credential_scope
from local.aws.sagemaker.runtime import PATH as INVOCATIONS
from local.aws.sagemaker.runtime import Runtime

HEALTH = "/_local/health"
FAULTS = "/_local/faults"
SERVICES = (
    *("s3", "sqs", "sns", "sts", "secretsmanager", "cloudwatch"),
    *("sagemaker", "sagemaker-runtime", "application-autoscaling"),
)


class Dispatcher:
    """A WSGI application: SageMaker, its scaling and `/_local/…` are ours, everything else is moto's."""

    def __init__(self, moto: Any, control_planes: Mapping[str, ControlPlane], runtime: Runtime, faults: Faults) -> None:
        """Take the control planes by the prefix of their X-Amz-Target."""
        self._moto = moto
        self._control_planes = control_planes
        self._runtime = runtime
        self._faults = faults

    def __call__(self, environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        """Answer a WSGI request."""
        response = self._own(Request(environ))
        answer: Iterable[bytes] = (response or self._moto)(environ, start_response)
        return answer

    def _own(self, request: Request) -> Response | None:
        prefix, dot, _ = request.headers.get("X-Amz-Target", "").partition(".")
        if control_plane := self._control_planes.get(prefix + dot):
            return control_plane.answer(request)
        match = INVOCATIONS.match(request.path)
        if match and request.method == "POST":
            scope = credential_scope(request)
            # An unsigned or S3-signed request to this path would be one to a bucket named "endpoints".
            if scope and scope[1] == "sagemaker":
                return self._runtime.answer(request, match[1])
        if request.path == HEALTH:
            return _json({"status": "ok", "services": dict.fromkeys(SERVICES, "running")})
        if request.path == FAULTS:
            return self._answer_faults(request)
        return None

    def _answer_faults(self, request: Request) -> Response:
        if request.method == "POST":
            try:
                self._faults.add(Fault.model_validate_json(request.get_data()))
            except ValidationError as error:
                problems = [f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors()]
                return _json({"message": f"POST {FAULTS}: {'; '.join(problems)}"}, 400)
        elif request.method == "DELETE":
            self._faults.clear()
        elif request.method != "GET":
            return _json({"message": f"{FAULTS} takes GET, POST and DELETE."}, 405)
        return _json({"faults": [fault.model_dump() for fault in self._faults.armed()]})


def _json(body: dict[str, Any], status: int = 200) -> Response:
    return Response(json.dumps(body), status, content_type="application/json")
