"""What took a pod away before its step was done, as far as Kubernetes tells."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime, timedelta

from kubernetes.client import models as k8s

from mlplatform.steps import EXIT_NON_RETRYABLE

_NODE_LOST = "because its node did not answer any more or was to be emptied"
# Reasons of a pod's condition DisruptionTarget.
_CONDITIONS = {
    "PreemptionByScheduler": "for a pod of higher priority",
    "DeletionByTaintManager": _NODE_LOST,
    "EvictionByEvictionAPI": "by an eviction, as when its node is drained or scaled down",
    "DeletionByPodGC": "because its node is gone",
    "TerminationByKubelet": "by its node, which was short of room or shut down",
}
# Reasons of a pod's events, of several the first one here: those after it are what followed.
_EVENTS = {
    "Preempted": "for a pod of higher priority",
    "Evicted": "by its node",
    "ScaleDown": "because its node was scaled down",
    "TaintManagerEviction": _NODE_LOST,
    "NodeNotReady": "because its node did not answer any more",
}
_MESSAGE_LIMIT = 1000


def is_being_deleted(pod: k8s.V1Pod) -> bool:
    """Tell whether a pod is to go: within its grace period it still runs, and writes."""
    return pod.metadata.deletion_timestamp is not None


def has_ended(pod: k8s.V1Pod) -> bool:
    """Tell whether none of a pod's containers runs any more."""
    return pod.status is not None and pod.status.phase in ("Succeeded", "Failed")


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


def taken_away(pod: k8s.V1Pod, container: str) -> str | None:
    """Say in one line what took a pod away; None for one that ended by itself, whatever became of it afterwards."""
    statuses = (pod.status.container_statuses if pod.status else None) or []
    state = next((s.state.terminated for s in statuses if s.name == container and s.state), None)
    if state is not None and state.exit_code == EXIT_NON_RETRYABLE:  # the step's word, whoever else spoke
        return None
    condition = disruption(pod)
    if condition is not None:
        return _taken(pod.metadata.name, _CONDITIONS.get(condition.reason, ""), condition.reason, condition.message)
    asked = deletion_asked_at(pod)
    if asked is None or (state is not None and state.finished_at is not None and state.finished_at < asked):
        return None
    return f"pod {pod.metadata.name} was deleted, and nobody says by whom"


def gone(name: str, events: Iterable[k8s.CoreV1Event]) -> str:
    """Say in one line what became of a pod that is not there any more."""
    return told_by_events(name, events) or (
        f"pod {name} is gone, and nobody says why: it was deleted, or its node is gone"
    )


def told_by_events(name: str, events: Iterable[k8s.CoreV1Event]) -> str | None:
    """Say in one line what took a pod away, None if its events do not tell; they outlive it by an hour."""
    told: dict[str, k8s.CoreV1Event] = {}
    for event in sorted(events, key=event_time):
        if event.reason == "TaintManagerEviction" and (event.message or "").startswith("Cancelling"):
            for reason in ("TaintManagerEviction", "NodeNotReady"):  # the node was back in time
                told.pop(reason, None)
        else:
            told[event.reason] = event
    if "DeadlineExceeded" in told:
        return f"pod {name} ran longer than it may and was stopped (timeout_minutes of the step)"
    for reason, why in _EVENTS.items():
        if reason in told:
            return _taken(name, why, reason, told[reason].message)
    if "Killing" in told:
        return f"pod {name} was deleted while it ran, and nobody says by whom"
    return None


def event_time(event: k8s.CoreV1Event) -> datetime:
    """Return when an event was last seen."""
    return event.last_timestamp or event.event_time or event.first_timestamp or datetime.fromtimestamp(0, UTC)


def _taken(name: str, why: str, reason: str | None, message: str | None) -> str:
    detail = ": ".join(" ".join(part.split()) for part in (reason, message) if part)[:_MESSAGE_LIMIT]
    return f"pod {name} was taken away {why}".rstrip() + (f" ({detail})" if detail else "")
