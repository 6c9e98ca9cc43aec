"""A real server in a process of its own, and small pods to run on it."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import kubernetes
import pytest
from kubernetes.client.rest import ApiException

ROOT = Path(__file__).parents[3]
NAMESPACE = "ml-training"
IMAGE = "123456789012.dkr.ecr.us-east-1.amazonaws.com/mlplatform/trainer:0123456789ab"
JSON = dict[str, Any]

# The image's program: small commands, so that no test needs more than one process of Python per pod.
PROGRAM = """
import json, os, signal, sys, time
def main(words):
    for word in words:
        name, _, value = word.partition("=")
        if name == "print": print(value, flush=True)
        elif name == "error": print(value, file=sys.stderr, flush=True)
        elif name == "sleep": time.sleep(float(value))
        elif name == "exit": sys.exit(int(value))
        elif name == "env": print(json.dumps(dict(os.environ)), flush=True)
        elif name == "cwd": print(os.getcwd(), flush=True)
        elif name == "read": print(open(value).read(), end="", flush=True)
        elif name == "write": path, _, text = value.partition(":"); open(path, "w").write(text)
        elif name == "allocate": data = bytearray(int(value) << 20); data[::4096] = b"x" * len(data[::4096])
        elif name == "burn":
            end = time.process_time() + float(value)
            while time.process_time() < end: pass
        elif name == "trap":
            def stop(*_, value=value): print(value, flush=True); sys.exit(143)
            signal.signal(signal.SIGTERM, stop)
        elif name == "graceful": signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
        elif name == "ignore": signal.signal(signal.SIGTERM, signal.SIG_IGN)
        elif name == "child":
            import subprocess
            child = subprocess.Popen(["sleep", value], start_new_session=True); print(child.pid, flush=True)
        else: sys.exit(f"unknown word {word}")
main(sys.argv[1:])
"""


@dataclass
class Server:
    """A running server and what is needed to call it."""

    process: subprocess.Popen[str]
    state_dir: Path
    url: str
    token: str
    images: Path
    clients: list[Any] = field(default_factory=list)

    def http(self, method: str, path: str, **options: Any) -> httpx.Response:
        """Send a plain request with the token."""
        headers = {"Authorization": f"Bearer {self.token}", **options.pop("headers", {})}
        return self._http.request(method, self.url + path, headers=headers, **options)

    def lines(self, path: str) -> Iterator[str]:
        """Yield the lines of an answer as they come."""
        with self._http.stream("GET", self.url + path, headers={"Authorization": f"Bearer {self.token}"}) as response:
            yield from response.iter_lines()

    @property
    def _http(self) -> httpx.Client:
        if not self.clients:
            import ssl

            context = ssl.create_default_context(cafile=str(self.state_dir / "ca.crt"))
            context.verify_flags |= ssl.VERIFY_X509_STRICT
            self.clients.append(httpx.Client(verify=context, timeout=30, trust_env=False))
        client: httpx.Client = self.clients[0]
        return client

    @property
    def kubeconfig(self) -> str:
        """The path of the kubeconfig."""
        return str(self.state_dir / "kubeconfig")

    def stop(self) -> float:
        """Send SIGTERM and wait; returns the seconds it took."""
        began = time.monotonic()
        self.process.send_signal(signal.SIGTERM)
        self.process.wait(timeout=15)
        for client in self.clients:
            client.close()
        return time.monotonic() - began


def start_server(state_dir: Path, *options: str) -> Server:
    """Start a server and wait until it is ready."""
    state_dir.mkdir(parents=True, exist_ok=True)
    images = state_dir.parent / f"{state_dir.name}-images.json"
    program = state_dir.parent / "program.py"
    program.write_text(PROGRAM)
    # -S -I: starts in a third of the time, and nothing of this environment leaks into the pods.
    image = {
        "entrypoint": [sys.executable, "-I", "-S", str(program)],
        "cmd": ["print=default"],
        "env": {"FROM": "image"},
    }
    images.write_text(json.dumps({IMAGE: image}))
    (state_dir.parent / "pod-env.json").write_text(json.dumps({"AWS_REGION": "us-east-1", "FROM_NODE": "yes"}))
    command = [sys.executable, "-m", "local.kubernetes", "--port", "0", "--state-dir", str(state_dir)]
    command += ["--images", str(images), "--namespace", NAMESPACE, "--namespace", "ml-deployment"]
    command += ["--service-account", f"{NAMESPACE}/trainer", "--pod-env-file", str(state_dir.parent / "pod-env.json")]
    environment = {**os.environ, "SECRET_OF_THE_HOST": "must not be seen"}
    process = subprocess.Popen(
        [*command, *options], cwd=ROOT, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    assert process.stdout is not None
    lines = []
    for line in process.stdout:
        lines.append(line)
        if "https://127.0.0.1:" in line:
            break
    else:
        raise AssertionError("the server did not start:\n" + "".join(lines))
    url = next(word for word in line.split() if word.startswith("https://"))
    threading.Thread(target=_drain, args=(process, state_dir.parent / "server.log"), daemon=True).start()
    return Server(process, state_dir, url, (state_dir / "token").read_text(), images)


def _drain(process: subprocess.Popen[str], path: Path) -> None:
    assert process.stdout is not None
    with path.open("a") as file:
        for line in process.stdout:
            file.write(line)
            file.flush()


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """One server for all tests; each test uses pods with names of its own."""
    folder = tmp_path_factory.mktemp("kubernetes")
    running = start_server(folder / "state")
    yield running
    running.stop()
    log = folder / "server.log"
    assert "Traceback" not in log.read_text(), log.read_text()


@pytest.fixture(scope="session")
def core(server: Server) -> kubernetes.client.CoreV1Api:
    """The official client."""
    return kubernetes.client.CoreV1Api(kubernetes.config.new_client_from_config(server.kubeconfig))


@pytest.fixture(autouse=True)
def _no_faults_left(request: pytest.FixtureRequest) -> Iterator[None]:
    yield
    if "server" in request.fixturenames:
        request.getfixturevalue("server").http("DELETE", "/local/faults")


def pod_body(*words: str, name: str | None = None, labels: dict[str, str] | None = None, **spec: Any) -> JSON:
    """Return a pod whose only container follows some words of the program."""
    container: JSON = {"name": "base", "image": IMAGE, "args": list(words), **spec.pop("container", {})}
    spec = {"restartPolicy": "Never", "terminationGracePeriodSeconds": 5, "containers": [container], **spec}
    name = name or f"test-{uuid.uuid4().hex[:8]}"
    return {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "labels": labels or {}}, "spec": spec}


def until(holds: Callable[[], Any], seconds: float = 15) -> None:
    """Wait until something holds."""
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline, "it never held"
        time.sleep(0.05)


@dataclass
class Pods:
    """Creates pods, looks at them, and deletes them after the test."""

    server: Server
    core: kubernetes.client.CoreV1Api
    names: list[str] = field(default_factory=list)

    namespace = NAMESPACE
    image = IMAGE
    body = staticmethod(pod_body)

    def create(self, *words: str, **options: Any) -> str:
        """Create a pod of `pod_body`; returns its name."""
        return self.create_body(pod_body(*words, **options))

    def create_body(self, body: JSON) -> str:
        """Create a pod; returns its name."""
        name: str = self.core.create_namespaced_pod(NAMESPACE, body).metadata.name
        self.names.append(name)
        return name

    def get(self, name: str) -> JSON:
        """Return a pod as JSON."""
        response = self.server.http("GET", f"/api/v1/namespaces/{NAMESPACE}/pods/{name}")
        response.raise_for_status()
        result: JSON = response.json()
        return result

    def wait(self, name: str, until: Callable[[JSON], Any], seconds: float = 15) -> JSON:
        """Wait until something is true of a pod; returns the pod."""
        deadline = time.monotonic() + seconds
        while True:
            pod = self.get(name)
            if until(pod):
                return pod
            if time.monotonic() > deadline:
                raise AssertionError(f"not in {seconds} s: {json.dumps(pod['status'], indent=1)}")
            time.sleep(0.05)

    def finish(self, name: str) -> JSON:
        """Wait for a pod's end."""
        return self.wait(name, lambda pod: pod["status"]["phase"] in ("Succeeded", "Failed"))

    def running(self, name: str, *, printed: str | None = None) -> JSON:
        """Wait until a pod runs, and has printed something."""
        pod = self.wait(name, lambda pod: pod["status"]["phase"] == "Running")
        deadline = time.monotonic() + 10
        while printed is not None and printed not in self.log(name):
            assert time.monotonic() < deadline, f"{name} did not print {printed!r}"
            time.sleep(0.05)
        return pod

    def version(self) -> str:
        """Return the resource version of now."""
        listed = self.server.http("GET", f"/api/v1/namespaces/{NAMESPACE}/pods?labelSelector=no%3Done")
        return str(listed.json()["metadata"]["resourceVersion"])

    def gone(self, name: str, seconds: float = 10) -> None:
        """Wait until a pod is deleted."""
        path = f"/api/v1/namespaces/{NAMESPACE}/pods/{name}"
        until(lambda: self.server.http("GET", path).status_code == 404, seconds)

    def seen(self, name: str, since: str, until: Callable[[JSON], Any]) -> list[JSON]:
        """Return what a watch tells of a pod since a resource version, up to the event that is waited for."""
        query = f"watch=1&timeoutSeconds=20&resourceVersion={since}&fieldSelector=metadata.name%3D{name}"
        events: list[JSON] = []
        for line in self.server.lines(f"/api/v1/namespaces/{NAMESPACE}/pods?{query}"):
            events.append(json.loads(line))
            if until(events[-1]):
                return events
        raise AssertionError(f"not in 20 s: {json.dumps(events, indent=1)}")

    def log(self, name: str, **query: Any) -> str:
        """Return a container's log."""
        return self.server.http("GET", f"/api/v1/namespaces/{NAMESPACE}/pods/{name}/log", params=query).text

    def events(self, name: str) -> list[JSON]:
        """Return the events of a pod."""
        query = {"fieldSelector": f"involvedObject.name={name}"}
        response = self.server.http("GET", f"/api/v1/namespaces/{NAMESPACE}/events", params=query)
        return list(response.json()["items"])

    def history(self, name: str) -> JSON:
        """Return the history entry of a pod."""
        entries: list[JSON] = self.server.http("GET", "/local/pods-history").json()
        return next(entry for entry in entries if entry["name"] == name)

    def fault(self, kind: str, label: str, **more: Any) -> JSON:
        """Ask for a fault of the pods with the label `case=<label>`."""
        body = {"kind": kind, "selector": f"case={label}", **more}
        response = self.server.http("POST", "/local/faults", json=body)
        assert response.status_code == 201, response.text
        result: JSON = response.json()
        return result


@pytest.fixture
def pods(server: Server, core: kubernetes.client.CoreV1Api) -> Iterator[Pods]:
    """Pods that are deleted, with no grace, when the test is over."""
    made = Pods(server, core)
    yield made
    for name in made.names:
        with contextlib.suppress(ApiException):
            core.delete_namespaced_pod(name, NAMESPACE, grace_period_seconds=0)


@pytest.fixture
def new_server(tmp_path: Path) -> Iterator[Callable[..., Server]]:
    """Starts servers of a test's own; all of them are stopped after it."""
    started: list[Server] = []

    def start(*options: str) -> Server:
        started.append(start_server(tmp_path / "state", *options))
        return started[-1]

    yield start
    for running in started:
        if running.process.poll() is None:
            running.stop()
