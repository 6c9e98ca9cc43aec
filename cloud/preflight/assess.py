"""Whether what an account has is enough for what is needed. Asks nobody."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from cloud.preflight.needs import Need
from cloud.preflight.report import Line


@dataclass(frozen=True)
class Unknown:
    """What AWS did not say, and why."""

    reason: str


@dataclass(frozen=True)
class Limit:
    """A quota's value."""

    code: str
    value: float
    adjustable: bool = True


@dataclass(frozen=True)
class Use:
    """What is in use in the whole account, and how much of it by the environment itself."""

    total: float | None
    """None where AWS does not tell."""
    own: float = 0


def quota_line(need: Need, limit: Limit | Unknown, use: Use | Unknown, region: str) -> Line:
    """Compare a quota with a need; what the environment has from an earlier apply is not needed again."""
    unknown = [told.reason for told in (limit, use) if isinstance(told, Unknown)]
    if isinstance(limit, Unknown) or isinstance(use, Unknown):
        code = need.quota.code if isinstance(limit, Unknown) else limit.code
        return Line(
            what=need.what,
            verdict="unknown",
            need=need.amount if isinstance(use, Unknown) else max(need.amount - use.own, 0),
            limit=None if isinstance(limit, Unknown) else limit.value,
            quota=f"{need.quota.service}/{code or need.quota.name}",
            note="; ".join(unknown),
        )
    more = max(need.amount - use.own, 0)
    have = limit.value - (use.total or 0)
    line = Line(
        what=need.what,
        verdict="enough" if more <= max(have, 0) else "too small",
        have=have,
        need=more,
        limit=limit.value,
        in_use=use.total,
        quota=f"{need.quota.service}/{limit.code}",
        note=_note(need, limit, use),
    )
    if line.verdict == "enough":
        return line
    wanted = math.ceil((use.total or 0) + more)
    return line.model_copy(update={"ask": [_request(need, limit, wanted, region)]})


def _note(need: Need, limit: Limit, use: Use) -> str:
    if use.total is None:
        return "AWS does not tell what is in use"
    told = [f"{limit.value:g} less {use.total:g} in use"] if use.total else []
    if use.own:
        told.append(f"{min(use.own, need.amount):g} of {need.amount:g} are there")
    return ", ".join(told)


def _request(need: Need, limit: Limit, wanted: int, region: str) -> str:
    if not limit.adjustable:
        return (
            f"{need.what}: the quota {limit.code} cannot be raised: remove something, or make the environment smaller"
        )
    return (
        f"aws service-quotas request-service-quota-increase --region {region} --service-code {need.quota.service} "
        f"--quota-code {limit.code} --desired-value {wanted}"
    )


def unknown_line(what: str, unknown: Unknown) -> Line:
    """Return the line of something of which nothing is known."""
    return Line(what=what, verdict="unknown", note=unknown.reason)


def linked_roles_line(services: list[str], there: frozenset[str], allowed: Mapping[str, bool | Unknown]) -> Line:
    """Say whether each service has its role, or may get it: AWS makes it on behalf of who uses the service first.

    Args:
        there: services that have theirs.
        allowed: of the others, whether the caller may make it.
    """
    missing = [service for service in services if service not in there]
    refused = [service for service in missing if allowed[service] is False]
    reasons = list(dict.fromkeys(told.reason for told in allowed.values() if isinstance(told, Unknown)))
    made = [service.removesuffix(".amazonaws.com") for service in missing if allowed[service] is True]
    notes = [f"the first apply makes those of {', '.join(made)}"] if made else []
    if refused:
        notes.append(f"you may not make those of {', '.join(refused)} (iam:CreateServiceLinkedRole)")
    return Line(
        what="service-linked roles",
        verdict="too small" if refused else "unknown" if reasons else "enough",
        have=None if reasons else len(services) - len(refused),
        need=len(services),
        note="; ".join([*notes, *reasons]),
        ask=[f"aws iam create-service-linked-role --aws-service-name {service}" for service in refused],
    )
