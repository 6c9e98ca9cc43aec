"""What ended a Job of several pods, in one line for people."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from kubernetes.client import models as k8s

from mlplatform.orchestration.disruptions import began_to_end, event_time, gone, taken_away
from mlplatform.orchestration.pod_facts import deletion_asked_at, disruption, terminated
from mlplatform.orchestration.pod_status import explain

type Events = Sequence[k8s.CoreV1Event]
_NEVER = datetime.max.replace(tzinfo=UTC)
_LATE_LIMIT = 300


@dataclass(frozen=True)
class End:
    """How one pod of a job ended.

    Attributes:
        when: as far as it is known.
        from_outside: whether something took the pod away, or its memory was too small: no fault of another pod's.
        message: in one line.
        pod: if it is still there.
    """

    when: datetime
    from_outside: bool
    message: str
    pod: k8s.V1Pod | None = None


def first_end(
    pods: Sequence[k8s.V1Pod], events: Events, container: str, outlook: str, events_of: Callable[[str], Events]
) -> End | None:
    """Return the end of the pod that ended first: the others end because of it. None if that cannot be told.

    The job controller deletes a failed job's other pods. Those are healthy, and end with an exit code all the same.

    Args:
        pods: of the job that are still there.
        events: about the job itself.
        container: of the step.
        outlook: what another try does after a pod was taken away.
        events_of: returns the events about a pod, also of one that is gone.
    """
    cleared_away = _named(events, "SuccessfulDelete", "Deleted pod: ")
    # Many events of one kind are combined into one, and then some names are missing.
    known = bool(events) and not any("combined from similar events" in (event.message or "") for event in events)
    ends = []
    for pod in pods:
        if pod.status.phase == "Succeeded":
            continue
        name, asked, condition = pod.metadata.name, deletion_asked_at(pod), disruption(pod)
        taken = taken_away(pod, container)
        if condition is not None:
            when = condition.last_transition_time or asked or _NEVER
            ends.append(End(when, True, explain(pod, container, outlook), pod))
        elif taken is None and pod.status.phase == "Failed":
            ends.append(_own_end(pod, container, outlook))
        elif taken is not None and known and name not in cleared_away:
            ends.append(End(asked or _NEVER, True, f"{taken}; {outlook}", pod))
    if known:
        there = {pod.metadata.name for pod in pods}
        for name in sorted(_named(events, "SuccessfulCreate", "Created pod: ") - there - cleared_away):
            told = events_of(name)
            ends.append(End(began_to_end(told) or _NEVER, True, f"{gone(name, told)}; {outlook}"))
    # Times are whole seconds; of several ends in the same one, the one that came from outside was first.
    return min(ends, key=lambda end: (end.when.replace(microsecond=0), not end.from_outside), default=None)


def not_started(events: Events, events_of: Callable[[str], Events]) -> str | None:
    """Return which of a failed job's pods were cleared away before they had started, and why; None if there are none.

    The others wait for them, and in the end fail because of that, in their own words.
    """
    late = []
    for name in sorted(_named(events, "SuccessfulDelete", "Deleted pod: ")):
        told = sorted(events_of(name), key=event_time)
        warnings = [event for event in told if event.type == "Warning"]
        if warnings and not any(event.reason == "Started" for event in told):
            message = " ".join((warnings[-1].message or "").split())
            late.append(f"pod {name} had not started by then ({warnings[-1].reason}: {message[:_LATE_LIMIT]})")
    return "; ".join(late) or None


def not_made(events: Events) -> str | None:
    """Return why pods of a job could not be made, in the API's words; None if there was no such thing."""
    failed = [event for event in events if event.reason == "FailedCreate"]
    if not failed:
        return None
    message: str = max(failed, key=event_time).message or ""
    return message.removeprefix("Error creating: ")


def made(events: Events, pods: Iterable[k8s.V1Pod], job: k8s.V1Job | None = None) -> int:
    """Return how many pods a job has got, those that are gone among them."""
    named = _named(events, "SuccessfulCreate", "Created pod: ") | {pod.metadata.name for pod in pods}
    status = job.status if job is not None else None
    counted = sum(filter(None, (status.active, status.succeeded, status.failed))) if status else 0
    return max(len(named), counted)


def explain_job(name: str, job: k8s.V1Job | None, given_up: str = "") -> str:
    """Say in one line why a job did not succeed of which no pod tells more.

    Args:
        name: of the job.
        job: as it was last seen, None if it is gone.
        given_up: why a job that has not ended was not watched any longer.
    """
    if job is None:
        return f"job {name} is gone: somebody deleted it"
    failed = next((c for c in (job.status.conditions or []) if c.type == "Failed" and c.status == "True"), None)
    if failed is None:
        why = given_up or "not all of its pods have ended after the first one did"
        return f"job {name} did not come to its end: {why}"
    if failed.reason == "DeadlineExceeded":
        minutes = job.spec.active_deadline_seconds / 60
        return f"job {name} took longer than {minutes:g} minutes with starting (timeout_minutes of the step)"
    return f"job {name} failed: one of its pods was deleted, or its node was lost, before it ended"


def _own_end(pod: k8s.V1Pod, container: str, outlook: str) -> End:
    state = terminated(pod, container)
    from_outside = bool(pod.status.reason) or (state is not None and state.reason == "OOMKilled")
    when = state.finished_at if state is not None and state.finished_at else datetime.fromtimestamp(0, UTC)
    return End(when, from_outside, explain(pod, container, outlook), pod)


def _named(events: Events, reason: str, prefix: str) -> set[str]:
    words = [re.fullmatch(rf"{prefix}(\S+)", event.message or "") for event in events if event.reason == reason]
    return {found[1] for found in words if found}
