"""The runtime API: `POST /endpoints/{name}/invocations`."""

from __future__ import annotations

import http.client
import json
import logging
import re
import time
import uuid
from typing import Any

from werkzeug.wrappers import Request, Response

from local.aws.sagemaker.capture import Capture, Captured, Message
from local.aws.sagemaker.endpoint import Route
from local.aws.sagemaker.endpoints import Endpoints
from local.aws.sagemaker.errors import AwsError
from local.aws.sagemaker.faults import Faults
from local.aws.sagemaker.fleet import Variant
from local.aws.sagemaker.metrics import Metrics
from local.aws.sagemaker.protocol import check_scope
from local.aws.sagemaker.store import Names

log = logging.getLogger(__name__)

PATH = re.compile(r"^/endpoints/([^/]+)/invocations$")
_MAX_BODY_BYTES = 6 * 1024 * 1024
_MODEL_SECONDS = 60.0
_ATTRIBUTES = "X-Amzn-SageMaker-Custom-Attributes"
_INFERENCE_ID = "X-Amzn-SageMaker-Inference-Id"
_FORWARDED = ("Content-Type", "Accept", _ATTRIBUTES, _INFERENCE_ID)
_INJECTED = b"injected by the fault endpoint: "


class Runtime:
    """Hands requests to the serving process of a variant and translates what comes back."""

    def __init__(self, endpoints: Endpoints, faults: Faults, names: Names, metrics: Metrics, capture: Capture) -> None:
        self._endpoints = endpoints
        self._faults = faults
        self._names = names
        self._metrics = metrics
        self._capture = capture

    def answer(self, request: Request, endpoint: str) -> Response:
        """Return the model's answer, or an error as the real runtime words it."""
        try:
            check_scope(request, self._names.region)
            return self._invoke(request, endpoint)
        except AwsError as error:
            return _error(error)
        except Exception as error:
            log.exception("invocation of %s", endpoint)
            return _error(AwsError("InternalFailure", f"{type(error).__name__}: {error}", 500))

    def _invoke(self, request: Request, endpoint: str) -> Response:
        began = time.perf_counter()
        body = request.get_data()
        with self._endpoints.route(endpoint, request.headers.get("X-Amzn-SageMaker-Target-Variant")) as route:
            if len(body) > _MAX_BODY_BYTES:
                raise AwsError("413", f"HTTP content length exceeded {_MAX_BODY_BYTES} bytes.", 413)
            called = time.perf_counter()
            status, headers, answer = 503, http.client.HTTPMessage(), b""
            try:
                status, headers, answer = self._answer_of(route, request, body)
            finally:
                took = time.perf_counter() - called
                self._metrics.record(endpoint, route.variant.name, status, took, called - began)
        if not 200 <= status < 300:
            raise self._model_error(endpoint, status, answer)
        content_type = headers.get("Content-Type")
        response = Response(answer, content_type=content_type)
        response.headers["x-Amzn-Invoked-Production-Variant"] = route.variant.name
        response.headers["x-amzn-RequestId"] = str(uuid.uuid4())
        if attributes := headers.get(_ATTRIBUTES):
            response.headers[_ATTRIBUTES] = attributes
        if route.capture:
            sent = Message(body, request.headers.get("Content-Type", ""))
            received = Message(answer, content_type or "")
            captured = Captured(
                *(endpoint, route.variant.name, route.capture, sent, received),
                inference_id=request.headers.get(_INFERENCE_ID),
                attributes=request.headers.get(_ATTRIBUTES),
            )
            self._capture.offer(captured)
        return response

    def _answer_of(self, route: Route, request: Request, body: bytes) -> tuple[int, http.client.HTTPMessage, bytes]:
        if route.is_canary and self._faults.strikes("canary-5xx", route.endpoint):
            return 500, http.client.HTTPMessage(), _INJECTED + b"canary-5xx"
        if self._faults.strikes("invoke-5xx", route.endpoint):
            return 500, http.client.HTTPMessage(), _INJECTED + b"invoke-5xx"
        return self._call(route.endpoint, route.variant, request, body)

    def _call(
        self, endpoint: str, variant: Variant, request: Request, body: bytes
    ) -> tuple[int, http.client.HTTPMessage, bytes]:
        port = variant.process.port
        if port is None:
            raise _unavailable(endpoint, variant)
        headers = {name: request.headers[name] for name in _FORWARDED if name in request.headers}
        # A connection for each request: a kept one may be closed by the server just as we write to it.
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=_MODEL_SECONDS)
        try:
            connection.request("POST", "/invocations", body, headers)
            answer = connection.getresponse()
            return answer.status, answer.headers, answer.read()
        except TimeoutError:
            message = b"Your invocation timed out while waiting for a response from container primary."
            raise self._model_error(endpoint, 0, message) from None
        except (OSError, http.client.HTTPException):
            raise _unavailable(endpoint, variant) from None
        finally:
            connection.close()

    def _model_error(self, endpoint: str, status: int, answer: bytes) -> AwsError:
        text = answer.decode("utf-8", "replace")
        region, account = self._names.region, self._names.account
        group = f"/aws/sagemaker/Endpoints/{endpoint}"
        kind = "client" if 400 <= status < 500 else "server"
        message = (
            f'Received {kind} error ({status}) from primary with message "{text}". See https://{region}.console.aws.'
            f"amazon.com/cloudwatch/home?region={region}#logEventViewer:group={group} in account {account} "
            "for more information."
        )
        code = "CLIENT_ERROR_FROM_MODEL" if kind == "client" else "INTERNAL_FAILURE_FROM_MODEL"
        members = {
            "ErrorCode": code,
            "OriginalStatusCode": status,
            "OriginalMessage": text,
            "LogStreamArn": f"arn:aws:logs:{region}:{account}:log-group:{group}",
        }
        return AwsError("ModelError", message, 424, **members)


def _unavailable(endpoint: str, variant: Variant) -> AwsError:
    message = f"The container of variant {variant.name} of endpoint {endpoint} does not answer; it is being replaced."
    return AwsError("ServiceUnavailable", message, 503)


def _error(error: AwsError) -> Response:
    body: dict[str, Any] = {"Message": error.message, **error.members}
    response = Response(json.dumps(body), error.status, content_type="application/json")
    if not error.code.isdigit():
        response.headers["x-amzn-ErrorType"] = error.code
    response.headers["x-amzn-RequestId"] = str(uuid.uuid4())
    return response
