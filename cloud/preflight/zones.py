"""Which zones an environment's network will lie in, by the rule of terraform/modules/zones. Asks nobody."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import yaml

from cloud.preflight.needs import NodeGroup
from cloud.preflight.report import Line
from cloud.terraform import ROOT

EKS_REFUSES = frozenset(
    yaml.safe_load((ROOT / "terraform" / "modules" / "zones" / "eks_refuses.yaml").read_text(encoding="utf-8"))
)
"""Ids of zones in which EKS makes no control plane."""


@dataclass(frozen=True)
class Zones:
    """The account's ordinary zones, and what is where."""

    ids: Mapping[str, str]
    """By name; a name is the account's own, an id is the same in every one."""
    offered: Mapping[str, frozenset[str]]
    """Ids of the zones that have an instance type."""
    endpoints: Mapping[str, frozenset[str]] = field(default_factory=dict)
    """Names of the zones that a private endpoint of a service can be in."""
    there: Sequence[str] = ()
    """Names of the zones that the environment's network lies in already, in order."""

    def lacks(self, zone: str, groups: Iterable[NodeGroup]) -> list[str]:
        """Return what the environment would miss in a zone."""
        if zone not in self.ids:
            return ["it is no zone of this account"]
        eks = ["EKS makes no control plane there"] if self.ids[zone] in EKS_REFUSES else []
        nodes = [
            f"none of {', '.join(group.instance_types)}"
            for group in groups
            if not any(self.ids[zone] in self.offered.get(kind, ()) for kind in group.instance_types)
        ]
        return [*eks, *dict.fromkeys(nodes), *self._without(zone)]

    def _without(self, zone: str) -> list[str]:
        missing = [service for service, places in self.endpoints.items() if zone not in places]
        return [f"no private endpoint of {', '.join(missing)}"] if missing else []

    def usable(self, groups: list[NodeGroup]) -> list[str]:
        """Return the names of the zones that have everything, in the order of their ids."""
        return [zone for zone in sorted(self.ids, key=lambda name: self.ids[name]) if not self.lacks(zone, groups)]

    def chosen(self, groups: list[NodeGroup], wanted: int, named: list[str] | None = None) -> list[str]:
        """Return the names of the zones that an apply would take: those named, else those that are there, then others.

        Terraform keeps the order from when the network was made; for more than there are, this is as it would be today.
        """
        others = [zone for zone in self.usable(groups) if zone not in self.there]
        return named or [*self.there, *others][: max(wanted, len(self.there))]


def zones_line(zones: Zones, taken: list[str], wanted: int, groups: list[NodeGroup], place: str) -> Line:
    """Say which zones it will be, or what those lack that are needed for more.

    Args:
        zones: of the account.
        taken: those that an apply would take.
        wanted: how many there are to be.
        groups: all kinds of nodes.
        place: where the number of zones and the instance types are chosen.
    """
    lacking = {zone: missing for zone in taken if (missing := zones.lacks(zone, groups))}
    good = [zone for zone in taken if zone not in lacking]
    if len(good) >= wanted and not lacking:
        return Line(
            what="zones",
            verdict="enough",
            have=len(zones.usable(groups)),
            need=wanted,
            note=", ".join(f"{zone} ({zones.ids[zone]})" for zone in taken),
        )
    lacking |= {zone: missing for zone in zones.ids if (missing := zones.lacks(zone, groups))}
    return Line(
        what="zones",
        verdict="too small",
        have=len(good),
        need=wanted,
        note="; ".join(
            f"{zone} ({zones.ids.get(zone, 'unknown')}): {', '.join(missing)}" for zone, missing in lacking.items()
        ),
        ask=[f"zones: choose fewer, others, or other instance types in {place}"],
    )
