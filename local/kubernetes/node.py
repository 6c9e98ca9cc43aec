"""What all pods of this machine share: the API's objects, images, faults, folders, and what every container gets."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from local.images import ImageRegistry
from local.kubernetes.events import EventRecorder
from local.kubernetes.faults import Faults
from local.kubernetes.processes import Guard
from local.kubernetes.store import Store

DEFAULT_TIME_SCALE = 20.0


@dataclass(frozen=True)
class Node:
    """The machine that pods run on, whatever node they are bound to.

    Attributes:
        start_delay: seconds a pod stays in ContainerCreating.
        time_scale: how many times faster than in a real cluster Kubernetes' own waits pass.
    """

    store: Store
    images: ImageRegistry
    faults: Faults
    events: EventRecorder
    guard: Guard
    pods_dir: Path
    logs_dir: Path
    pod_env_file: Path | None
    start_delay: float
    time_scale: float = DEFAULT_TIME_SCALE

    def scaled(self, seconds: float) -> float:
        """Return how long a wait takes here, of the seconds that it takes in a real cluster."""
        return seconds / self.time_scale

    def pod_env(self) -> dict[str, str]:
        """Return what every container gets (as EKS Pod Identity gives it), read anew so that it can change."""
        return read_pod_env(self.pod_env_file)


def read_pod_env(path: Path | None) -> dict[str, str]:
    """Read the JSON file of environment variables for every pod; ValueError when it is something else."""
    if path is None:
        return {}
    values = json.loads(path.read_text())
    if not isinstance(values, dict) or not all(isinstance(value, str) for value in values.values()):
        raise ValueError(f'{path}: must be a JSON object of strings, such as {{"AWS_REGION": "us-east-1"}}')
    return values
