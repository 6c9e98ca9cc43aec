"""What the rules judge: resources, read from Terraform's JSON of a plan or of a state."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Resource:
    """A managed resource as it is planned, or as it was applied."""

    address: str
    type: str
    values: dict[str, Any]
    unknown: frozenset[str] = field(default=frozenset())
    """Names of the attributes that only the apply will know, in whole or in part."""

    def blocks(self, name: str) -> list[dict[str, Any]]:
        """Return the nested blocks of a name; none where it is absent."""
        found = self.values.get(name)
        if isinstance(found, dict):
            return [found]
        return [block for block in found or [] if isinstance(block, dict)]

    def block(self, *path: str) -> dict[str, Any]:
        """Return the first block at a path of names; empty where there is none."""
        found: dict[str, Any] = self.values
        for name in path:
            inner = found.get(name) or [{}]
            found = (inner[0] if isinstance(inner, list) else inner) or {}
        return found


def from_plan(plan: dict[str, Any]) -> list[Resource]:
    """Return the resources of `terraform show -json PLAN`."""
    unknown = {
        change["address"]: frozenset(
            name for name, value in (change["change"].get("after_unknown") or {}).items() if value
        )
        for change in plan.get("resource_changes", ())
    }
    return [
        Resource(found["address"], found["type"], found.get("values") or {}, unknown.get(found["address"], frozenset()))
        for found in _walk(plan["planned_values"].get("root_module") or {})
    ]


def from_state(state: dict[str, Any]) -> list[Resource]:
    """Return the resources of `terraform show -json` after an apply."""
    root = (state.get("values") or {}).get("root_module") or {}
    return [Resource(found["address"], found["type"], found.get("values") or {}) for found in _walk(root)]


def strings(value: Any, path: str = "") -> Iterator[tuple[str, str]]:
    """Yield every string inside a value, with the path of names that leads to it."""
    if isinstance(value, str):
        yield path, value
    elif isinstance(value, dict):
        for name, inner in value.items():
            yield from strings(inner, f"{path}.{name}" if path else str(name))
    elif isinstance(value, list):
        for inner in value:
            yield from strings(inner, path)


def of_type(resources: Iterable[Resource], *types: str) -> list[Resource]:
    """Return the resources of some types."""
    return [resource for resource in resources if resource.type in types]


def _walk(module: dict[str, Any]) -> Iterator[dict[str, Any]]:
    for found in module.get("resources", ()):
        if found.get("mode", "managed") == "managed":
            yield found
    for child in module.get("child_modules", ()):
        yield from _walk(child)
