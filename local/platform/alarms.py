"""The alarms that roll a deployment back: those that Terraform's module `serving` makes for each endpoint."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from local.platform.home import ROOT

VARIANT = "primary"
# Suffix of the name: metric, statistic, threshold (shares of requests, or microseconds). The module's own defaults.
_ALARMS: dict[str, tuple[str, str, float]] = {
    "5xx": ("Invocation5XXErrors", "Average", 0.01),
    "4xx": ("Invocation4XXErrors", "Average", 0.25),
    "latency": ("ModelLatency", "p99", 500_000),
    "overhead": ("OverheadLatency", "p99", 1_000_000),
}


def endpoints(root: Path = ROOT) -> dict[str, str]:
    """Return the name of each dataset's endpoint, by dataset; `serving.endpoint_name` of the local configuration."""
    return {path.stem: path.stem for path in sorted((root / "config" / "models").glob("*.yaml"))}


def rollback_alarm_names(endpoint: str) -> list[str]:
    """Return the names of an endpoint's alarms, sorted, as the module's output does."""
    return sorted(f"{endpoint}-rollback-{suffix}" for suffix in _ALARMS)


def rollback_alarms(endpoint: str) -> list[dict[str, Any]]:
    """Return a PutMetricAlarm request for each alarm of an endpoint."""
    return [_request(endpoint, suffix, *alarm) for suffix, alarm in _ALARMS.items()]


def _request(endpoint: str, suffix: str, metric: str, statistic: str, threshold: float) -> dict[str, Any]:
    how: dict[str, Any] = {"Statistic": statistic}
    if statistic.startswith("p"):
        how = {"ExtendedStatistic": statistic, "EvaluateLowSampleCountPercentile": "ignore"}
    return {
        "AlarmName": f"{endpoint}-rollback-{suffix}",
        "AlarmDescription": f"Endpoint {endpoint}: a deployment under way is rolled back.",
        "Namespace": "AWS/SageMaker",
        "MetricName": metric,
        "Dimensions": [{"Name": "EndpointName", "Value": endpoint}, {"Name": "VariantName", "Value": VARIANT}],
        **how,
        "Period": 60,
        "EvaluationPeriods": 3,
        "DatapointsToAlarm": 2,
        "ComparisonOperator": "GreaterThanThreshold",
        "Threshold": threshold,
        "TreatMissingData": "notBreaching",
    }
