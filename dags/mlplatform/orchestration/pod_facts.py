"""What Kubernetes says of a pod, before it is put in words."""

from __future__ import annotations

from datetime import datetime, timedelta

from kubernetes.client import models as k8s


def is_being_deleted(pod: k8s.V1Pod) -> bool:
    """Tell whether a pod is to go: within its grace period it still runs, and writes."""
    return pod.metadata.deletion_timestamp is not None


def has_ended(pod: k8s.V1Pod) -> bool:
    """Tell whether none of a pod's containers runs any more."""
    return pod.status is not None and pod.status.phase in ("Succeeded", "Failed")


def terminated(pod: k8s.V1Pod | None, container: str) -> k8s.V1ContainerStateTerminated | None:
    """Return how a container ended, None if it has not."""
    statuses = (pod.status.container_statuses if pod is not None and pod.status else None) or []
    return next((s.state.terminated for s in statuses if s.name == container and s.state), None)


def exit_code(pod: k8s.V1Pod | None, container: str) -> int | None:
    """Return a container's exit code, None if it has not ended."""
    state = terminated(pod, container)
    return state.exit_code if state else None


def disruption(pod: k8s.V1Pod) -> k8s.V1PodCondition | None:
    """Return the condition that says what took a pod away."""
    conditions = (pod.status.conditions if pod.status else None) or []
    return next((c for c in conditions if c.type == "DisruptionTarget" and c.status == "True"), None)


def deletion_asked_at(pod: k8s.V1Pod) -> datetime | None:
    """Return when a pod was told to go; its deletion timestamp is the end of the grace it then has."""
    if pod.metadata.deletion_timestamp is None:
        return None
    grace = timedelta(seconds=pod.metadata.deletion_grace_period_seconds or 0)
    return pod.metadata.deletion_timestamp - grace  # type: ignore[no-any-return]
