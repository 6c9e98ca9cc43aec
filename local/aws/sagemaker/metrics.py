"""The figures of every request: sent to CloudWatch as AWS/SageMaker metrics, and what alarms on them are decided by."""

from __future__ import annotations

import logging
import threading
from collections import defaultdict, deque
from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

from local.aws.clock import Clock
from local.aws.cloudwatch import CloudWatch
from local.aws.sagemaker.alarms import Alarm, evaluate, known

log = logging.getLogger(__name__)

NAMESPACE = "AWS/SageMaker"
_PUBLISH_SECONDS = 60.0  # of service time: the resolution of SageMaker's metrics
_UNITS = {
    "Invocations": "None",
    "Invocation4XXErrors": "None",
    "Invocation5XXErrors": "None",
    "ModelLatency": "Microseconds",
    "OverheadLatency": "Microseconds",
}
_KEPT_REQUESTS = 100_000  # of one variant
_Key = tuple[str, str]  # endpoint, variant


@dataclass(frozen=True)
class _Sample:
    at: float  # service time
    values: dict[str, float]


class Metrics:
    """Counts requests; a thread publishes them and sets the states of the alarms that look at them."""

    def __init__(self, cloudwatch: CloudWatch, clock: Clock) -> None:
        self._cloudwatch = cloudwatch
        self._clock = clock
        self._lock = threading.Lock()
        self._samples: dict[_Key, deque[_Sample]] = defaultdict(lambda: deque(maxlen=_KEPT_REQUESTS))
        self._unpublished: dict[_Key, list[_Sample]] = defaultdict(list)
        self._published_at = clock.now()
        self._evaluated: dict[str, tuple[Alarm, int]] = {}
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._run, name="metrics", daemon=True)

    def start(self) -> None:
        """Begin to publish and to evaluate."""
        self._thread.start()

    def close(self) -> None:
        """Stop the thread."""
        self._closing.set()
        if self._thread.ident is not None:
            self._thread.join(2)

    def record(self, endpoint: str, variant: str, status: int, model_seconds: float, overhead_seconds: float) -> None:
        """Count a request that reached a variant, by the status that its container answered with."""
        values = {
            "Invocations": 1.0,
            "Invocation4XXErrors": float(400 <= status < 500),
            "Invocation5XXErrors": float(status >= 500),
            "ModelLatency": model_seconds * 1e6,
            "OverheadLatency": overhead_seconds * 1e6,
        }
        with self._lock:
            sample = _Sample(self._clock.now(), values)
            self._samples[endpoint, variant].append(sample)
            self._unpublished[endpoint, variant].append(sample)

    def judged(self, names: Collection[str], until: float) -> bool:
        """Return whether all whole periods up to a service time have been looked at, for those alarms that we evaluate.

        On a busy machine the evaluation may be late, and time does not pass more slowly for it.
        """
        for alarm, _ in self._cloudwatch.alarms(NAMESPACE):
            if alarm.name in names and _is_evaluated(alarm):
                seen, current = self._evaluated.get(alarm.name, (None, 0))
                if seen != alarm or current < int(until // alarm.period):
                    return False
        return True

    def _run(self) -> None:
        pause = min(1.0, max(0.02, self._clock.real(_PUBLISH_SECONDS) / 4))
        while not self._closing.wait(pause):
            try:
                self._publish()
                self._evaluate()
            except Exception:  # one bad alarm must not end the evaluation of all others
                log.exception("metrics")

    def _publish(self) -> None:
        if self._clock.now() - self._published_at < _PUBLISH_SECONDS:
            return
        self._published_at = self._clock.now()
        with self._lock:
            unpublished = dict(self._unpublished)
            self._unpublished.clear()
        for key, samples in unpublished.items():
            data = [_datum(key, metric, [sample.values[metric] for sample in samples]) for metric in _UNITS]
            self._cloudwatch.put(NAMESPACE, data)

    def _evaluate(self) -> None:
        for alarm, state in self._cloudwatch.alarms(NAMESPACE):
            if not _is_evaluated(alarm):
                continue
            current = int(self._clock.now() // alarm.period)
            # Once a period, and at once when it is new or changed: CloudWatch looks at whole periods only.
            if self._evaluated.get(alarm.name) == (alarm, current):
                continue
            try:
                next_state, reason = evaluate(alarm, self._periods(alarm, current), state, self._clock.scale)
                if next_state != state:
                    self._cloudwatch.set_state(alarm.name, next_state, reason)
            finally:  # after its state: who sees that it was evaluated sees what came of it
                self._evaluated[alarm.name] = (alarm, current)

    def _periods(self, alarm: Alarm, current: int) -> list[list[float]]:
        """Return the metric's values in the last whole periods, oldest first."""
        first = current - alarm.evaluation_periods
        periods: list[list[float]] = [[] for _ in range(alarm.evaluation_periods)]
        wanted = (alarm.dimensions.get("EndpointName", ""), alarm.dimensions.get("VariantName", ""))
        if set(alarm.dimensions) != {"EndpointName", "VariantName"}:
            return periods
        with self._lock:
            samples = list(self._samples.get(wanted, ()))
        for sample in reversed(samples):
            position = int(sample.at // alarm.period) - first
            if position < 0:
                break
            if position < alarm.evaluation_periods:
                periods[position].append(sample.values[alarm.metric])
        return periods


def _is_evaluated(alarm: Alarm) -> bool:
    return known(alarm) and alarm.metric in _UNITS


def _datum(key: _Key, metric: str, values: list[float]) -> dict[str, Any]:
    endpoint, variant = key
    statistics = {"SampleCount": len(values), "Sum": sum(values), "Minimum": min(values), "Maximum": max(values)}
    return {
        "MetricName": metric,
        "Dimensions": [{"Name": "EndpointName", "Value": endpoint}, {"Name": "VariantName", "Value": variant}],
        "StatisticValues": statistics,
        "Unit": _UNITS[metric],
    }
