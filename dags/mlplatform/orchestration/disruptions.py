"""What took a pod away before its step was done, as far as Kubernetes tells."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime

from kubernetes.client import models as k8s

from mlplatform.orchestration.pod_facts import deletion_asked_at, disruption, terminated
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
_STOPPED = "Killing"  # whoever asked for it
_MESSAGE_LIMIT = 1000


def taken_away(pod: k8s.V1Pod, container: str) -> str | None:
    """Say in one line what took a pod away; None for one that ended by itself, whatever became of it afterwards."""
    state = terminated(pod, container)
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
    if _STOPPED in told:
        return f"pod {name} was deleted while it ran, and nobody says by whom"
    return None


def began_to_end(events: Iterable[k8s.CoreV1Event]) -> datetime | None:
    """Return when the first of a pod's events was that took it away, None if there was none."""
    return min((event_time(event) for event in events if event.reason in (*_EVENTS, _STOPPED)), default=None)


def event_time(event: k8s.CoreV1Event) -> datetime:
    """Return when an event was last seen."""
    return event.last_timestamp or event.event_time or event.first_timestamp or datetime.fromtimestamp(0, UTC)


def _taken(name: str, why: str, reason: str | None, message: str | None) -> str:
    detail = ": ".join(" ".join(part.split()) for part in (reason, message) if part)[:_MESSAGE_LIMIT]
    return f"pod {name} was taken away {why}".rstrip() + (f" ({detail})" if detail else "")
