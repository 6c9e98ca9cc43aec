"""What SageMaker does with CloudWatch: send metrics, look at alarms. The alarms and metrics themselves are moto's.

moto keeps alarms but never evaluates one, so their states are decided in `local.aws.sagemaker.metrics`.
"""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import suppress
from typing import Any

from moto.cloudwatch.exceptions import ResourceNotFound
from moto.cloudwatch.models import Alarm as MotoAlarm
from moto.cloudwatch.models import CloudWatchBackend, cloudwatch_backends

from local.aws.sagemaker.alarms import Alarm, State


class CloudWatch:
    """The CloudWatch of this server's account and region."""

    def __init__(self, account: str, region: str) -> None:
        self._account = account
        self._region = region

    def missing(self, names: Iterable[str]) -> list[str]:
        """Return those names, in order, that no alarm has."""
        known = self._backend.alarms
        return [name for name in names if name not in known]

    def in_alarm(self, names: Iterable[str]) -> list[str]:
        """Return those names, in order, whose alarm is in the state ALARM."""
        known = self._backend.alarms
        return [name for name in names if name in known and known[name].state_value == "ALARM"]

    def alarms(self, namespace: str) -> list[tuple[Alarm, State]]:
        """Return the alarms on single metrics of a namespace, with their states."""
        alarms = list(self._backend.alarms.values())
        return [(_alarm(alarm), alarm.state_value) for alarm in alarms if alarm.namespace == namespace]

    def set_state(self, name: str, state: State, reason: str) -> None:
        """Do what SetAlarmState does; an alarm that has just been deleted is no error."""
        with suppress(ResourceNotFound):
            self._backend.set_alarm_state(name, reason, "{}", state)

    def put(self, namespace: str, data: list[dict[str, Any]]) -> None:
        """Do what PutMetricData does."""
        self._backend.put_metric_data(namespace, data)

    @property
    def _backend(self) -> CloudWatchBackend:
        return cloudwatch_backends[self._account][self._region]


def _alarm(alarm: MotoAlarm) -> Alarm:
    return Alarm(
        name=alarm.name,
        metric=alarm.metric_name,
        dimensions={str(dimension.name): str(dimension.value) for dimension in alarm.dimensions},
        statistic=alarm.extended_statistic or alarm.statistic or "Average",
        period=int(alarm.period),
        evaluation_periods=int(alarm.evaluation_periods),
        datapoints_to_alarm=int(alarm.datapoints_to_alarm or alarm.evaluation_periods),
        comparison=alarm.comparison_operator,
        threshold=float(alarm.threshold),
        missing_data=alarm.treat_missing_data or "missing",
        ignore_low_samples=alarm.evaluate_low_sample_count_percentile == "ignore",
    )
