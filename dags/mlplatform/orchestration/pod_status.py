"""What a pod's status says, in one line for people."""

from __future__ import annotations

from kubernetes.client import models as k8s

from mlplatform.orchestration.disruptions import taken_away
from mlplatform.orchestration.pod_facts import terminated

_MESSAGE_LIMIT = 4000


def explain(pod: k8s.V1Pod | None, container: str, outlook: str = "") -> str:
    """Say in one line why a pod failed, and what to look at.

    Args:
        pod: as it was last seen.
        container: of the step.
        outlook: what another try does, to be added where the pod was taken away.
    """
    told, from_outside = _explain(pod, container)
    said = " ".join(told.split())
    return f"{said}; {outlook}" if from_outside and outlook else said


def _explain(pod: k8s.V1Pod | None, container: str) -> tuple[str, bool]:
    if pod is None or pod.status is None:
        return "the pod is gone and nobody knows how it ended", False
    name, status = pod.metadata.name, pod.status
    state = terminated(pod, container)
    if status.reason == "DeadlineExceeded":
        minutes = (pod.spec.active_deadline_seconds or 0) / 60
        return f"pod {name} ran longer than {minutes:g} minutes and was stopped (timeout_minutes of the step)", False
    if status.reason == "Evicted":
        return f"pod {name} was evicted: {status.message or 'no reason given'}", True
    if state is not None and state.reason == "OOMKilled":
        base = next(item for item in pod.spec.containers if item.name == container)
        memory = ((base.resources and base.resources.limits) or {}).get("memory", "its limit")
        return f"pod {name} ran out of memory ({memory}; memory of the step)", False
    taken = taken_away(pod, container)
    if taken is not None:
        return taken, True
    if state is not None:
        last = (state.message or status.message or state.reason or "no message").strip()[-_MESSAGE_LIMIT:]
        return f"pod {name} failed with exit code {state.exit_code}: {last}", False
    waiting = next((s.state.waiting for s in status.container_statuses or [] if s.name == container and s.state), None)
    if waiting is not None:
        return f"pod {name} never started: {waiting.reason}: {waiting.message or 'no message'}", False
    unscheduled = next((c for c in status.conditions or [] if c.type == "PodScheduled" and c.status == "False"), None)
    if unscheduled is not None:
        return f"pod {name} found no node: {unscheduled.message or unscheduled.reason}", False
    detail = ": ".join(part for part in (status.reason, status.message) if part)
    return f"pod {name} did not succeed; it is {status.phase}{': ' + detail if detail else ''}", False
