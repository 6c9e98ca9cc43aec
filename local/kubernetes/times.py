"""Times as the API writes them."""

from __future__ import annotations

import time
from datetime import UTC, datetime


def timestamp(at: float | None = None) -> str:
    """Return a metav1.Time: UTC, whole seconds."""
    return _utc(at).strftime("%Y-%m-%dT%H:%M:%SZ")


def microtime(at: float | None = None) -> str:
    """Return a metav1.MicroTime: UTC, six digits."""
    return _utc(at).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def _utc(at: float | None) -> datetime:
    return datetime.fromtimestamp(time.time() if at is None else at, UTC)
