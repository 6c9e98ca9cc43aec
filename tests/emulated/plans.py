"""What a plan wants to change, attribute by attribute, and which of that is the emulators' doing."""

from __future__ import annotations

import fnmatch
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, ConfigDict

ARTEFACTS = Path(__file__).with_name("artefacts.yaml")


@dataclass(frozen=True)
class Difference:
    """One attribute that would change."""

    address: str
    attribute: str
    before: Any
    after: Any
    action: str

    def __str__(self) -> str:
        return f"{self.address}: {self.attribute} ({self.action}): {self.before!r} -> {self.after!r}"


class Artefact(BaseModel):
    """A difference that an emulator causes, with the reason; both patterns are shell-style."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    address: str
    attribute: str
    reason: str

    def explains(self, difference: Difference) -> bool:
        """Whether this is such a difference."""
        return _like(difference.address, self.address) and _like(difference.attribute, self.attribute)


def _like(text: str, pattern: str) -> bool:
    # Brackets are part of addresses here, not sets of characters.
    return fnmatch.fnmatchcase(text, pattern.replace("[", "[[]"))


def read_artefacts(path: Path = ARTEFACTS) -> list[Artefact]:
    """Return the listed artefacts."""
    return [Artefact.model_validate(entry) for entry in yaml.safe_load(path.read_text()) or []]


def differences(plan: dict[str, Any]) -> list[Difference]:
    """Return what a plan (`terraform show -json`) changes.

    Where Terraform marks a whole resource for creation or deletion, the attribute is `*`. What only becomes known
    after apply counts as no difference of its own: another one, which is listed, causes it.
    """
    found = []
    for resource in plan.get("resource_changes", []):
        change = resource["change"]
        action = "/".join(change["actions"])
        if resource["mode"] != "managed" or action in ("no-op", "read"):
            continue
        if action in ("create", "delete"):
            found.append(Difference(resource["address"], "*", None, None, action))
            continue
        leaves = list(_leaves(change["before"], change["after"], change.get("after_unknown"), ""))
        found += [Difference(resource["address"], path, before, after, action) for path, before, after in leaves]
        if not leaves:  # never seen, but a change that shows nothing must not pass unseen
            found.append(Difference(resource["address"], "?", None, None, action))
    return found


def _leaves(before: Any, after: Any, unknown: Any, path: str) -> Iterator[tuple[str, Any, Any]]:
    if unknown is True or before == after:
        return
    if isinstance(before, dict) and isinstance(after, dict):
        for key in sorted(set(before) | set(after)):
            below = unknown.get(key) if isinstance(unknown, dict) else None
            yield from _leaves(before.get(key), after.get(key), below, f"{path}.{key}" if path else key)
    elif isinstance(before, list) and isinstance(after, list) and len(before) == len(after):
        for index, (old, new) in enumerate(zip(before, after, strict=True)):
            below = unknown[index] if isinstance(unknown, list) and index < len(unknown) else None
            yield from _leaves(old, new, below, f"{path}.{index}")
    else:
        yield path, before, after


def unexplained(found: list[Difference], artefacts: list[Artefact]) -> list[Difference]:
    """Return the differences that no artefact explains."""
    return [difference for difference in found if not any(artefact.explains(difference) for artefact in artefacts)]


def unused(found: list[Difference], artefacts: list[Artefact]) -> list[Artefact]:
    """Return the artefacts that explain nothing (any more)."""
    return [artefact for artefact in artefacts if not any(artefact.explains(difference) for difference in found)]
