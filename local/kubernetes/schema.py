"""The fields of the objects: finds wrong types (400) and unknown fields (warning, or 400 when strict).

`schema.json` maps type -> field -> type, and is made from the official Python client by
`python -m local.kubernetes.schema > local/kubernetes/schema.json` (needs the `kubernetes` package).
"""

from __future__ import annotations

import json
import re
from functools import cache
from pathlib import Path
from typing import Any

from local.kubernetes import quantities
from local.kubernetes.errors import JSON, ApiError

_ROOTS = {
    "Pod": "V1Pod",
    "Job": "V1Job",
    "ConfigMap": "V1ConfigMap",
    "Secret": "V1Secret",
    "Namespace": "V1Namespace",
    "ServiceAccount": "V1ServiceAccount",
    "ResourceQuota": "V1ResourceQuota",
    "LimitRange": "V1LimitRange",
    "PriorityClass": "V1PriorityClass",
    "Role": "V1Role",
    "RoleBinding": "V1RoleBinding",
    "ClusterRole": "V1ClusterRole",
    "ClusterRoleBinding": "V1ClusterRoleBinding",
    "Event": "CoreV1Event",
    "DeleteOptions": "V1DeleteOptions",
    "Eviction": "V1Eviction",
}
# The Python client knows quantities as plain strings; JSON allows numbers for them too.
_QUANTITIES = {
    "ResourceRequirements": ("limits", "requests"),
    "VolumeResourceRequirements": ("limits", "requests"),
    "EmptyDirVolumeSource": ("sizeLimit",),
    "ResourceFieldSelector": ("divisor",),
    "PodSpec": ("overhead",),
    "ResourceQuotaSpec": ("hard",),
    "LimitRangeItem": ("default", "defaultRequest", "max", "maxLimitRequestRatio", "min"),
}


@cache
def types() -> dict[str, dict[str, str]]:
    """Return type -> JSON field -> type; types are `str`, `[]str`, `{}str`, or another type's name."""
    loaded: dict[str, dict[str, str]] = json.loads((Path(__file__).parent / "schema.json").read_text())
    return loaded


def check(kind: str, obj: Any, *, version: str = "v1") -> tuple[JSON, list[str]]:
    """Return the object without nulls and unknown fields, and a warning for each of those; 400 for a wrong type."""
    unknown: list[str] = []
    try:
        cleaned = _check(kind, obj, [], kind, unknown)
    except ValueError as error:
        raise ApiError(400, f'{kind} in version "{version}" cannot be handled as a {kind}: {error}') from error
    return cleaned, unknown


def _names(path: list[str | int]) -> str:
    return ".".join(part for part in path if isinstance(part, str))


def _path(path: list[str | int]) -> str:
    text = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in path)
    return text.lstrip(".")


def _json_type(value: Any) -> str:
    if isinstance(value, bool):
        return "bool"
    if isinstance(value, int | float):
        return "number"
    if isinstance(value, str):
        return "string"
    return "array" if isinstance(value, list) else "object"


_GO = {"str": "string", "int": "int64", "bool": "bool", "datetime": "string"}


def _check(kind: str, value: Any, path: list[str | int], owner: str, unknown: list[str]) -> Any:
    def mismatch(go_type: str) -> ValueError:
        where = f"{owner}.{_names(path)}" if path else ""
        return ValueError(
            f"json: cannot unmarshal {_json_type(value)} into Go struct field {where} of type {go_type}"
            if path
            else f"json: cannot unmarshal {_json_type(value)} into Go value of type v1.{kind}"
        )

    if kind.startswith("[]"):
        if not isinstance(value, list):
            raise mismatch("[]" + _GO.get(kind[2:], f"v1.{kind[2:]}"))
        return [_check(kind[2:], item, [*path, i], owner, unknown) for i, item in enumerate(value)]
    if kind.startswith("{}"):
        if not isinstance(value, dict):
            raise mismatch("map[string]" + _GO.get(kind[2:], f"v1.{kind[2:]}"))
        items = value.items()
        return {key: _check(kind[2:], item, [*path, key], owner, unknown) for key, item in items if item is not None}
    if kind == "quantity":
        if isinstance(value, bool) or not isinstance(value, str | int | float):
            raise ValueError(quantities.FORMAT)
        quantities.parse(value)
        return str(value)
    if kind == "any":
        return value
    if kind in _GO:
        wanted: Any = {"str": str, "int": int, "bool": bool, "datetime": str}[kind]
        if not isinstance(value, wanted) or (kind == "int" and isinstance(value, bool)):
            raise mismatch(_GO[kind])
        return value
    if not isinstance(value, dict):
        raise mismatch(f"v1.{kind}")
    fields = types()[kind]
    cleaned: JSON = {}
    for key, item in value.items():
        if key not in fields:
            unknown.append(f'unknown field "{_path([*path, key])}"')
        elif item is not None:
            cleaned[key] = _check(fields[key], item, [*path, key], kind, unknown)
    return cleaned


def _generate() -> dict[str, dict[str, str]]:
    from kubernetes.client import models

    generated: dict[str, dict[str, str]] = {}

    def name_of(python_type: str) -> str:
        return re.sub(r"^(?:Core|Events)?V1", "", python_type)

    def convert(python_type: str) -> str:
        if match := re.fullmatch(r"list\[(.*)\]", python_type):
            return "[]" + convert(match[1])
        if match := re.fullmatch(r"dict[\[(]str, (.*)[\])]", python_type):
            return "{}" + convert(match[1])
        if python_type in ("str", "int", "bool", "datetime"):
            return python_type
        if python_type == "object":
            return "any"
        visit(python_type)
        return name_of(python_type)

    def visit(python_type: str, name: str | None = None) -> None:
        name = name or name_of(python_type)
        if name in generated:
            return
        generated[name] = {}
        model = getattr(models, python_type)
        for attribute, field_type in model.openapi_types.items():
            generated[name][model.attribute_map[attribute]] = convert(field_type)
        for field in _QUANTITIES.get(name, ()):
            generated[name][field] = generated[name][field].replace("str", "quantity")

    for kind, python_type in _ROOTS.items():
        visit(python_type, kind)
    return {name: generated[name] for name in sorted(generated)}


if __name__ == "__main__":
    lines = [f"{json.dumps(name)}: {json.dumps(fields)}" for name, fields in _generate().items()]
    print("{\n" + ",\n".join(lines) + "\n}")
