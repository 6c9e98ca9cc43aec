"""What the API says of a ResourceQuota that is used up."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from kubernetes.utils.quantity import parse_quantity

_LIST = r"([^\s;]*)"  # as in "requests.cpu=4,requests.memory=12Gi"
_SAID = re.compile(rf"exceeded quota: ([^\s,]+)(?:, requested: {_LIST}, used: {_LIST}, limited: {_LIST})?")


@dataclass(frozen=True)
class UsedUp:
    """A quota that had no room for a pod.

    Attributes:
        quota: its name.
        requested: by the pod, of each resource of which there was too little left.
        used: by what is there.
        limited: to so much in all.
    """

    quota: str
    requested: Mapping[str, str]
    used: Mapping[str, str]
    limited: Mapping[str, str]

    def can_hold(self, pods: int) -> bool:
        """Tell whether so many pods like this one fit, once nothing else is there."""
        return all(
            parse_quantity(amount) * pods <= parse_quantity(self.limited[name])
            for name, amount in self.requested.items()
        )

    def __str__(self) -> str:
        amounts = "; ".join(
            f"{name}: {self.used[name]} of {self.limited[name]} used, {amount} requested"
            for name, amount in self.requested.items()
        )
        return f"quota {self.quota} is used up" + (f" ({amounts})" if amounts else "")


def used_up(said: str) -> UsedUp | None:
    """Return which quota words of the API are about, None if they are about none that is used up."""
    found = _SAID.search(said)
    if found is None:
        return None
    requested, used, limited = (_amounts(text) for text in found.groups()[1:])
    known = requested.keys() & used.keys() & limited.keys()  # the words of an event may be cut off
    return UsedUp(found[1], {name: amount for name, amount in requested.items() if name in known}, used, limited)


def _amounts(text: str | None) -> dict[str, str]:
    found = {}
    for part in (text or "").split(","):
        name, _, amount = part.partition("=")
        try:
            parse_quantity(amount)
        except ValueError:
            continue
        found[name] = amount
    return found
