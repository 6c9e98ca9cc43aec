"""What the end-to-end tests look through: the README's commands, Kubernetes, what is live, what is left."""

from __future__ import annotations

import json
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil

from local.pipeline import driver
from local.pipeline.attached import AttachedPlatform
from local.platform.processes import MARKER

ROOT = Path(__file__).parents[2]


@dataclass
class Shell:
    """Runs the README's commands as a reader would, and remembers which."""

    environment: dict[str, str]
    ran: dict[str, subprocess.CompletedProcess[str]] = field(default_factory=dict)

    def __call__(self, command: str, timeout: float = 1200) -> subprocess.CompletedProcess[str]:
        done = subprocess.run(
            command,
            shell=True,
            cwd=ROOT,
            env=self.environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=timeout,
        )
        self.ran[command] = done
        return done


class Kubernetes:
    """The local Kubernetes API as its administrator has it: faults, pods, rights and limits."""

    def __init__(self, platform: AttachedPlatform) -> None:
        self._http = platform.kubernetes
        self.pods = platform.pods

    def fault(self, **body: Any) -> None:
        self._http.post("/local/faults", json=body).raise_for_status()

    def faults(self) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = self._http.get("/local/faults").raise_for_status().json()
        return found

    def clear_faults(self) -> None:
        self._http.delete("/local/faults").raise_for_status()

    @contextmanager
    def changed(self, path: str, **changes: Any) -> Iterator[None]:
        """Change an object by a merge patch, and put it back as it was."""
        before = self._http.get(path).raise_for_status().json()
        headers = {"Content-Type": "application/merge-patch+json"}
        self._http.patch(path, content=json.dumps(changes), headers=headers).raise_for_status()
        try:
            yield
        finally:
            del before["metadata"]["resourceVersion"]
            self._http.put(path, json=before).raise_for_status()

    @contextmanager
    def occupied(self, namespace: str) -> Iterator[None]:
        """Have a pod there that never starts, for want of its image; quotas count it all the same."""
        pods = f"/api/v1/namespaces/{namespace}/pods"
        security: dict[str, Any] = {
            "runAsNonRoot": True,
            "allowPrivilegeEscalation": False,
            "capabilities": {"drop": ["ALL"]},
            "seccompProfile": {"type": "RuntimeDefault"},
        }
        container = {"name": "base", "image": "nobody.invalid/nothing:1", "securityContext": security}
        pod = {"metadata": {"name": "occupant"}, "spec": {"containers": [container], "restartPolicy": "Never"}}
        self._http.post(pods, json=pod).raise_for_status()
        try:
            yield
        finally:
            self._http.delete(f"{pods}/occupant?gracePeriodSeconds=0").raise_for_status()

    def refusals(self) -> list[str]:
        """Return the paths of the requests that were refused with 403."""
        requests = self._http.get("/local/requests").raise_for_status().json()
        return [request["path"] for request in requests if request["status"] == 403]


@dataclass(frozen=True)
class LiveState:
    """What must not change when a candidate does not make it."""

    champion: str
    configuration: str
    versions: int
    answered_by: str

    @classmethod
    def of(cls, platform: AttachedPlatform) -> LiveState:
        model = "flights-late-arrival"
        endpoint = "flights"
        description = platform.sagemaker.describe_endpoint(EndpointName=endpoint)
        assert description["EndpointStatus"] == "InService", description
        return cls(
            champion=platform.registry.get_model_version_by_alias(model, "champion").version,
            configuration=description["EndpointConfigName"],
            versions=len(platform.registry.search_model_versions(f"name='{model}'")),
            answered_by=str(driver.invoke(platform, endpoint, [an_example(platform)])["model"]["version"]),
        )


def an_example(platform: AttachedPlatform) -> dict[str, Any]:
    """The features of a real, held-out flight."""
    key = next(key for key in platform.keys("runs/flights/") if key.endswith("/examples.json"))
    features: dict[str, Any] = platform.read_json(key)["examples"][0]["features"]
    return features


def processes_of(home: Path) -> list[str]:
    """Processes that belong to a platform, by what they were told its home is."""
    found = []
    for process in psutil.process_iter(["pid", "cmdline"]):
        try:
            mine = process.environ().get(MARKER) == str(home) or str(home) in " ".join(process.cmdline())
        except psutil.Error:
            continue
        if mine and process.pid not in _own_processes():
            found.append(f"{process.pid} {' '.join(process.info['cmdline'] or [])[:120]}")
    return found


def _own_processes() -> set[int]:
    me = psutil.Process()
    return {me.pid, *(parent.pid for parent in me.parents()), *(child.pid for child in me.children())}


def ports_of(home: Path) -> list[int]:
    """Ports the platform listens on."""
    pids = {int(entry.split()[0]) for entry in processes_of(home)}
    connections = psutil.net_connections("tcp")
    return sorted({c.laddr[1] for c in connections if c.laddr and c.pid in pids and c.status == psutil.CONN_LISTEN})


def is_open(port: int) -> bool:
    with socket.socket() as probe:
        probe.settimeout(1)
        return probe.connect_ex(("127.0.0.1", port)) == 0


def notifications(platform: AttachedPlatform) -> list[str]:
    """Every message people were sent so far, oldest first as far as SQS keeps the order."""
    found: dict[str, str] = {}
    while True:
        answer = platform.sqs.receive_message(
            QueueUrl=platform.addresses["notifications_queue"], MaxNumberOfMessages=10, VisibilityTimeout=2
        )
        fresh = {message["MessageId"]: message["Body"] for message in answer.get("Messages", [])}
        if not fresh.keys() - found.keys():
            return list(found.values())
        found |= fresh


def eventually(holds: Callable[[], bool], timeout: float = 60) -> bool:
    """Whether something comes true in time; callbacks run after the run has ended."""
    deadline = time.monotonic() + timeout
    while not holds():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.5)
    return True
