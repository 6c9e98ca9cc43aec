"""What the control plane remembers: models, endpoint configurations and tags. In memory only."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any


@dataclass(frozen=True)
class Names:
    """Builds ARNs. The real service writes names in lower case there and compares them without case."""

    region: str
    account: str

    def arn(self, kind: str, name: str) -> str:
        """Return the ARN of a model, endpoint-config or endpoint."""
        return f"arn:aws:sagemaker:{self.region}:{self.account}:{kind}/{name.lower()}"


@dataclass(frozen=True)
class Record:
    """A model or endpoint configuration as it was created; neither can be changed."""

    name: str
    arn: str
    created: datetime
    request: dict[str, Any]


@dataclass
class Store:
    """Everything but endpoints. Keys are lower-case names; hold `lock` while reading and writing."""

    names: Names
    lock: threading.RLock = field(default_factory=threading.RLock)
    models: dict[str, Record] = field(default_factory=dict)
    configs: dict[str, Record] = field(default_factory=dict)
    tags: dict[str, dict[str, str]] = field(default_factory=dict)


def now() -> datetime:
    """Return the time, aware, in UTC."""
    return datetime.now(UTC)
