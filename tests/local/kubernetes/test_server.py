"""The server as a process: files, start, end, and what it leaves behind."""

from __future__ import annotations

import os
import signal
import socket
import stat
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest

PODS = "/api/v1/namespaces/ml-training/pods"
ROOT = Path(__file__).parents[3]


def _alive(pid: int) -> bool:
    try:
        return bool(psutil.Process(pid).status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False


def _start_pods(server: Any, pods_body: Callable[..., Any]) -> list[int]:
    """Start a pod that ignores SIGTERM and has a child in a session of its own; returns all processes."""
    body = pods_body("ignore", "child=60", "sleep=60", name="stubborn")
    assert server.http("POST", PODS, json=body).status_code == 201
    deadline = time.monotonic() + 10
    while not (log := server.http("GET", f"{PODS}/stubborn/log").text).strip().isdigit():
        assert time.monotonic() < deadline
        time.sleep(0.05)
    time.sleep(0.6)  # until the child was seen by the memory watch, which is how the guard learns of it
    processes = [process.pid for process in psutil.Process(server.process.pid).children(recursive=True)]
    assert int(log) in processes
    return processes


def _assert_gone(processes: list[int], seconds: float = 5) -> None:
    deadline = time.monotonic() + seconds
    while (left := [pid for pid in processes if _alive(pid)]) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert left == []


def test_sigterm_leaves_nothing_behind_and_the_next_start_works(new_server: Any, pods: Any) -> None:
    server = new_server()
    kubeconfig = Path(server.kubeconfig)
    for name in ("kubeconfig", "token", "ca.crt", "tls.pem"):
        assert stat.S_IMODE((server.state_dir / name).stat().st_mode) == 0o600
    processes = _start_pods(server, pods.body)
    log = next(server.state_dir.glob("logs/ml-training/stubborn_*/base.log"))
    version = int(server.http("GET", PODS).json()["metadata"]["resourceVersion"])
    watching = subprocess.Popen(["sleep", "0"])
    assert server.stop() < 10
    watching.wait()
    assert server.process.returncode == 0
    _assert_gone(processes)
    assert not (server.state_dir / "pods").exists()
    with socket.socket() as probe:
        assert probe.connect_ex(("127.0.0.1", httpx.URL(server.url).port or 0)) != 0

    again = new_server("--gpus", "0")
    assert again.token == server.token
    assert again.url in kubeconfig.read_text()
    listed = again.http("GET", PODS).json()
    assert listed["items"] == []
    assert int(listed["metadata"]["resourceVersion"]) > version
    assert log.exists()
    stale = again.http("GET", f"{PODS}?watch=1&timeoutSeconds=5&resourceVersion={version}")
    assert '"code": 410' in stale.text


def test_sigkill_of_the_server_kills_the_pods_too(new_server: Any, pods: Any) -> None:
    server = new_server()
    processes = _start_pods(server, pods.body)
    server.process.send_signal(signal.SIGKILL)
    server.process.wait()
    _assert_gone(processes)
    again = new_server()
    assert again.http("GET", PODS).json()["items"] == []


def test_a_state_directory_has_one_server(new_server: Any) -> None:
    server = new_server()
    command = [
        sys.executable,
        "-m",
        "local.kubernetes",
        "--state-dir",
        str(server.state_dir),
        "--images",
        str(server.images),
    ]
    second = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=30, check=False)
    assert second.returncode != 0
    assert "is in use by another local Kubernetes API" in " ".join(second.stderr.replace("│", " ").split())
    assert server.http("GET", "/readyz").text == "ok"


@pytest.mark.parametrize(
    ("options", "text"),
    [
        (["--images", "/no/such/file.json"], "/no/such/file.json"),
        (["--service-account", "trainer"], "must be namespace/name"),
    ],
)
def test_wrong_options_are_told(options: list[str], text: str, tmp_path: Path) -> None:
    images = tmp_path / "images.json"
    images.write_text("{}")
    command = [sys.executable, "-m", "local.kubernetes", "--state-dir", str(tmp_path / "s"), "--images", str(images)]
    environment = {**os.environ, "TERMINAL_WIDTH": "200", "COLUMNS": "200"}
    done = subprocess.run(
        [*command, *options], cwd=ROOT, env=environment, capture_output=True, text=True, timeout=30, check=False
    )
    assert done.returncode != 0
    assert text in done.stderr
    assert "Traceback" not in done.stderr


def test_it_listens_on_loopback_only(server: Any) -> None:
    connections = psutil.Process(server.process.pid).net_connections()
    assert {c.laddr.ip for c in connections if c.status == psutil.CONN_LISTEN} == {"127.0.0.1"}
