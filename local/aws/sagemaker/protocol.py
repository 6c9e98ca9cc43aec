"""The control plane's wire protocol: AWS JSON 1.1, from HTTP request to operation and back."""

from __future__ import annotations

import json
import logging
import uuid
from collections.abc import Callable, Mapping
from datetime import datetime
from functools import cache
from typing import Any

from botocore.model import ListShape, MapShape, ServiceModel, Shape, StructureShape
from botocore.session import get_session
from werkzeug.wrappers import Request, Response

from local.aws.sagemaker.errors import AwsError
from local.aws.sagemaker.validation import validate

log = logging.getLogger(__name__)

Operation = Callable[[dict[str, Any]], dict[str, Any] | None]


@cache
def service_model(name: str = "sagemaker") -> ServiceModel:
    """Return botocore's own description of a service."""
    return get_session().get_service_model(name)


def credential_scope(request: Request) -> tuple[str, str] | None:
    """Return (region, service) of a SigV4 signed request, None of an unsigned one. Signatures are not checked."""
    _, found, rest = request.headers.get("Authorization", "").partition("Credential=")
    scope = rest.split(",")[0].strip().split("/")
    return (scope[-3], scope[-2]) if found and len(scope) >= 5 else None


def check_scope(request: Request, region: str) -> None:
    """Refuse an unsigned request, and one signed for another region, as the regional endpoint does."""
    scope = credential_scope(request)
    if scope is None:
        raise AwsError("MissingAuthenticationTokenException", "Missing Authentication Token", 403)
    if scope[0] != region:
        message = f"Credential should be scoped to a valid region. This local SageMaker serves '{region}' only."
        raise AwsError("InvalidSignatureException", message, 403)


class ControlPlane:
    """Answers `X-Amz-Target: <prefix>.<Operation>` requests of one service with the given operations."""

    def __init__(self, operations: Mapping[str, Operation], region: str, service: str = "sagemaker") -> None:
        self._operations = operations
        self._region = region
        self._service = service

    def answer(self, request: Request) -> Response:
        """Return the answer to one request, an error answer included."""
        try:
            return self._answer(request)
        except AwsError as error:
            body = {"__type": error.code, "message": error.message, **error.members}
            return _json(body, error.status)
        except Exception as error:
            log.exception("request %s failed", request.headers.get("X-Amz-Target"))
            return _json({"__type": "InternalFailure", "message": f"{type(error).__name__}: {error}"}, 500)

    def _answer(self, request: Request) -> Response:
        name = request.headers["X-Amz-Target"].partition(".")[2]
        check_scope(request, self._region)
        if name not in self._operations:
            served = ", ".join(sorted(self._operations))
            title = {"sagemaker": "SageMaker"}.get(self._service, self._service)
            names = service_model(self._service).operation_names
            known = f"is not served by the local {title}" if name in names else "is unknown"
            raise AwsError("UnknownOperationException", f"{title} operation {name} {known}; served are: {served}.")
        try:
            params = json.loads(request.get_data() or b"{}")
        except ValueError:
            raise AwsError("SerializationException", "Unexpected character or end of input in the JSON body.") from None
        model = service_model(self._service).operation_model(name)
        result = self._operations[name](validate(params, model.input_shape))
        return _json(shape_output(result or {}, model.output_shape) if model.output_shape else None)


def shape_output(value: Any, shape: Shape) -> Any:
    """Return the JSON form of an operation's result; a member that the service model lacks is a bug here."""
    if isinstance(shape, StructureShape):
        if unknown := set(value) - set(shape.members):
            raise TypeError(f"{shape.name} has no member {', '.join(sorted(unknown))}")
        return {name: shape_output(item, shape.members[name]) for name, item in value.items() if item is not None}
    if isinstance(shape, ListShape):
        return [shape_output(item, shape.member) for item in value]
    if isinstance(shape, MapShape):
        return {key: shape_output(item, shape.value) for key, item in value.items()}
    return round(value.timestamp(), 3) if isinstance(value, datetime) else value


def _json(body: dict[str, Any] | None, status: int = 200) -> Response:
    response = Response(b"" if body is None else json.dumps(body), status, content_type="application/x-amz-json-1.1")
    response.headers["x-amzn-RequestId"] = str(uuid.uuid4())
    return response
