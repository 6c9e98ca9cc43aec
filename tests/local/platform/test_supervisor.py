"""The supervisor with small services of the tests' own."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from local.platform import control
from local.platform.home import ROOT, Home, PlatformError
from local.platform.service import Service, start_order
from local.platform.state import read_state

# A supervisor whose services are described in JSON: {name: {"needs": [...], "script": "...", "port": bool}}.
PROGRAM = """
import asyncio, fcntl, json, os, sys
from pathlib import Path
from local.platform import bundle, ports, processes, supervisor
from local.platform.home import Home
from local.platform.service import Command, NotReady, Service

home, described = Home(Path(sys.argv[1])), json.loads(sys.argv[2])
ports.USUAL_PORTS = supervisor.USUAL_PORTS = {name: None for name in ports.USUAL_PORTS}
bundle.assemble = lambda facts: None
bundle.check_settings = lambda path: None

def declare(facts):
    def service(name, needs=(), script=None, timeout=20.0, port=None, job=False, again=None):
        ready_file = facts.home.root / f"{name}.ready"
        def ready():
            if not ready_file.exists():
                raise NotReady(f"{ready_file} is not there")
            if again:
                ready_file.with_suffix(".seen").touch()
        number = facts.ports[port] if port else None
        environment = {**facts.base_environment, "READY": str(ready_file), "PORT": str(number)}
        command = (lambda: Command([sys.executable, "-c", script], environment, facts.home.root)) if script else None
        return Service(name, tuple(needs), command, job=job, ready=None if job else ready, port=number,
                       start_timeout=timeout, stop_grace=1.0, again_seconds=again)
    return [service(name, **description) for name, description in described.items()]

supervisor.Supervisor.__init__.__defaults__ = (declare,)
sys.exit(supervisor.supervise(home))
"""
SERVE = "import os, time; open(os.environ['READY'], 'w').close(); print('serving', flush=True); time.sleep(600)"

Start = Callable[[dict[str, Any]], subprocess.Popen[bytes]]


@pytest.fixture
def home(tmp_path: Path) -> Home:
    home = Home(tmp_path / "home")
    home.claim()
    home.rotate_logs()
    return home


@pytest.fixture
def start(home: Home) -> Iterator[Start]:
    def begin(services: dict[str, Any]) -> subprocess.Popen[bytes]:
        argv = [sys.executable, "-c", PROGRAM, str(home.root), json.dumps(services)]
        return subprocess.Popen(argv, cwd=ROOT, start_new_session=True)

    yield begin
    control.stop(home)


def wait_for(condition: Callable[[], Any], timeout: float = 30) -> Any:
    deadline = time.monotonic() + timeout
    while not (value := condition()):
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.05)
    return value


def phase(home: Home) -> str | None:
    state = read_state(home.state_file)
    return state.phase if state else None


def test_order_of_starting() -> None:
    services = [Service("c", ("a", "b")), Service("a"), Service("b", ("a",))]
    assert [[service.name for service in wave] for wave in start_order(services)] == [["a"], ["b"], ["c"]]
    assert start_order([]) == []


def test_an_undeclared_need_is_named() -> None:
    with pytest.raises(ValueError, match=r"'a' needs 'b', which is not declared"):
        start_order([Service("a", ("b",))])


def test_a_circle_is_named() -> None:
    with pytest.raises(ValueError, match="need each other: a, b"):
        start_order([Service("a", ("b",)), Service("b", ("a",)), Service("c")])


def test_services_start_after_what_they_need_and_stop_before(home: Home, start: Start) -> None:
    note = f"import signal, sys\nfile = open({str(home.logs / 'order')!r}, 'a')\n"
    note += "def say(what): print(what, file=file, flush=True)\n"
    script = (
        note + "say('start {0}'); signal.signal(signal.SIGTERM, lambda *_: (say('stop {0}'), sys.exit(0)))\n" + SERVE
    )
    supervisor = start(
        {"web": {"needs": ["db"], "script": script.format("web")}, "db": {"script": script.format("db")}}
    )
    wait_for(lambda: phase(home) == "running")
    supervisor.send_signal(signal.SIGTERM)
    assert supervisor.wait(20) == 0
    order = (home.logs / "order").read_text().splitlines()
    assert order == ["start db", "start web", "stop web", "stop db"]
    assert phase(home) == "stopped"


def test_a_service_that_ends_at_start_fails_the_platform_by_name(home: Home, start: Start) -> None:
    supervisor = start(
        {"good": {"script": SERVE}, "bad": {"needs": ["good"], "script": "print('no disk'); raise SystemExit(3)"}}
    )
    assert supervisor.wait(30) == 1
    state = read_state(home.state_file)
    assert state is not None
    assert state.phase == "failed"
    reason, log = control.failure(home, state)
    assert reason == "bad: ended with exit code 3"
    assert "no disk" in log
    assert state.services["good"].state == "stopped"
    assert state.services["good"].process is not None
    assert not psutil.pid_exists(state.services["good"].process.pid)
    report = control.inspect(home)
    assert not report.up
    assert "bad" in report.summary


def test_a_service_that_never_gets_ready_fails_with_its_last_answer(home: Home, start: Start) -> None:
    supervisor = start({"slow": {"script": "import time; time.sleep(600)", "timeout": 0.5}})
    assert supervisor.wait(30) == 1
    state = read_state(home.state_file)
    assert state is not None
    assert state.error is not None
    assert "slow: not ready after 0.5 s; last answer: " in state.error
    assert "slow.ready is not there" in state.error


def test_a_job_must_succeed(home: Home, start: Start) -> None:
    assert start({"migrate": {"script": "raise SystemExit(1)", "job": True}}).wait(30) == 1
    state = read_state(home.state_file)
    assert state is not None
    assert state.error == "migrate: ended with exit code 1"


def test_a_crash_is_reported_and_not_covered_up(home: Home, start: Start) -> None:
    start({"one": {"script": SERVE}, "two": {"script": SERVE}})
    wait_for(lambda: phase(home) == "running")
    state = read_state(home.state_file)
    assert state is not None
    assert state.services["two"].process is not None
    os.kill(state.services["two"].process.pid, signal.SIGKILL)
    state = wait_for(lambda: (found := read_state(home.state_file)) and found.broken and found)
    assert state.services["two"].error == "crashed: ended with signal SIGKILL"
    assert state.services["one"].state == "healthy"
    assert "serving" in control.failure(home, state)[1]


def test_what_may_come_undone_is_seen_to_again_and_trouble_with_it_ends_nothing(
    home: Home, start: Start, capfd: pytest.CaptureFixture[str]
) -> None:
    ready, seen = home.root / "keeper.ready", home.root / "keeper.seen"
    supervisor = start({"keeper": {"script": SERVE, "again": 0.1}})
    wait_for(lambda: phase(home) == "running")
    for _ in range(2):
        seen.unlink()
        wait_for(seen.exists)
        ready.unlink()
        wait_for(lambda: f"keeper: {ready} is not there" in capfd.readouterr().out)
        time.sleep(0.5)
        assert "keeper" not in capfd.readouterr().out, "it is said once"
        ready.touch()
    assert supervisor.poll() is None
    assert phase(home) == "running"


def test_a_crash_while_others_still_start_ends_the_start(home: Home, start: Start) -> None:
    dies = "import os, time; open(os.environ['READY'], 'w').close(); time.sleep(1); os.kill(os.getpid(), 9)"
    never = "import time; time.sleep(600)"
    assert start({"dies": {"script": dies}, "never": {"needs": ["dies"], "script": never}}).wait(30) == 1
    state = read_state(home.state_file)
    assert state is not None
    assert state.error == "dies: crashed: ended with signal SIGKILL"


def test_stopping_ends_stubborn_services_and_what_they_left_behind(home: Home, start: Start) -> None:
    pids = home.logs / "pids"
    script = (
        f"""
import os, signal, subprocess, sys, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
sleeper = [sys.executable, "-c", "import time; time.sleep(600)"]
children = [subprocess.Popen(sleeper), subprocess.Popen(sleeper, start_new_session=True, env={{}})]
orphan = subprocess.run([sys.executable, "-c", (
    "import subprocess, sys; print(subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(600)'], "
    "start_new_session=True, env={{}}, stdout=subprocess.DEVNULL).pid)")], stdout=subprocess.PIPE, text=True).stdout
open({str(pids)!r}, "w").write(" ".join([*(str(c.pid) for c in children), orphan]))
"""
        + SERVE
    )
    supervisor = start({"stubborn": {"script": script}})
    wait_for(lambda: phase(home) == "running")
    left = [int(pid) for pid in pids.read_text().split()]
    assert all(psutil.pid_exists(pid) for pid in left)
    supervisor.send_signal(signal.SIGTERM)
    assert supervisor.wait(20) == 0
    assert not [pid for pid in left if psutil.pid_exists(pid)]


def test_stop_during_the_start(home: Home, start: Start) -> None:
    supervisor = start({"quick": {"script": SERVE}, "slow": {"script": "import time; time.sleep(600)"}})
    wait_for(lambda: (state := read_state(home.state_file)) and state.services["quick"].state == "healthy")
    children = psutil.Process(supervisor.pid).children(recursive=True)
    supervisor.send_signal(signal.SIGTERM)
    assert supervisor.wait(20) == 0
    assert not [child for child in children if child.is_running()]
    assert phase(home) == "stopped"


def test_a_port_lost_to_another_program_is_replaced(home: Home, start: Start, tmp_path: Path) -> None:
    """The first time, somebody else is quicker to listen on the chosen port."""
    thief = tmp_path / "thief"
    script = (
        f"""
import os, pathlib, socket, subprocess, sys, time
thief = pathlib.Path({str(thief)!r})
if not thief.exists():
    listen = ("import socket, sys, time; s = socket.socket(); s.bind(('127.0.0.1', int(sys.argv[1]))); s.listen(); "
              "print(flush=True); time.sleep(20)")
    p = subprocess.Popen(["setsid", "--fork", sys.executable, "-c", listen, os.environ["PORT"]], stdout=subprocess.PIPE)
    p.stdout.readline()
    thief.write_text(os.environ["PORT"])
    raise SystemExit("address already in use")
s = socket.socket(); s.bind(("127.0.0.1", int(os.environ["PORT"]))); s.listen()
"""
        + SERVE
    )
    start({"web": {"script": script, "port": "aws"}})
    wait_for(lambda: phase(home) in ("running", "failed"))
    state = read_state(home.state_file)
    assert state is not None
    assert state.phase == "running", state.error
    assert state.ports["aws"] != int(thief.read_text())


def test_one_supervisor_a_home(home: Home, start: Start) -> None:
    start({"one": {"script": SERVE}})
    wait_for(lambda: phase(home) == "running")
    from local.platform.supervisor import supervise

    with pytest.raises(PlatformError, match="has a running supervisor already"):
        supervise(home)


def test_everything_can_be_stopped_without_its_supervisor(home: Home, start: Start) -> None:
    """Also an orphan in a session of its own: its environment names the home."""
    script = (
        "import subprocess, sys; subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(600)'], "
        "start_new_session=True)\n" + SERVE
    )
    supervisor = start({"one": {"script": script}, "two": {"script": SERVE}})
    wait_for(lambda: phase(home) == "running")
    tree = psutil.Process(supervisor.pid).children(recursive=True)
    assert len(tree) == 3
    state = read_state(home.state_file)
    assert state is not None
    assert state.services["one"].process is not None
    os.kill(supervisor.pid, signal.SIGKILL)
    os.kill(state.services["one"].process.pid, signal.SIGKILL)
    supervisor.wait(5)
    report = control.inspect(home)
    assert not report.up
    assert "its supervisor was killed" in report.summary
    assert "two" in report.problems
    assert control.stop(home) == 2
    assert not [process for process in tree if process.is_running()]
    assert control.inspect(home).summary == "not running"
    assert control.stop(home) == 0
