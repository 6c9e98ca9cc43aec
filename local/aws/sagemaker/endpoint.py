"""One endpoint: its state, its fleets, and which of them answers a request."""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from local.aws.sagemaker.deployment import Deployment
from local.aws.sagemaker.fleet import Fleet, Variant
from local.aws.sagemaker.store import now


@dataclass
class Endpoint:
    """An endpoint; every field is read and written under the store's lock."""

    name: str
    arn: str
    created: datetime
    modified: datetime
    status: str
    config_name: str
    fleet: Fleet | None = None
    green: Fleet | None = None
    """The fleet of a deployment under way, once it gets requests."""
    shares: Mapping[str, float] = field(default_factory=dict)
    """The share of each variant's requests, from 0 to 1, that the green fleet gets."""
    pending: Deployment | None = None
    failure_reason: str | None = None
    last_deployment_config: dict[str, Any] | None = None

    def set_status(self, status: str) -> None:
        """Change the status and the time of the last change."""
        self.status = status
        self.modified = now()

    def choose(self, target: str | None) -> tuple[Fleet, Variant]:
        """Return who answers a request: a variant by its weight, then one of the two fleets by its share."""
        assert self.fleet is not None
        if self.green is None:
            return self.fleet, self.fleet.choose(target)
        if min(self.shares.values()) >= 1.0:
            return self.green, self.green.choose(target)
        variant = self.fleet.choose(target)
        if random.random() < self.shares.get(variant.name, 0.0):
            return self.green, self.green.choose(variant.name)
        return self.fleet, variant


@dataclass(frozen=True)
class Route:
    """Where one request goes."""

    endpoint: str
    variant: Variant
    capture: dict[str, Any] | None
    is_canary: bool
    """Whether a fleet answers that a deployment under way has brought."""
