"""One deployment under way: what it brings, and what DescribeEndpoint says of it."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from local.aws.sagemaker.fleet import Fleet
from local.aws.sagemaker.rollout import Rollout
from local.aws.sagemaker.store import Record, now

_RETAINED_MEMBERS = {"DesiredWeight": "InitialVariantWeight", "DesiredInstanceCount": "InitialInstanceCount"}


@dataclass
class Deployment:
    """A fleet on its way into service."""

    config: Record
    rollout: Rollout
    retained: dict[str, dict[str, Any]]
    deployment_config: dict[str, Any] | None
    started: datetime = field(default_factory=now)
    stage: str = "Creating"
    stage_started: datetime = field(default_factory=now)
    shares: dict[str, float] = field(default_factory=dict)

    def enter(self, stage: str) -> None:
        """Go on to the next stage, one of those of a VariantStatus."""
        self.stage = stage
        self.stage_started = now()

    def summary(self) -> dict[str, Any]:
        """Return what DescribeEndpoint shows as PendingDeploymentSummary."""
        requests = with_retained(self.config.request, self.retained)
        return {
            "EndpointConfigName": self.config.name,
            "ProductionVariants": [self._variant(request) for request in requests],
            "StartTime": self.started,
        }

    def _variant(self, request: dict[str, Any]) -> dict[str, Any]:
        weight, count = request["InitialVariantWeight"], request["InitialInstanceCount"]
        share = self.shares.get(request["VariantName"], 0.0)
        return {
            "VariantName": request["VariantName"],
            "CurrentWeight": weight * share,
            "DesiredWeight": weight,
            "CurrentInstanceCount": 0 if self.stage == "Creating" else count,
            "DesiredInstanceCount": count,
            "InstanceType": request["InstanceType"],
            "VariantStatus": [{"Status": self.stage, "StartTime": self.stage_started}],
        }


def with_retained(config: dict[str, Any], retained: dict[str, dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the variants of a configuration with the weights and counts that an update keeps."""
    return [request | retained.get(request["VariantName"], {}) for request in config["ProductionVariants"]]


def retained(fleet: Fleet | None, params: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Return what an UpdateEndpoint request keeps of the live variants, by variant: weight and instance count."""
    if not params.get("RetainAllVariantProperties"):
        return {}
    excluded = {item["VariantPropertyType"] for item in params.get("ExcludeRetainedVariantProperties", [])}
    kept = {member: request for member, request in _RETAINED_MEMBERS.items() if member not in excluded}
    variants = fleet.variants if fleet else []
    return {v.name: {request: v.summary()[member] for member, request in kept.items()} for v in variants}
