"""What a DeploymentConfig may say, and the steps that follow from it."""

from __future__ import annotations

from typing import Any

import pytest

from local.aws.sagemaker.errors import ValidationException
from local.aws.sagemaker.rollout import check, plan


def blue_green(kind: str, size: dict[str, Any] | None = None, wait: int = 0, **policy: int) -> dict[str, Any]:
    routing: dict[str, Any] = {"Type": kind, "WaitIntervalInSeconds": wait}
    if size:
        routing["CanarySize" if kind == "CANARY" else "LinearStepSize"] = size
    return {"BlueGreenUpdatePolicy": {"TrafficRoutingConfiguration": routing, **policy}}


def instances(value: int) -> dict[str, Any]:
    return {"Type": "INSTANCE_COUNT", "Value": value}


def percent(value: int) -> dict[str, Any]:
    return {"Type": "CAPACITY_PERCENT", "Value": value}


def shares(config: dict[str, Any] | None, count: int) -> list[tuple[float, int]]:
    rollout = plan(config, {"v": count}, {"v"})
    return [(step.shares["v"], step.bake_seconds) for step in rollout.steps]


def test_without_a_configuration_everything_shifts_at_once_and_nothing_waits() -> None:
    assert shares(None, 1) == [(1.0, 0)]
    assert shares({"AutoRollbackConfiguration": {"Alarms": [{"AlarmName": "a"}]}}, 1) == [(1.0, 0)]


@pytest.mark.parametrize(
    ("config", "count", "expected"),
    [
        (blue_green("ALL_AT_ONCE", wait=60, TerminationWaitInSeconds=30), 1, [(1.0, 60)]),
        (blue_green("CANARY", instances(1), 60, TerminationWaitInSeconds=30), 4, [(0.25, 60), (1.0, 60)]),
        (blue_green("CANARY", percent(50), 60), 2, [(0.5, 60), (1.0, 60)]),
        (blue_green("CANARY", percent(10), 60), 2, [(0.5, 60), (1.0, 60)]),  # never less than one instance
        (blue_green("CANARY", percent(50), 60), 3, [(1 / 3, 60), (1.0, 60)]),  # never more than half of them
        (blue_green("LINEAR", instances(1), 9), 3, [(1 / 3, 9), (2 / 3, 9), (1.0, 9)]),
        (blue_green("LINEAR", percent(30), 9), 10, [(0.3, 9), (0.6, 9), (0.9, 9), (1.0, 9)]),
    ],
)
def test_steps(config: dict[str, Any], count: int, expected: list[tuple[float, int]]) -> None:
    check(config)
    found = shares(config, count)
    assert [share for share, _ in found] == pytest.approx([share for share, _ in expected])
    assert [wait for _, wait in found] == [wait for _, wait in expected]


def test_the_old_fleet_is_kept_for_a_while_after_the_last_bake() -> None:
    config = blue_green("ALL_AT_ONCE", wait=60, TerminationWaitInSeconds=30, MaximumExecutionTimeoutInSeconds=600)
    rollout = plan({**config, "AutoRollbackConfiguration": {"Alarms": [{"AlarmName": "a"}]}}, {"v": 1}, {"v"})
    assert (rollout.termination_seconds, rollout.timeout_seconds, rollout.alarms) == (30, 600, ("a",))


def test_every_variant_is_shifted_by_its_own_capacity() -> None:
    rollout = plan(blue_green("LINEAR", instances(1), 5), {"a": 2, "b": 4}, {"a", "b"})
    assert [dict(step.shares) for step in rollout.steps] == [
        {"a": 0.5, "b": 0.25},
        {"a": 1.0, "b": 0.5},
        {"a": 1.0, "b": 0.75},
        {"a": 1.0, "b": 1.0},
    ]


ROLLING = {"MaximumBatchSize": percent(10), "WaitIntervalInSeconds": 0}


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({**blue_green("ALL_AT_ONCE"), "RollingUpdatePolicy": ROLLING}, "cannot be given together"),
        ({"RollingUpdatePolicy": ROLLING}, "RollingUpdatePolicy is not served by the local SageMaker"),
        (blue_green("CANARY"), "CanarySize is required when the traffic routing type is CANARY"),
        (blue_green("LINEAR"), "LinearStepSize is required when the traffic routing type is LINEAR"),
        (blue_green("ALL_AT_ONCE", instances(1)), "LinearStepSize cannot be given"),
        (blue_green("CANARY", percent(51)), "CanarySize must be less than or equal to 50 percent"),
        (blue_green("LINEAR", percent(51)), "LinearStepSize must be from 10 to 50 percent"),
        (blue_green("LINEAR", percent(9)), "LinearStepSize must be from 10 to 50 percent"),
    ],
)
def test_what_no_endpoint_can_do(config: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationException) as refused:
        check(config)
    assert message in refused.value.message


@pytest.mark.parametrize(
    ("config", "counts", "live", "message"),
    [
        (blue_green("CANARY", instances(3)), {"v": 4}, {"v"}, "50 percent of the 4 instances of variant v"),
        (blue_green("CANARY", instances(1)), {"v": 1}, {"v"}, "variant v has one instance: use ALL_AT_ONCE"),
        (blue_green("CANARY", percent(10)), {"v": 1}, {"v"}, "variant v has one instance: use ALL_AT_ONCE"),
        (blue_green("LINEAR", instances(1)), {"v": 11}, {"v"}, "from 10 to 50 percent of the 11 instances"),
        (blue_green("CANARY", instances(1)), {"v": 4, "w": 1}, {"v", "w"}, "variant w has one instance"),
        (blue_green("CANARY", instances(1)), {"v": 4, "w": 4}, {"v"}, "must have the variants of the live one (v)"),
        (
            blue_green("CANARY", instances(1), 250, TerminationWaitInSeconds=100, MaximumExecutionTimeoutInSeconds=600),
            {"v": 4},
            {"v"},
            "MaximumExecutionTimeoutInSeconds (600) must be larger than the total waiting time (600)",
        ),
    ],
)
def test_what_this_endpoint_cannot_do(
    config: dict[str, Any], counts: dict[str, int], live: set[str], message: str
) -> None:
    check(config)
    with pytest.raises(ValidationException) as refused:
        plan(config, counts, live)
    assert message in refused.value.message


def test_all_at_once_may_bring_other_variants() -> None:
    assert dict(plan(blue_green("ALL_AT_ONCE"), {"a": 1, "b": 1}, {"a"}).steps[-1].shares) == {"a": 1.0, "b": 1.0}
