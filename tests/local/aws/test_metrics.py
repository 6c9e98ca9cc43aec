"""When alarms are evaluated, and that a bake does not end before."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Iterable
from typing import Any, cast

import pytest

from local.aws.clock import Clock
from local.aws.cloudwatch import CloudWatch
from local.aws.sagemaker.alarms import Alarm, State
from local.aws.sagemaker.endpoints import Endpoints
from local.aws.sagemaker.errors import DeploymentError
from local.aws.sagemaker.faults import Faults
from local.aws.sagemaker.metrics import Metrics
from local.aws.sagemaker.rollout import Rollout
from local.aws.sagemaker.store import Names, Store

ALARM = Alarm(
    name="errors",
    metric="Invocation5XXErrors",
    dimensions={"EndpointName": "e", "VariantName": "v"},
    statistic="Average",
    period=60,
    evaluation_periods=3,
    datapoints_to_alarm=2,
    comparison="GreaterThanThreshold",
    threshold=0.01,
    missing_data="notBreaching",
    ignore_low_samples=False,
)


class HandClock(Clock):
    """Shows what it is set to."""

    time = 6000.0

    def now(self) -> float:
        return self.time


class Alarms:
    """A CloudWatch with a few alarms."""

    def __init__(self, *alarms: Alarm) -> None:
        self.defined = {alarm.name: alarm for alarm in alarms}
        self.states: dict[str, State] = dict.fromkeys(self.defined, "OK")

    def alarms(self, _: str) -> list[tuple[Alarm, State]]:
        return [(alarm, self.states[name]) for name, alarm in self.defined.items()]

    def set_state(self, name: str, state: State, _: str) -> None:
        self.states[name] = state

    def in_alarm(self, names: Iterable[str]) -> list[str]:
        return [name for name in names if self.states.get(name) == "ALARM"]

    def put(self, *_: Any) -> None:
        """Nobody asks for metrics here."""


def test_an_alarm_is_judged_when_all_whole_periods_have_been_looked_at() -> None:
    clock, alarms = HandClock(), Alarms(ALARM)
    metrics = Metrics(cast("CloudWatch", alarms), clock)
    assert not metrics.judged(["errors"], 6000)
    metrics._evaluate()
    assert metrics.judged(["errors"], 6059), "the period under way cannot be judged"
    for second in range(0, 240, 10):
        clock.time = 6000.0 + second
        metrics.record("e", "v", 500, 0.01, 0.0)
    # The bake is over, and nobody has looked yet: the errors above would go unseen.
    clock.time = end = 6245.0
    assert not metrics.judged(["errors"], end)
    assert alarms.in_alarm(["errors"]) == []
    metrics._evaluate()
    assert metrics.judged(["errors"], end)
    assert alarms.in_alarm(["errors"]) == ["errors"]
    # One that was changed has to be looked at again.
    alarms.defined["errors"] = dataclasses.replace(ALARM, threshold=0.5)
    assert not metrics.judged(["errors"], end)


@pytest.mark.parametrize("alarm", [None, dataclasses.replace(ALARM, metric="CPUUtilization")])
def test_nobody_waits_for_an_alarm_that_is_not_evaluated_here(alarm: Alarm | None) -> None:
    alarms = Alarms(*[alarm] if alarm else [])
    assert Metrics(cast("CloudWatch", alarms), HandClock()).judged(["errors"], 6000)


class Late:
    """An evaluation that is late, as on a busy machine, and then finds the alarm red, or not."""

    def __init__(self, alarms: Alarms, finds: State) -> None:
        self.looks = 0
        self._alarms = alarms
        self._finds = finds

    def judged(self, names: Collection[str], _: float) -> bool:
        if not names:
            return True
        self.looks += 1
        if self.looks == 5:
            self._alarms.states["errors"] = self._finds
        return self.looks >= 5


@pytest.mark.parametrize("finds", ["OK", "ALARM"])
def test_a_bake_ends_only_when_its_alarms_have_been_judged(finds: State) -> None:
    alarms = Alarms(ALARM)
    late = Late(alarms, finds)
    store, clock = Store(Names("us-east-1", "123456789012")), Clock(6000)
    parts: list[Any] = [store, None, Faults(), alarms, late, clock, 0.0]
    endpoints = Endpoints(*parts)
    bake: tuple[Any, ...] = (Rollout((), ("errors",)), 60, float("inf"), ("errors",))
    if finds == "ALARM":
        with pytest.raises(DeploymentError, match="alarms in the state ALARM: errors"):
            endpoints._wait(*bake)
    else:
        endpoints._wait(*bake)
    assert late.looks == 5
