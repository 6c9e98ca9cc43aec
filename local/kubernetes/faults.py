"""Fault injection through `/local/faults`: what goes wrong, for which pods or requests, and how often."""

from __future__ import annotations

import itertools
import re
import time
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from local.kubernetes.errors import JSON, ApiError
from local.kubernetes.selectors import LabelMatch, parse_labels

Kind = Literal["evict", "oom", "preempt", "image-pull", "unschedulable", "node-lost", "api-error"]


class FaultRequest(BaseModel):
    """The body of `POST /local/faults`."""

    model_config = ConfigDict(extra="forbid")

    kind: Kind
    selector: str = ""
    namespace: str | None = None
    delay_seconds: float = Field(default=0.0, ge=0)
    """Between the pod's start (or this request, for a running pod) and evict, oom, preempt and node-lost."""
    duration_seconds: float | None = Field(default=None, gt=0)
    """How long image-pull and unschedulable last, and how long after node-lost the node leaves the cluster."""
    times: int | None = Field(default=1, ge=1)
    """Pods (or requests, for api-error) that are hit; null for all of them until the fault is deleted."""
    message: str | None = None
    verb: str | None = None
    """api-error: get, list, watch, create, update, patch, delete or deletecollection; all when left out."""
    path: str = ""
    """api-error: a regular expression searched for in the path of the request."""
    status: int = 500
    """api-error: the answer's status; 0 closes the connection without an answer."""

    @field_validator("path")
    @classmethod
    def _is_regular_expression(cls, value: str) -> str:
        try:
            re.compile(value)
        except re.error as error:
            raise ValueError(f"not a regular expression: {error}") from error
        return value

    @field_validator("status")
    @classmethod
    def _is_error(cls, value: int) -> int:
        if value != 0 and not 400 <= value <= 599:
            raise ValueError("must be 0 or 400-599")
        return value


# A drained or terminated instance leaves the cluster some time after it went silent, and its pods with it.
_NODE_LOST_SECONDS = 5.0


class Fault:
    """A fault that is waiting for its next victim, or over."""

    def __init__(self, number: int, request: FaultRequest) -> None:
        self.id = str(number)
        self.request = request
        self.left = request.times
        self.deleted = False
        self.applied: list[str] = []
        self._seen: set[str] = set()
        self._matches: LabelMatch = parse_labels(request.selector)
        self.duration = request.duration_seconds
        if request.kind == "node-lost" and "duration_seconds" not in request.model_fields_set:
            self.duration = _NODE_LOST_SECONDS

    def _take(self, who: str) -> None:
        self.applied.append(who)
        if self.left is not None:
            self.left -= 1

    def take_pod(self, pod: JSON) -> bool:
        """Count a pod as a victim if it is one; no pod is hit twice by one fault."""
        metadata = pod["metadata"]
        if self.deleted or self.left == 0 or metadata["uid"] in self._seen:
            return False
        if self.request.namespace not in (None, metadata["namespace"]) or not self._matches(metadata.get("labels", {})):
            return False
        self._seen.add(metadata["uid"])
        self._take(f"{metadata['namespace']}/{metadata['name']}")
        return True

    def take_request(self, verb: str, path: str) -> bool:
        """Count a request as a victim if it is one."""
        request = self.request
        if request.kind != "api-error" or self.deleted or self.left == 0:
            return False
        if request.verb not in (None, verb) or not re.search(request.path, path):
            return False
        self._take(f"{verb} {path}")
        return True

    def lasts(self, since: float) -> bool:
        """Tell whether a lasting fault that began at a time.monotonic() is still on."""
        return not self.deleted and (self.duration is None or time.monotonic() - since < self.duration)

    def describe(self) -> JSON:
        """Return what `GET /local/faults` shows."""
        return {"id": self.id, **self.request.model_dump(), "left": self.left, "applied": self.applied}


class Faults:
    """All faults, in the order they were asked for."""

    def __init__(self) -> None:
        self._faults: dict[str, Fault] = {}
        self._numbers = itertools.count(1)

    def add(self, body: Any) -> Fault:
        """Add a fault; 400 names what is wrong with the body."""
        try:
            request = FaultRequest.model_validate(body)
        except ValidationError as error:
            first = error.errors()[0]
            where = ".".join(str(part) for part in first["loc"]) or "body"
            raise ApiError(400, f"/local/faults: {where}: {first['msg']}") from error
        fault = Fault(next(self._numbers), request)
        self._faults[fault.id] = fault
        return fault

    def take(self, kind: Kind, pod: JSON) -> Fault | None:
        """Return the first fault of a kind that hits this pod now."""
        return next((f for f in self._faults.values() if f.request.kind == kind and f.take_pod(pod)), None)

    def take_request(self, verb: str, path: str) -> Fault | None:
        """Return the first fault that hits this request."""
        return next((f for f in self._faults.values() if f.take_request(verb, path)), None)

    def list(self) -> list[JSON]:
        """Describe all faults."""
        return [fault.describe() for fault in self._faults.values()]

    def clear(self, number: str | None = None) -> bool:
        """Delete one fault or all; lasting ones end with it. False when there is no such fault."""
        if number is not None and number not in self._faults:
            return False
        for key in [number] if number is not None else list(self._faults):
            self._faults.pop(key).deleted = True
        return True
