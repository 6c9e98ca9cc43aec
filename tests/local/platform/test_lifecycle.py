"""The real platform, from `up` to nothing left. Each test starts all or much of it."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil
import pytest

from local.platform.ports import USUAL_PORTS, is_free

if TYPE_CHECKING:
    from conftest import Platform

pytestmark = [pytest.mark.platform, pytest.mark.timeout(300)]

LOOPBACK_ADDRESSES = ("127.0.0.1", "::1")


@pytest.fixture
def usual_airflow_port_taken() -> Iterator[int]:
    """Somebody listens on 8080: this test, or whoever did already."""
    port = USUAL_PORTS["airflow"]
    with socket.socket() as server:
        server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if is_free(port):
            server.bind(("127.0.0.1", port))
            server.listen()
        yield port


def wait_for(condition: Callable[[], Any], timeout: float = 120) -> Any:
    deadline = time.monotonic() + timeout
    while not (value := condition()):
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.05)
    return value


def alive(tree: list[psutil.Process]) -> list[psutil.Process]:
    """Those that still run; a zombie has ended, and waits for init to collect it."""
    return [p for p in tree if p.is_running() and p.status() != psutil.STATUS_ZOMBIE]


def assert_nothing_is_left(platform: Platform, tree: list[psutil.Process], ports: dict[str, int]) -> None:
    assert alive(tree) == []
    stray = []
    for process in psutil.process_iter(["pid", "cmdline"]):
        if str(platform.home) in " ".join(process.info["cmdline"] or []):
            stray.append(process)
    assert stray == []
    assert {name: port for name, port in ports.items() if not is_free(port)} == {}


def listening(tree: list[psutil.Process]) -> set[tuple[str, int]]:
    found = set()
    for process in tree:
        try:
            connections = process.net_connections(kind="inet")
        except psutil.NoSuchProcess:
            continue
        found |= {(c.laddr.ip, c.laddr.port) for c in connections if c.status == psutil.CONN_LISTEN}
    return found


def test_from_up_to_down(platform: Platform, usual_airflow_port_taken: int) -> None:
    # Up: everything healthy, the taken port avoided.
    up = platform.run("up")
    assert up.returncode == 0, up.stdout + up.stderr
    assert "everything is healthy" in up.stdout
    state = platform.state()
    ports, tree = state["ports"], platform.tree()
    assert ports["airflow"] != usual_airflow_port_taken
    assert state["addresses"]["airflow"] in up.stdout

    status = platform.run("status", "--json")
    assert status.returncode == 0, status.stdout
    report = json.loads(status.stdout)
    assert report["up"] is True
    assert {service["state"] for service in report["state"]["services"].values()} == {"healthy", "done"}

    # Everything listens on loopback only, and on the ports that were announced.
    sockets = listening(tree)
    assert {port for _, port in sockets} == set(ports.values())
    assert [address for address, _ in sockets if address not in LOOPBACK_ADDRESSES] == []

    # What `env` prints is enough for clients.
    exports = dict(line.removeprefix("export ").split("=", 1) for line in platform.run("env").stdout.splitlines())
    environment = {**platform.environment, **exports}
    if kubectl := shutil.which("kubectl", path=str(Path(sys.executable).parent)):
        names = subprocess.run(
            [kubectl, "get", "namespaces", "-o", "name"], env=environment, capture_output=True, text=True, check=True
        )
        assert {"namespace/ml-training", "namespace/ml-deployment"} <= set(names.stdout.split())

    # A second `up` keeps what is there.
    again = platform.run("up")
    assert again.returncode == 0, again.stdout + again.stderr
    assert "up already" in again.stdout
    assert platform.state()["supervisor"] == state["supervisor"]

    # A crash is named, with the end of the log; nothing is restarted behind the user's back.
    os.kill(state["services"]["scheduler"]["process"]["pid"], signal.SIGKILL)
    wait_for(lambda: platform.state()["services"]["scheduler"]["state"] == "crashed", 10)
    status = platform.run("status")
    assert status.returncode == 1
    assert "broken: scheduler" in status.stdout
    assert "SIGKILL" in status.stdout
    assert "Starting the scheduler" in status.stdout

    # `up` replaces what is broken, and keeps the old logs.
    replaced = platform.run("up")
    assert replaced.returncode == 0, replaced.stdout + replaced.stderr
    assert "replacing" in replaced.stdout
    assert platform.state()["supervisor"] != state["supervisor"]
    assert "scheduler crashed" in (platform.home / "logs" / "previous" / "supervisor.log").read_text()
    assert alive(tree) == []

    # Down: no process, no port.
    tree, ports = platform.tree(), platform.state()["ports"]
    down = platform.run("down")
    assert down.returncode == 0, down.stdout + down.stderr
    assert_nothing_is_left(platform, tree, ports)
    assert platform.run("status").returncode == 1
    assert platform.run("down").stdout.strip() == "not running"


def test_ctrl_c_during_up_leaves_nothing(platform: Platform) -> None:
    up = platform.begin("up")
    wait_for(lambda: platform.state()["services"].get("api-server", {}).get("process"))
    tree, ports = platform.tree(), platform.state()["ports"]
    assert len(tree) > 5
    up.send_signal(signal.SIGINT)
    output, _ = up.communicate(timeout=60)
    assert up.returncode == 130, output
    assert "interrupted" in output
    assert_nothing_is_left(platform, tree, ports)


def test_down_cleans_up_after_a_killed_supervisor(platform: Platform) -> None:
    up = platform.begin("up")
    wait_for(lambda: platform.state()["services"].get("scheduler", {}).get("process"))
    time.sleep(2)  # Airflow has changed its processes' titles by now, and with them their environments
    tree, ports = platform.tree(), platform.state()["ports"]
    up.kill()
    up.communicate()
    os.kill(tree[0].pid, signal.SIGKILL)
    wait_for(lambda: not alive(tree[:1]), 10)
    status = platform.run("status")
    assert status.returncode == 1
    assert "its supervisor was killed" in status.stdout
    assert len(alive(tree)) > 5
    down = platform.run("down")
    assert down.returncode == 0, down.stdout + down.stderr
    assert_nothing_is_left(platform, tree, ports)


def test_a_service_that_cannot_start_is_named(platform: Platform, tmp_path: Path) -> None:
    """Here PostgreSQL, which root may only start with a tool that is not on PATH now."""
    platform.environment["PATH"] = str(tmp_path)
    if os.geteuid() != 0:
        pytest.skip("only root needs them to start PostgreSQL")
    up = platform.run("up")
    assert up.returncode == 1
    assert "the platform did not start: postgres: PostgreSQL refuses to run as root" in up.stderr
    assert platform.state()["phase"] == "failed"
    status = platform.run("status")
    assert status.returncode == 1
    assert "the last start failed: postgres" in status.stdout


def test_a_strangers_folder_is_left_alone(platform: Platform) -> None:
    platform.home.mkdir()
    (platform.home / "thesis.tex").touch()
    up = platform.run("up")
    assert up.returncode == 1
    assert "choose an empty or a new folder" in up.stderr
    assert [path.name for path in platform.home.iterdir()] == ["thesis.tex"]


def test_without_a_platform(platform: Platform) -> None:
    assert platform.run("status").returncode == 1
    assert "start it with `up` first" in platform.run("env").stderr
    assert "start the platform with `up` first" in platform.run("logs").stderr
    assert platform.run("down").returncode == 0
    assert not platform.home.exists()
