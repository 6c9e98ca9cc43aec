"""CloudWatch: what it counted of an endpoint, and what monitoring found, for alarms."""

from __future__ import annotations

import logging
import math
from collections.abc import Iterable
from typing import Any

from mlplatform.config.base import LOWER_IS_BETTER
from mlplatform.documents.monitoring import MonitorResult, VariantErrors
from mlplatform.documents.run import Watch

log = logging.getLogger(__name__)

NAMESPACE = "MLPlatform/Monitoring"
COUNTED = ("Invocations", "Invocation4XXErrors", "Invocation5XXErrors")
_PER_REQUEST = 500


def client(region: str) -> Any:
    """Return a client of CloudWatch."""
    import boto3

    return boto3.client("cloudwatch", region_name=region)


def errors(cloudwatch: Any, watch: Watch, variants: Iterable[str]) -> dict[str, VariantErrors]:
    """Return what SageMaker counted of each variant in the window; empty where CloudWatch does not tell."""
    from botocore.exceptions import BotoCoreError, ClientError

    def total(variant: str, metric: str) -> float:
        period = 3600 if (watch.end - watch.start).total_seconds() <= 1400 * 3600 else 86400
        answer = cloudwatch.get_metric_statistics(
            Namespace="AWS/SageMaker",
            MetricName=metric,
            Dimensions=[
                {"Name": "EndpointName", "Value": watch.endpoint_name},
                {"Name": "VariantName", "Value": variant},
            ],
            StartTime=watch.start,
            EndTime=watch.end,
            Period=period,
            Statistics=["Sum"],
        )
        return float(sum(point["Sum"] for point in answer["Datapoints"]))

    try:
        return {
            variant: VariantErrors(
                invocations=total(variant, COUNTED[0]),
                client_errors=total(variant, COUNTED[1]),
                server_errors=total(variant, COUNTED[2]),
            )
            for variant in variants
        }
    except (ClientError, BotoCoreError) as error:
        log.warning("requests and errors are not known: %s", error)
        return {}


def measurements(result: MonitorResult) -> dict[str | None, dict[str, float]]:
    """Return what to put under each version's name, and under None what holds for the endpoint."""
    outcome = result.verdict.outcome
    found: dict[str | None, dict[str, float]] = {
        None: {
            "Requests": result.requests,
            "Rows": result.rows,
            "MalformedRecords": result.malformed,
            "Drifted": float(outcome == "drifted"),
            "Degraded": float(outcome == "degraded"),
            "Judged": float(outcome != "too-few"),
        }
    }
    for version in result.versions:
        values: dict[str, float] = {"Requests": version.requests, "Rows": version.rows}
        if version.features:
            values["MaximumFeaturePSI"] = max(one.psi for one in version.features.values())
            values["MissingShare"] = max(one.missing for one in version.features.values())
            values["UnknownCategoryShare"] = max((one.unknown or 0.0) for one in version.features.values())
        if version.prediction:
            values["PredictionPSI"] = version.prediction.psi
        quality = version.quality
        if quality and quality.value is not None:
            values["LabelledRows"] = quality.rows
            values["Quality"] = quality.value
            if quality.evaluated is not None:
                worse = quality.value - quality.evaluated
                values["QualityLoss"] = worse if quality.metric in LOWER_IS_BETTER else -worse
        found[version.model_version] = {name: value for name, value in values.items() if math.isfinite(value)}
    return found


def publish(cloudwatch: Any, result: MonitorResult, environment: str, dataset: str) -> None:
    """Put the measurements, at the window's end, so that a step done again puts them in the same place."""
    data = []
    for version, values in measurements(result).items():
        dimensions = {"Environment": environment, "Dataset": dataset, **({"ModelVersion": version} if version else {})}
        for name, value in values.items():
            data.append(
                {
                    "MetricName": name,
                    "Dimensions": [{"Name": key, "Value": text} for key, text in dimensions.items()],
                    "Timestamp": result.end,
                    "Value": value,
                }
            )
    for first in range(0, len(data), _PER_REQUEST):
        cloudwatch.put_metric_data(Namespace=NAMESPACE, MetricData=data[first : first + _PER_REQUEST])
