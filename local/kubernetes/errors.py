"""Errors of the API, as the Status objects real clients expect."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from local.kubernetes.kinds import group_of

JSON = dict[str, Any]

REASONS = {
    400: "BadRequest",
    401: "Unauthorized",
    403: "Forbidden",
    404: "NotFound",
    405: "MethodNotAllowed",
    406: "NotAcceptable",
    409: "Conflict",
    410: "Expired",
    415: "UnsupportedMediaType",
    422: "Invalid",
    429: "TooManyRequests",
    500: "InternalError",
    503: "ServiceUnavailable",
    504: "Timeout",
}


def status(code: int, message: str, reason: str | None = None, details: JSON | None = None) -> JSON:
    """Return a metav1.Status of a failed request."""
    body: JSON = {
        "kind": "Status",
        "apiVersion": "v1",
        "metadata": {},
        "status": "Failure",
        "message": message,
        "reason": reason or REASONS.get(code, ""),
        "code": code,
    }
    if details:
        body["details"] = details
    return body


def success(details: JSON) -> JSON:
    """Return a metav1.Status of a successful request."""
    return {"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "details": details}


class ApiError(Exception):
    """A request that ends with a Status object instead of its result."""

    def __init__(self, code: int, message: str, reason: str | None = None, details: JSON | None = None) -> None:
        super().__init__(message)
        self.code = code
        self.body = status(code, message, reason, details)


def _about(plural: str, name: str) -> tuple[str, JSON]:
    """Return a resource as messages name it (`jobs.batch`), and the details of an answer about one of its objects."""
    group = group_of(plural)
    details = {"name": name, "group": group, "kind": plural}
    return f"{plural}.{group}" if group else plural, {key: text for key, text in details.items() if text}


def not_found(plural: str, name: str) -> ApiError:
    """404 as the registry words it."""
    resource, details = _about(plural, name)
    return ApiError(404, f'{resource} "{name}" not found', details=details)


def already_exists(plural: str, name: str) -> ApiError:
    """409 for a name that is taken."""
    resource, details = _about(plural, name)
    return ApiError(409, f'{resource} "{name}" already exists', "AlreadyExists", details)


def forbidden(plural: str, name: str, why: str) -> ApiError:
    """403 of an admission plugin."""
    resource, details = _about(plural, name)
    return ApiError(403, f'{resource} "{name}" is forbidden: {why}', details=details)


@dataclass(frozen=True)
class Cause:
    """One field that is wrong: reason is a metav1.CauseType, message as the API server prints it."""

    field: str
    reason: str
    message: str


class Causes(list[Cause]):
    """The fields found wrong in one object."""

    def required(self, field: str, detail: str = "") -> None:
        """Record a missing field."""
        self.append(Cause(field, "FieldValueRequired", "Required value" + (f": {detail}" if detail else "")))

    def invalid(self, field: str, value: object, detail: str) -> None:
        """Record a value that is not allowed there."""
        self.append(Cause(field, "FieldValueInvalid", f"Invalid value: {_go(value)}: {detail}"))

    def unsupported(self, field: str, value: object, allowed: list[str]) -> None:
        """Record a value outside an enumeration."""
        names = ", ".join(f'"{name}"' for name in allowed)
        self.append(
            Cause(field, "FieldValueNotSupported", f"Unsupported value: {_go(value)}: supported values: {names}")
        )

    def duplicate(self, field: str, value: object) -> None:
        """Record a value that must be unique."""
        self.append(Cause(field, "FieldValueDuplicate", f"Duplicate value: {_go(value)}"))

    def not_found(self, field: str, value: object) -> None:
        """Record a reference to something the object does not have."""
        self.append(Cause(field, "FieldValueNotFound", f"Not found: {_go(value)}"))

    def forbidden(self, field: str, detail: str) -> None:
        """Record a field that must not be set or changed."""
        self.append(Cause(field, "FieldValueForbidden", f"Forbidden: {detail}"))

    def append_too_long(self, field: str, limit: int) -> None:
        """Record a value longer than a limit in bytes."""
        self.append(Cause(field, "FieldValueTooLong", f"Too long: may not be more than {limit} bytes"))

    def raise_if_any(self, kind: str, name: str) -> None:
        """Raise 422 Invalid naming every cause."""
        if not self:
            return
        texts = [f"{cause.field}: {cause.message}" for cause in self]
        text = texts[0] if len(texts) == 1 else f"[{', '.join(texts)}]"
        causes = [{"reason": c.reason, "message": c.message, "field": c.field} for c in self]
        raise ApiError(
            422, f'{kind} "{name}" is invalid: {text}', details={"name": name, "kind": kind, "causes": causes}
        )


def _go(value: object) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        return f'"{value}"'
    if isinstance(value, list | dict) or value is None:
        return json.dumps(value, separators=(",", ":"))
    return str(value)
