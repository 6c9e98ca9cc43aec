"""Validation of requests against the service model that botocore ships.

boto3 checks types and required members before it sends, but leaves patterns, lengths, ranges and enumerations
to the service. The messages have the real service's wording ("1 validation error detected: Value …").
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import cache
from typing import Any

from botocore.model import ListShape, MapShape, Shape, StringShape, StructureShape

from local.aws.sagemaker.errors import AwsError, ValidationException

# Java's regular expressions, as far as the models of this service use them, in Python's syntax.
_JAVA_TO_PYTHON = (
    (r"[\p{L}\p{M}\p{Z}\p{S}\p{N}\p{P}]", r"[^\x00-\x08\x0e-\x1f]"),
    (r"\p{ASCII}", r"[\x00-\x7f]"),
    (r"[\p{Print}]", r"[\x20-\x7e]"),
    (r"\p{Print}", r"[\x20-\x7e]"),
    (r"\uD800\uDC00-\uDBFF\uDFFF", "\U00010000-\U0010ffff"),  # a range beyond 16 bits, in UTF-16
    (r"\p{L}", r"\w"),
    (r"\p{Z}", r"\s"),
    (r"\p{N}", r"\d"),
    (r"\z", r"\Z"),
)


@cache
def compile_pattern(pattern: str) -> re.Pattern[str]:
    """Return the Python form of a service model's pattern; it applies to the whole string."""
    for java, python in _JAVA_TO_PYTHON:
        pattern = pattern.replace(java, python)
    return re.compile(pattern)


def validate(params: object, shape: StructureShape) -> dict[str, Any]:
    """Return the parameters, or raise SerializationException or ValidationException as the service does."""
    if not isinstance(params, dict):
        raise AwsError("SerializationException", "Start of structure or map found where not expected.")
    given: dict[str, Any] = _without_nulls(params)
    _check_types(given, shape)
    problems = list(_constraints(given, shape, ""))
    if problems:
        plural = "s" if len(problems) > 1 else ""
        raise ValidationException(f"{len(problems)} validation error{plural} detected: {'; '.join(problems)}")
    return given


def _without_nulls(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_nulls(item) for key, item in value.items() if item is not None}
    return [_without_nulls(item) for item in value] if isinstance(value, list) else value


_JSON_TYPES: dict[str, tuple[type, ...]] = {
    "string": (str,),
    "integer": (int,),
    "long": (int,),
    "float": (int, float),
    "double": (int, float),
    "boolean": (bool,),
    "timestamp": (int, float),
    "structure": (dict,),
    "map": (dict,),
    "list": (list,),
}
_JAVA_NAMES = {"integer": "Integer", "long": "Long", "float": "Float", "double": "Double", "string": "String"}


def _check_types(value: Any, shape: Shape) -> None:
    expected = _JSON_TYPES[shape.type_name]
    fits = isinstance(value, expected) and isinstance(value, bool) == (shape.type_name == "boolean")
    if not fits:
        found = {str: "STRING_VALUE", bool: "TRUE_VALUE" if value else "FALSE_VALUE"}.get(type(value), "NUMBER_VALUE")
        if isinstance(value, dict | list) or shape.type_name in ("structure", "map", "list"):
            raise AwsError("SerializationException", "Start of structure or map found where not expected.")
        wanted = _JAVA_NAMES.get(shape.type_name, shape.type_name.capitalize())
        raise AwsError("SerializationException", f"{found} can not be converted to {wanted}")
    if isinstance(shape, StructureShape):
        for name, member in shape.members.items():
            if name in value:
                _check_types(value[name], member)
    elif isinstance(shape, ListShape):
        for item in value:
            _check_types(item, shape.member)
    elif isinstance(shape, MapShape):
        for item in value.values():
            _check_types(item, shape.value)


def _constraints(value: Any, shape: Shape, path: str) -> Iterator[str]:
    yield from _own_constraints(value, shape, path)
    if isinstance(shape, StructureShape):
        for name, member in shape.members.items():
            inner = f"{path}.{name[0].lower()}{name[1:]}" if path else f"{name[0].lower()}{name[1:]}"
            if name in value:
                yield from _constraints(value[name], member, inner)
            elif name in shape.required_members:
                yield _problem(None, inner, "Member must not be null")
    elif isinstance(shape, ListShape):
        for position, item in enumerate(value, start=1):
            yield from _constraints(item, shape.member, f"{path}.{position}.member")
    elif isinstance(shape, MapShape):
        for key, item in value.items():
            yield from _constraints(key, shape.key, f"{path}.key")
            yield from _constraints(item, shape.value, f"{path}.{key}.member")


def _own_constraints(value: Any, shape: Shape, path: str) -> Iterator[str]:
    limits = shape.metadata
    if isinstance(shape, StringShape) and shape.enum and value not in shape.enum:
        yield _problem(value, path, f"Member must satisfy enum value set: [{', '.join(shape.enum)}]")
    if "pattern" in limits and not compile_pattern(limits["pattern"]).fullmatch(value):
        yield _problem(value, path, f"Member must satisfy regular expression pattern: {limits['pattern']}")
    if shape.type_name in ("string", "list", "map"):
        size, what = len(value), "length"
    elif shape.type_name in ("integer", "long", "float", "double"):
        size, what = value, "value"
    else:
        return
    if "min" in limits and size < limits["min"]:
        yield _problem(value, path, f"Member must have {what} greater than or equal to {limits['min']}")
    if "max" in limits and size > limits["max"]:
        yield _problem(value, path, f"Member must have {what} less than or equal to {limits['max']}")


def _problem(value: Any, path: str, constraint: str) -> str:
    shown = "null" if value is None else f"'{value}'"
    return f"Value {shown} at '{path}' failed to satisfy constraint: {constraint}"
