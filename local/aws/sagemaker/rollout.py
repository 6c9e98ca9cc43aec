"""How a deployment shifts traffic: what a DeploymentConfig may say, and the steps that follow from it."""

from __future__ import annotations

from collections.abc import Mapping, Set
from dataclasses import dataclass
from typing import Any

from local.aws.sagemaker.errors import ValidationException

_SIZES = {"CANARY": "CanarySize", "LINEAR": "LinearStepSize"}
_SMALLEST_PERCENT = {"CANARY": 0, "LINEAR": 10}
_LARGEST_PERCENT = 50


@dataclass(frozen=True)
class Step:
    """One shift: the share (0 to 1) of each variant's requests that the new fleet gets, and the wait after it."""

    shares: Mapping[str, float]
    bake_seconds: int


@dataclass(frozen=True)
class Rollout:
    """All shifts of a deployment; the last one gives the new fleet everything."""

    steps: tuple[Step, ...]
    alarms: tuple[str, ...] = ()
    termination_seconds: int = 0
    """The wait between the last bake and the end of the old fleet; alarms are not watched then."""
    timeout_seconds: int | None = None


def alarm_names(config: Mapping[str, Any] | None) -> tuple[str, ...]:
    """Return the names of the alarms that roll a deployment back."""
    alarms = (config or {}).get("AutoRollbackConfiguration", {}).get("Alarms", [])
    return tuple(alarm["AlarmName"] for alarm in alarms if "AlarmName" in alarm)


def check(config: Mapping[str, Any] | None) -> None:
    """Check what the service model cannot say, and what does not depend on an endpoint.

    Raises:
        ValidationException: with our own wording, as the service's is not documented.
    """
    if not config:
        return
    if {"BlueGreenUpdatePolicy", "RollingUpdatePolicy"} <= set(config):
        raise ValidationException("BlueGreenUpdatePolicy and RollingUpdatePolicy cannot be given together.")
    if "RollingUpdatePolicy" in config:
        raise ValidationException(
            "RollingUpdatePolicy is not served by the local SageMaker; use a BlueGreenUpdatePolicy."
        )
    routing = config.get("BlueGreenUpdatePolicy", {}).get("TrafficRoutingConfiguration", {})
    kind = routing.get("Type")
    for of_kind, member in _SIZES.items():
        if kind == of_kind and member not in routing:
            raise ValidationException(f"{member} is required when the traffic routing type is {kind}.")
        if kind is not None and kind != of_kind and member in routing:
            raise ValidationException(f"{member} cannot be given when the traffic routing type is {kind}.")
    if kind in _SIZES and routing[_SIZES[kind]]["Type"] == "CAPACITY_PERCENT":
        _check_percent(kind, routing[_SIZES[kind]]["Value"], "the variant's capacity")


def plan(config: Mapping[str, Any] | None, counts: Mapping[str, int], live: Set[str]) -> Rollout:
    """Return the steps of a deployment.

    Args:
        config: a DeploymentConfig that `check` lets pass; none shifts all at once.
        counts: instances of each variant of the new fleet.
        live: names of the variants that serve now.

    Raises:
        ValidationException: the traffic cannot be shifted like that.
    """
    policy = (config or {}).get("BlueGreenUpdatePolicy", {})
    routing = policy.get("TrafficRoutingConfiguration", {})
    kind = routing.get("Type", "ALL_AT_ONCE")
    termination = policy.get("TerminationWaitInSeconds", 0)
    partial: list[dict[str, float]] = []
    if kind in _SIZES:
        if set(counts) != live:
            raise ValidationException(
                f"The new endpoint configuration must have the variants of the live one ({', '.join(sorted(live))}) "
                f"for traffic routing of type {kind}."
            )
        sizes = {name: _instances(kind, routing[_SIZES[kind]], name, count) for name, count in counts.items()}
        partial = _partial_shares(kind, sizes, counts)
    wait = routing.get("WaitIntervalInSeconds", 0)
    steps = tuple(Step(shares, wait) for shares in [*partial, dict.fromkeys(counts, 1.0)])
    timeout = policy.get("MaximumExecutionTimeoutInSeconds")
    waits = len(steps) * wait + termination
    if timeout is not None and timeout <= waits:
        raise ValidationException(
            f"MaximumExecutionTimeoutInSeconds ({timeout}) must be larger than the total waiting time ({waits})."
        )
    return Rollout(steps, alarm_names(config), termination, timeout)


def _instances(kind: str, size: Mapping[str, Any], variant: str, count: int) -> int:
    """Return how many instances one step turns on."""
    if count < 2:
        raise ValidationException(
            f"{_SIZES[kind]} must be at most {_LARGEST_PERCENT} percent of a variant's instances, but variant "
            f"{variant} has one instance: use ALL_AT_ONCE or more instances."
        )
    value: int = size["Value"]
    if size["Type"] == "CAPACITY_PERCENT":
        return max(1, count * value // 100)
    _check_percent(kind, 100 * value / count, f"the {count} instances of variant {variant}")
    return value


def _check_percent(kind: str, percent: float, what: str) -> None:
    if not _SMALLEST_PERCENT[kind] <= percent <= _LARGEST_PERCENT:
        least = f"from {_SMALLEST_PERCENT[kind]} to" if _SMALLEST_PERCENT[kind] else "less than or equal to"
        raise ValidationException(f"{_SIZES[kind]} must be {least} {_LARGEST_PERCENT} percent of {what}.")


def _partial_shares(kind: str, sizes: Mapping[str, int], counts: Mapping[str, int]) -> list[dict[str, float]]:
    """Return the shares of each step before the last."""
    steps: list[dict[str, float]] = []
    while True:
        done = len(steps) + 1
        shares = {name: min(1.0, done * sizes[name] / count) for name, count in counts.items()}
        if min(shares.values()) >= 1.0:
            return steps
        steps.append(shares)
        if kind == "CANARY":
            return steps
