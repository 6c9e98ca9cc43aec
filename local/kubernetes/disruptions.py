"""What ends a pod before its time, as its DisruptionTarget condition tells it."""

from __future__ import annotations

from local.kubernetes.containers import set_condition
from local.kubernetes.errors import JSON
from local.kubernetes.scheduler import tolerates

_UNREACHABLE = {"key": "node.kubernetes.io/unreachable", "effect": "NoExecute"}
_MESSAGES = {
    "EvictionByEvictionAPI": "Eviction API: evicting",
    "PreemptionByScheduler": "default-scheduler: preempting to accommodate a higher priority pod",
    "DeletionByTaintManager": "Taint manager: deleting due to NoExecute taint",
    "DeletionByPodGC": "PodGC: node no longer exists",
}


def mark(pod: JSON, reason: str) -> None:
    """Set a pod's DisruptionTarget condition, in place."""
    set_condition(pod, "DisruptionTarget", True, reason, _MESSAGES[reason])


def mark_orphaned(pod: JSON) -> None:
    """Make a pod whose node is gone Failed, in place: nobody else will tell its end."""
    mark(pod, "DeletionByPodGC")
    pod["status"]["phase"] = "Failed"


def seconds_tolerated(pod: JSON) -> float | None:
    """Return how long a pod stays on a node that cannot be reached; None for ever."""
    matching = [t for t in pod["spec"].get("tolerations", []) if tolerates(t, _UNREACHABLE)]
    if not matching:
        return 0.0
    return min((float(t["tolerationSeconds"]) for t in matching if "tolerationSeconds" in t), default=None)
