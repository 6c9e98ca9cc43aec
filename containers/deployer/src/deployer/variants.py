"""What each variant of an endpoint did: ``python -m deployer variants --endpoint …``.

Requests, errors and latency as CloudWatch counted them. Which answers were right is known later, by monitoring.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from boto3.session import Session
from botocore.exceptions import BotoCoreError, ClientError

from deployer.sagemaker_api import is_missing
from mlplatform.errors import NonRetryableError
from mlplatform.steps import EXIT_DONE, EXIT_FAILED, EXIT_NON_RETRYABLE

LONGEST_HOURS = 1400
"""CloudWatch answers with 1440 data points at most, and there is one for each hour."""


@dataclass(frozen=True)
class Counted:
    """A metric in a window."""

    sum: float = 0.0
    samples: float = 0.0
    largest: float = 0.0

    @property
    def mean(self) -> float | None:
        """Of all samples; None without any."""
        return self.sum / self.samples if self.samples else None


@dataclass(frozen=True)
class Traffic:
    """What a variant was asked and answered."""

    variant: str
    version: str | None
    """Of the model that it runs now; None of one that no deployment made."""
    share: float
    """Of the requests that it gets now."""
    requests: int
    client_errors: int
    server_errors: int
    mean_ms: float | None
    largest_ms: float


def add_up(datapoints: Iterable[dict[str, Any]]) -> Counted:
    """Return all of a metric's data points as one."""
    points = list(datapoints)
    return Counted(
        sum(point["Sum"] for point in points),
        sum(point["SampleCount"] for point in points),
        max((point["Maximum"] for point in points), default=0.0),
    )


def table(traffic: Sequence[Traffic]) -> str:
    """Return the figures as lines of text."""
    rows = [("variant", "version", "share", "requests", "4xx", "5xx", "mean ms", "max ms")]
    for one in traffic:
        rows.append(
            (
                one.variant,
                one.version or "-",
                f"{one.share:.1%}",
                str(one.requests),
                _errors(one.client_errors, one.requests),
                _errors(one.server_errors, one.requests),
                "-" if one.mean_ms is None else f"{one.mean_ms:.1f}",
                "-" if one.mean_ms is None else f"{one.largest_ms:.1f}",
            )
        )
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join(
        "  ".join(
            text.ljust(width) if position < 2 else text.rjust(width)
            for position, (text, width) in enumerate(zip(row, widths, strict=True))
        )
        for row in rows
    )


def _errors(number: int, requests: int) -> str:
    return f"{number} ({number / requests:.2%})" if requests else "-"


def read(session: Session, endpoint: str, start: datetime, end: datetime) -> tuple[list[Traffic], datetime]:
    """Return what each variant did in a window, and when the endpoint was changed last.

    Raises:
        NonRetryableError: there is no such endpoint, or it has no variants yet.
    """
    sagemaker, cloudwatch = session.client("sagemaker"), session.client("cloudwatch")
    try:
        found = sagemaker.describe_endpoint(EndpointName=endpoint)
    except ClientError as error:
        if is_missing(error):
            raise NonRetryableError(f"endpoint {endpoint}: there is none in {session.region_name}") from None
        raise
    if not found.get("ProductionVariants"):
        raise NonRetryableError(f"endpoint {endpoint} is {found['EndpointStatus']} and has no variants yet")
    config = sagemaker.describe_endpoint_config(EndpointConfigName=found["EndpointConfigName"])
    models = {variant["VariantName"]: variant["ModelName"] for variant in config["ProductionVariants"]}
    weights = {variant["VariantName"]: variant["CurrentWeight"] for variant in found["ProductionVariants"]}

    def count(variant: str, metric: str) -> Counted:
        answer = cloudwatch.get_metric_statistics(
            Namespace="AWS/SageMaker",
            MetricName=metric,
            Dimensions=[{"Name": "EndpointName", "Value": endpoint}, {"Name": "VariantName", "Value": variant}],
            StartTime=start,
            EndTime=end,
            Period=3600,
            Statistics=["Sum", "SampleCount", "Maximum"],
        )
        return add_up(answer["Datapoints"])

    traffic = []
    for name, weight in weights.items():
        model = sagemaker.describe_model(ModelName=models[name])
        latency = count(name, "ModelLatency")  # microseconds
        traffic.append(
            Traffic(
                variant=name,
                version=model.get("PrimaryContainer", {}).get("Environment", {}).get("MODEL_VERSION"),
                share=weight / (sum(weights.values()) or 1.0),
                requests=round(count(name, "Invocations").sum),
                client_errors=round(count(name, "Invocation4XXErrors").sum),
                server_errors=round(count(name, "Invocation5XXErrors").sum),
                mean_ms=None if latency.mean is None else latency.mean / 1000,
                largest_ms=latency.largest / 1000,
            )
        )
    return traffic, found["LastModifiedTime"]


def main(argv: Sequence[str]) -> int:
    """Print the figures and return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m deployer variants", description="Results by variant.")
    parser.add_argument("--endpoint", required=True)
    parser.add_argument("--hours", type=_hours, default=24, help="how far to look back (24)")
    parser.add_argument("--region", help="else that of the environment")
    args = parser.parse_args(argv)
    end = datetime.now(UTC)
    start = end - timedelta(hours=args.hours)
    try:
        traffic, changed = read(Session(region_name=args.region), args.endpoint, start, end)
    except NonRetryableError as refused:
        print(f"variants: {refused}", file=sys.stderr)
        return EXIT_NON_RETRYABLE
    except (BotoCoreError, ClientError) as error:
        print(f"variants: AWS: {error}", file=sys.stderr)
        return EXIT_FAILED
    print(f"{args.endpoint}, {start:%Y-%m-%d %H:%M} to {end:%Y-%m-%d %H:%M} UTC")
    print(table(traffic))
    if changed > start:
        print(
            f"The endpoint was changed at {changed.astimezone(UTC):%Y-%m-%d %H:%M} UTC: what came before may have been "
            "answered by other versions, or with other shares."
        )
    return EXIT_DONE


def _hours(text: str) -> int:
    if not (text.isdecimal() and 1 <= int(text) <= LONGEST_HOURS):
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number from 1 to {LONGEST_HOURS}")
    return int(text)
