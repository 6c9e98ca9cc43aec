"""How requests move to a new configuration, and what would move them back. Pure functions."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from deployer.plan import VARIANT, Plan
from deployer.sagemaker_api import AlarmState, EndpointState
from mlplatform.documents.run import Deployment
from mlplatform.errors import NonRetryableError


@dataclass(frozen=True)
class Strategy:
    """A way to change an endpoint."""

    name: str
    """As `mlplatform.documents.deployment.DeployResult.strategy`."""
    reason: str = ""
    """Why it is not the one in the configuration."""
    request: dict[str, Any] | None = None
    """SageMaker's ``DeploymentConfig``; None for its own default, all at once and without alarms."""
    alarms: tuple[str, ...] = ()
    keep_counts: bool = False
    """Whether the variants keep the numbers of instances that they have now."""


def choose(plan: Plan, deployment: Deployment, live: EndpointState, scaled: bool, champion: str | None) -> Strategy:
    """Return how an endpoint that is in service gets another configuration.

    Args:
        plan: what shall be live.
        deployment: what was asked for.
        live: what is live.
        scaled: whether autoscaling decides about the number of instances.
        champion: the version that is champion now.

    Raises:
        NonRetryableError: the change would lose instances, or would take longer than it may.
    """
    names, wanted = {variant.name for variant in live.variants}, set(plan.weights)
    configured = plan.config["ProductionVariants"][0]["InitialInstanceCount"]
    running = {variant.name: variant.instances for variant in live.variants}
    if VARIANT not in names and sum(running.values()) > configured:
        # Counts are kept by the variants' names only.
        raise NonRetryableError(
            f"endpoint {plan.endpoint_name} runs {sum(running.values())} instances as the variant "
            f"{', '.join(sorted(names))}, and {VARIANT!r} would begin with {configured}: set serving.instance_count to "
            f"at least {sum(running.values())} for this deployment",
            kind="bad-config",
        )
    keep = scaled and VARIANT in names
    count = running[VARIANT] if keep else configured
    rollout = deployment.rollout
    if deployment.purpose == "rollback":
        return Strategy("all-at-once", "a rollback does not wait", keep_counts=keep)
    if champion is None:
        return Strategy("all-at-once", "there is no champion to go back to", keep_counts=keep)
    if names != wanted:
        reason = (
            f"the variants change from {', '.join(sorted(names))} to {', '.join(sorted(wanted))}, "
            "which SageMaker does in one step only"
        )
        return Strategy("all-at-once", reason, keep_counts=keep)
    routing: dict[str, Any] = {"Type": "ALL_AT_ONCE", "WaitIntervalInSeconds": rollout.bake_seconds}
    name, reason, steps = "all-at-once", "", 1
    if rollout.strategy != "all-at-once" and count < 2:
        reason = f"{rollout.strategy} needs at least two instances, and there is one"
    elif rollout.strategy != "all-at-once" and len(wanted) > 1:
        reason = f"{rollout.strategy} is for one variant, and this is an experiment with two"
    elif rollout.strategy == "canary":
        name, steps = "canary", 2
        routing |= {"Type": "CANARY", "CanarySize": _size(rollout.canary_percent, count)}
    elif rollout.strategy == "linear":
        size = _size(rollout.step_percent, count)
        name, steps = "linear", math.ceil(count / size["Value"])
        routing |= {"Type": "LINEAR", "LinearStepSize": size}
    if steps * rollout.bake_seconds >= rollout.maximum_seconds:
        raise NonRetryableError(
            f"serving.rollout: {steps} steps of bake_seconds ({rollout.bake_seconds}) take longer than maximum_seconds "
            f"({rollout.maximum_seconds}): SageMaker would roll back: lower the one or raise the other",
            kind="bad-config",
        )
    request: dict[str, Any] = {
        "BlueGreenUpdatePolicy": {
            "TrafficRoutingConfiguration": routing,
            "TerminationWaitInSeconds": 0,
            "MaximumExecutionTimeoutInSeconds": rollout.maximum_seconds,
        }
    }
    if deployment.alarms:
        request["AutoRollbackConfiguration"] = {"Alarms": [{"AlarmName": alarm} for alarm in deployment.alarms]}
    return Strategy(name, reason, request, tuple(deployment.alarms), keep)


def check_alarms(strategy: Strategy, states: Mapping[str, AlarmState], bake_seconds: int) -> None:
    """Look at the alarms before anything begins.

    Args:
        strategy: names the alarms.
        states: of those that exist.
        bake_seconds: how long they are watched after each step.

    Raises:
        NonRetryableError: one does not exist, could not turn red in time, or is red already.
    """
    if missing := [alarm for alarm in strategy.alarms if alarm not in states]:
        raise NonRetryableError(
            f"alarm {missing[0]}: does not exist, so nothing would roll the deployment back; nothing was changed: "
            "apply the environment, or correct serving.alarms",
            kind="bad-config",
        )
    if slow := [alarm for alarm in strategy.alarms if states[alarm].seconds > bake_seconds]:
        raise NonRetryableError(
            f"alarm {slow[0]}: needs {states[slow[0]].seconds} bad seconds to turn red, and is watched for "
            f"{bake_seconds} only, so it would roll nothing back; nothing was changed: raise "
            "serving.rollout.bake_seconds",
            kind="bad-config",
        )
    if red := [alarm for alarm in strategy.alarms if states[alarm].value == "ALARM"]:
        raise NonRetryableError(
            f"alarm {', '.join(red)}: is red already, so SageMaker would roll the deployment back at once; nothing was "
            "changed: mend what is live or roll it back, then deploy",
            kind="bad-config",
        )


def _size(percent: int, count: int) -> dict[str, Any]:
    """Return a share of the instances as a number: SageMaker does not say how it rounds, and allows half at most."""
    return {"Type": "INSTANCE_COUNT", "Value": min(max(1, round(percent * count / 100)), count // 2)}
