"""The phases of a pod that are its last."""

from __future__ import annotations

from local.kubernetes.errors import JSON


def is_over(pod: JSON) -> bool:
    """Tell whether a pod has ended; a new one has no phase yet."""
    return pod.get("status", {}).get("phase") in ("Succeeded", "Failed")
