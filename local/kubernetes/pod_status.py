"""What the kubelet tells of a pod: its conditions, its containers' states, and, last of all, its phase."""

from __future__ import annotations

from dataclasses import dataclass

from local.kubernetes.containers import Container, set_condition
from local.kubernetes.errors import JSON


@dataclass(frozen=True)
class Stop:
    """Why a pod is stopped: seconds between SIGTERM and SIGKILL; a reason makes the pod Failed with it.

    Attributes:
        disruption: the reason of the DisruptionTarget condition that the pod ends with.
    """

    grace: float
    reason: str | None = None
    message: str | None = None
    disruption: str | None = None


@dataclass(frozen=True)
class PodState:
    """What a pod's worker knows of it.

    Attributes:
        sandbox: whether it has its volumes and network.
        initialized: whether its init containers have succeeded.
        over: whether nothing of it runs any more, and nothing will.
        told: whether its end is to be told; the kubelet first makes sure of it.
    """

    containers: list[Container]
    sandbox: bool
    initialized: bool
    over: bool
    told: bool
    stop: Stop | None

    @property
    def main(self) -> list[Container]:
        """The containers that are no init containers."""
        return [container for container in self.containers if not container.is_init]

    @property
    def outcome(self) -> str | None:
        """The phase that the pod ends with; None while it is not known."""
        failed = any(c.is_init and c.exit_code for c in self.containers)
        if not (self.over or failed or all(c.exit_code is not None for c in self.main)):
            return None
        told_why = self.stop is not None and self.stop.reason is not None
        return "Failed" if told_why or any(c.exit_code != 0 for c in self.containers) else "Succeeded"

    @property
    def phase(self) -> str:
        """The phase that is told of it now."""
        if self.told and self.outcome is not None:
            return self.outcome
        if not self.initialized or any("waiting" in c.state for c in self.main):
            return "Pending"
        return "Running"

    def write(self, pod: JSON) -> None:
        """Write the status into a pod."""
        status, outcome = pod["status"], self.outcome
        status["phase"] = self.phase
        if "generation" in pod["metadata"]:
            status["observedGeneration"] = pod["metadata"]["generation"]
        if self.told and self.stop is not None and self.stop.reason is not None:
            status["reason"], status["message"] = self.stop.reason, self.stop.message
            if self.stop.disruption is not None:
                set_condition(pod, "DisruptionTarget", True, self.stop.disruption, self.stop.message)
        set_condition(pod, "PodReadyToStartContainers", self.sandbox and not self.told)
        self._write_initialized(pod, outcome)
        self._write_ready(pod, outcome)
        status["containerStatuses"] = [c.status() for c in self.main]
        if len(self.main) != len(self.containers):
            status["initContainerStatuses"] = [c.status() for c in self.containers if c.is_init]

    def _write_initialized(self, pod: JSON, outcome: str | None) -> None:
        if self.initialized:
            set_condition(pod, "Initialized", True, "PodCompleted" if outcome == "Succeeded" else None)
            return
        left = [c.name for c in self.containers if c.is_init and c.exit_code != 0]
        message = f"containers with incomplete status: [{' '.join(left)}]" if left else None
        set_condition(pod, "Initialized", not left, "ContainersNotInitialized" if left else None, message)

    def _write_ready(self, pod: JSON, outcome: str | None) -> None:
        unready = [c.name for c in self.main if not c.running]
        if outcome is not None:
            reason, message = {"Succeeded": "PodCompleted", "Failed": "PodFailed"}[outcome], None
        elif unready:
            reason, message = "ContainersNotReady", f"containers with unready status: [{' '.join(unready)}]"
        else:
            reason, message = None, None
        for kind in ("Ready", "ContainersReady"):
            set_condition(pod, kind, reason is None, reason, message)
