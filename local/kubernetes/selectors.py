"""Label selectors and field selectors."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping

from local.kubernetes.errors import JSON, ApiError

Labels = Mapping[str, str]
LabelMatch = Callable[[Labels], bool]

_NAME = r"(?:[A-Za-z0-9](?:[A-Za-z0-9._-]*[A-Za-z0-9])?)"
_KEY = rf"(?:[a-z0-9](?:[a-z0-9.-]*[a-z0-9])?/)?{_NAME}"
_EQUALITY = re.compile(rf"^\s*({_KEY})\s*(==|=|!=)\s*({_NAME}?)\s*$")
_SET = re.compile(rf"^\s*({_KEY})\s+(in|notin)\s*\(([^()]*)\)\s*$")
_EXISTS = re.compile(rf"^\s*(!?)\s*({_KEY})\s*$")
_VALUE = re.compile(rf"^{_NAME}?$")


def _split(text: str) -> list[str]:
    """Split at the commas outside parentheses."""
    return re.split(r",(?![^()]*\))", text)


def _requirement(text: str) -> LabelMatch:
    if match := _EQUALITY.match(text):
        key, operator, value = match.groups()
        if operator == "!=":
            return lambda labels: labels.get(key) != value
        return lambda labels: labels.get(key) == value
    if match := _SET.match(text):
        key, operator, listed = match.groups()
        values = {value.strip() for value in listed.split(",")}
        if all(_VALUE.match(value) for value in values):
            if operator == "in":
                return lambda labels: key in labels and labels[key] in values
            return lambda labels: labels.get(key) not in values
    if match := _EXISTS.match(text):
        absent, key = match.groups()
        return lambda labels: (key in labels) != bool(absent)
    raise ApiError(
        400, f"unable to parse requirement: found '{text.strip()}', expected: a requirement such as key=value"
    )


def parse_labels(text: str) -> LabelMatch:
    """Return the predicate of a label selector; 400 when it is malformed."""
    requirements = [_requirement(part) for part in _split(text)] if text.strip() else []
    return lambda labels: all(matches(labels) for matches in requirements)


_COMMON = ("metadata.name", "metadata.namespace")
FIELDS: dict[str, tuple[str, ...]] = {
    "pods": (
        "spec.nodeName",
        "spec.restartPolicy",
        "spec.schedulerName",
        "spec.serviceAccountName",
        "spec.hostNetwork",
        "status.phase",
        "status.podIP",
        "status.nominatedNodeName",
    ),
    "events": (
        "involvedObject.kind",
        "involvedObject.namespace",
        "involvedObject.name",
        "involvedObject.uid",
        "involvedObject.apiVersion",
        "involvedObject.resourceVersion",
        "involvedObject.fieldPath",
        "reason",
        "reportingComponent",
        "source",
        "type",
    ),
    "secrets": ("type",),
    "nodes": ("spec.unschedulable",),
    "namespaces": ("status.phase",),
}


def _value(resource: str, field: str, obj: JSON) -> str:
    if resource == "events" and field == "source":
        return str(obj.get("source", {}).get("component") or obj.get("reportingComponent", ""))
    value: object = obj
    for part in field.split("."):
        value = value.get(part) if isinstance(value, dict) else None
    if isinstance(value, bool) or (value is None and field in ("spec.unschedulable", "spec.hostNetwork")):
        return "true" if value else "false"
    return "" if value is None else str(value)


def parse_fields(resource: str, text: str) -> Callable[[JSON], bool]:
    """Return the predicate of a field selector; 400 for a field this resource cannot be selected by."""
    requirements: list[tuple[str, bool, str]] = []
    for part in text.split(",") if text.strip() else []:
        match = re.match(r"^\s*([^!=\s]+)\s*(==|=|!=)\s*(.*?)\s*$", part)
        if match is None:
            raise ApiError(400, f"invalid selector: '{part}'; can't understand '{part}'")
        field, operator, value = match.groups()
        if field not in _COMMON + FIELDS.get(resource, ()):
            raise ApiError(
                400,
                f'Unable to find "/v1, Resource={resource}" that match label selector "", '
                f'field selector "{text}": field label not supported: {field}',
            )
        requirements.append((field, operator != "!=", value))
    return lambda obj: all((_value(resource, field, obj) == value) is equal for field, equal, value in requirements)
