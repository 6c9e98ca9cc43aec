"""Reads JSON and YAML as the API and its clients do: YAML is another spelling of JSON."""

from __future__ import annotations

import json
from typing import Any

import yaml


class _Loader(yaml.SafeLoader):
    """YAML whose dates are texts, as all that JSON can say."""

    yaml_implicit_resolvers = {  # noqa: RUF012 - as in the class above it
        first: [(tag, regexp) for tag, regexp in resolvers if tag != "tag:yaml.org,2002:timestamp"]
        for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }


def read_json(text: str | bytes) -> Any:
    """Return what a JSON text says.

    Raises:
        ValueError: it is malformed, or nested too deeply.
    """
    try:
        return json.loads(text)
    except RecursionError:
        raise ValueError("exceeded max depth") from None


def read_yaml(text: str | bytes) -> list[Any]:
    """Return what the documents of a YAML text say in JSON.

    Raises:
        ValueError: it is malformed, nested too deeply, or contains itself.
    """
    try:
        return [_json(document, {}) for document in yaml.load_all(text, _Loader)]
    except RecursionError:
        raise ValueError("exceeded max depth") from None
    except yaml.YAMLError as error:
        raise ValueError(str(error)) from None


def _json(value: Any, done: dict[int, Any]) -> Any:
    """Convert a value; what aliases name often is converted once, or a short text could fill the memory."""
    if not isinstance(value, dict | list):
        return value
    if id(value) not in done:
        if isinstance(value, dict):
            done[id(value)] = {_key(key): _json(item, done) for key, item in value.items()}
        else:
            done[id(value)] = [_json(item, done) for item in value]
    return done[id(value)]


def _key(key: Any) -> str:
    if isinstance(key, bool):
        return "true" if key else "false"
    if isinstance(key, str | int | float):
        return str(key)
    raise ValueError(f"unsupported map key: {key!r}")
