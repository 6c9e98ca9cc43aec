"""One container of a pod: what is known of it, and how its status shows it."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from local.kubernetes.errors import JSON
from local.kubernetes.logs import ContainerLog
from local.kubernetes.processes import ContainerProcess
from local.kubernetes.records import ContainerRecord
from local.kubernetes.sidecar import Sidecar
from local.kubernetes.times import timestamp


@dataclass(eq=False)
class Container:
    """One container of a pod and what became of it so far."""

    spec: JSON
    is_init: bool
    record: ContainerRecord
    state: JSON
    runtime: ContainerProcess | Sidecar | None = None
    log: ContainerLog | None = None
    env: dict[str, str] = field(default_factory=dict)
    cwd: Path = Path("/")
    mounted: dict[str, Path] = field(default_factory=dict)
    execs: set[ContainerProcess] = field(default_factory=set)
    out_of_memory: bool = False

    @property
    def name(self) -> str:
        """The container's name, unique in its pod."""
        return str(self.spec["name"])

    @property
    def running(self) -> bool:
        """Whether it has started and not ended."""
        return "running" in self.state

    @property
    def exit_code(self) -> int | None:
        """The exit code, None before the end."""
        return self.state.get("terminated", {}).get("exitCode")

    def status(self) -> JSON:
        """Return its entry of containerStatuses."""
        container_id = f"local://{self.record.pid or 0}" if "waiting" not in self.state else ""
        result = {
            "name": self.name,
            "image": self.spec["image"],
            "imageID": "" if "waiting" in self.state else self.spec["image"],
            "ready": self.exit_code == 0 if self.is_init else self.running,
            "started": self.running,
            "restartCount": 0,
            "lastState": {},
            "state": self.state,
        }
        return result | ({"containerID": container_id} if container_id else {})


def set_condition(pod: JSON, kind: str, value: bool, reason: str | None = None, message: str | None = None) -> None:
    """Set a condition in place; its transition time moves only when its value does."""
    conditions = pod["status"].setdefault("conditions", [])
    old = next((c for c in conditions if c["type"] == kind), None)
    new: JSON = {"type": kind, "status": "True" if value else "False", "lastProbeTime": None}
    new |= {key: text for key, text in (("reason", reason), ("message", message)) if text}
    if "generation" in pod["metadata"]:
        new["observedGeneration"] = pod["metadata"]["generation"]
    kept = old is not None and old["status"] == new["status"]
    new["lastTransitionTime"] = old["lastTransitionTime"] if old is not None and kept else timestamp()
    conditions[:] = [c for c in conditions if c["type"] != kind] + [new]
