"""Which AWS operation a request is: read from the signature and the wire protocol, as AWS itself does.

Five protocols are in use. Two name the operation outright: JSON in the X-Amz-Target header, query (and EC2's dialect of
it) in the Action parameter. CBOR has it in the path. For the two REST protocols, method, path and parameters are
compared with botocore's own description of the service.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from urllib.parse import parse_qsl

from botocore.exceptions import UnknownServiceError
from botocore.model import ServiceModel
from botocore.session import get_session

# Names that services sign with, where the service's own name in botocore is another.
_MODELS_BY_SIGNATURE = {
    "airflow": ("mwaa",),
    "elasticloadbalancing": ("elbv2", "elb"),
    "events": ("events",),
    "monitoring": ("cloudwatch",),
    "s3": ("s3", "s3control"),
    "sagemaker": ("sagemaker", "sagemaker-runtime"),
    "servicequotas": ("service-quotas",),
    "tagging": ("resourcegroupstaggingapi",),
}
_FORM = "application/x-www-form-urlencoded"
_CBOR_PATH = re.compile(r"^/service/[^/]+/operation/(?P<action>\w+)$")


@dataclass(frozen=True)
class Request:
    """An HTTP request to AWS; buckets are in the path, whatever the host was."""

    method: str
    path: str  # as it was sent, percent signs included
    query: str
    headers: Mapping[str, str]  # case-insensitive
    body: bytes

    @property
    def parameters(self) -> dict[str, str]:
        """The query string's parameters."""
        return dict(parse_qsl(self.query, keep_blank_values=True))

    @property
    def form(self) -> dict[str, str]:
        """The body's parameters, of the query protocol."""
        if not self.headers.get("Content-Type", "").startswith(_FORM):
            return {}
        return dict(parse_qsl(self.body.decode("utf-8", "replace"), keep_blank_values=True))


@dataclass(frozen=True)
class Call:
    """An operation of a service; an empty string stands for what cannot be told."""

    service: str  # the name in the signature: "airflow" for MWAA, "monitoring" for CloudWatch
    action: str
    protocol: str  # json, query, ec2, cbor, rest-json or rest-xml
    region: str = ""
    parameters: Mapping[str, str] = field(default_factory=dict, compare=False)


def identify(request: Request) -> Call:
    """Tell which operation a request is."""
    region, service = _scope(request)
    parameters = request.parameters
    form = request.form
    if target := request.headers.get("X-Amz-Target"):
        return Call(service, target.rpartition(".")[2], "json", region)
    if match := _CBOR_PATH.match(request.path):
        return Call(service, match["action"], "cbor", region)
    if action := form.get("Action") or parameters.get("Action"):
        return Call(service, action, "ec2" if service == "ec2" else "query", region, form or parameters)
    for model in models(service):
        if model.metadata["protocol"].startswith("rest-"):
            for route in _routes(model.service_name):
                if route.matches(request, parameters):
                    return Call(service, route.action, model.metadata["protocol"], region)
    known = [model.metadata["protocol"] for model in models(service)]
    return Call(service, "", known[0] if known else "rest-xml", region)


def signing_name(service: str) -> str:
    """Return the name that a service signs with, of that name or of botocore's."""
    if service in _MODELS_BY_SIGNATURE:
        return service
    for name, members in _MODELS_BY_SIGNATURE.items():
        if service in members:
            return name
    return service


@cache
def models(service: str) -> tuple[ServiceModel, ...]:
    """Return botocore's models of the services that sign with this name; none of an unknown one."""
    found = []
    for name in _MODELS_BY_SIGNATURE.get(service, (service,)):
        try:
            found.append(get_session().get_service_model(name))
        except (UnknownServiceError, ValueError):
            continue
    return tuple(found)


def _scope(request: Request) -> tuple[str, str]:
    """Return region and service of the signature, in the header or (presigned) in the query string."""
    _, found, rest = request.headers.get("Authorization", "").partition("Credential=")
    credential = rest.split(",")[0].strip() if found else request.parameters.get("X-Amz-Credential", "")
    scope = credential.split("/")
    return (scope[-3], scope[-2]) if len(scope) >= 5 else ("", "")


@dataclass(frozen=True)
class _Route:
    action: str
    method: str
    path: re.Pattern[str]
    literals: tuple[tuple[str, str], ...]
    parameters: tuple[str, ...]
    headers: tuple[str, ...]

    def matches(self, request: Request, parameters: Mapping[str, str]) -> bool:
        # Go's client adds the operation's name; it tells apart what is the same otherwise.
        if parameters.get("x-id", self.action) != self.action:
            return False
        path = request.path if request.path == "/" else request.path.rstrip("/")
        return (
            request.method == self.method
            and self.path.match(path) is not None
            and all(parameters.get(key) == value for key, value in self.literals)
            and all(key in parameters for key in self.parameters)
            and all(key in request.headers for key in self.headers)
        )


@cache
def _routes(service: str) -> tuple[_Route, ...]:
    """Return the operations of a REST service, those with most conditions first."""
    model = get_session().get_service_model(service)
    routes = []
    for name in model.operation_names:
        operation = model.operation_model(name)
        if operation.deprecated:
            continue
        path, _, query = operation.http["requestUri"].partition("?")
        shape = operation.input_shape
        required = [shape.members[member] for member in shape.required_members] if shape else []
        names = {
            place: tuple(
                member.serialization["name"] for member in required if member.serialization.get("location") == place
            )
            for place in ("querystring", "header")
        }
        literals = tuple(parse_qsl(query, keep_blank_values=True))
        routes.append(
            _Route(name, operation.http["method"], _pattern(path), literals, names["querystring"], names["header"])
        )

    def conditions(route: _Route) -> tuple[int, int]:
        fixed = len(re.sub(r"\[\^/\]\+|\.\+", "", route.path.pattern))
        return -len(route.literals) - len(route.parameters) - len(route.headers), -fixed

    return tuple(sorted(routes, key=conditions))


def _pattern(template: str) -> re.Pattern[str]:
    parts = re.split(r"(\{\w+\+?\})", template if template == "/" else template.rstrip("/"))
    return re.compile(
        "".join(
            (".+" if part.endswith("+}") else "[^/]+") if part.startswith("{") else re.escape(part) for part in parts
        )
        + r"\Z"
    )
