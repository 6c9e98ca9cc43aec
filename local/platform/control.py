"""Start, stop and look at a platform from outside: what the command line does, without its output."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

from pydantic import BaseModel, ValidationError

from local.platform import airflow, aws, bundle, processes
from local.platform.facts import Facts, Secrets
from local.platform.home import ROOT, Home
from local.platform.service import NotReady, StartError
from local.platform.state import UP, PlatformState, ProcessId, read_state, write_state
from local.platform.supervisor import all_services

STOP_TIMEOUT = 60.0  # seconds; services are killed long before
READ_TIMEOUT = 75.0  # seconds; Airflow reads each DAG file once a minute anyway


class Report(BaseModel):
    """How a platform is doing."""

    home: str
    up: bool
    summary: str
    problems: dict[str, str] = {}
    state: PlatformState | None = None

    @property
    def keeps_running(self) -> bool:
        """Whether a new start would mend nothing: all is well but the DAGs, which are made of the project's files."""
        return self.up or (self.state is not None and self.state.phase == "running" and {*self.problems} == {"dags"})


def supervisor(home: Home) -> ProcessId | None:
    """Return the identity of the home's supervisor if it runs."""
    try:
        identity = ProcessId.model_validate_json(home.supervisor_lock.read_bytes())
    except (OSError, ValidationError):
        return None
    return identity if processes.find(identity) else None


def load_facts(home: Home, state: PlatformState) -> Facts:
    """Return the facts of a platform that runs."""
    secrets = Secrets.model_validate(json.loads(home.secrets_file.read_text(encoding="utf-8")))
    return Facts(home, state.ports, secrets)


def launch(home: Home) -> ProcessId:
    """Start a supervisor, detached from this process and its terminal."""
    home.claim()
    home.rotate_logs()
    home.state_file.unlink(missing_ok=True)
    with home.log("supervisor").open("ab") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "local", "supervise", "--home", str(home.root)],
            cwd=ROOT,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    identity = processes.identify(process.pid)
    assert identity is not None, "a child that nobody has waited for cannot be gone"
    return identity


def follow(home: Home, identity: ProcessId) -> Iterator[PlatformState | None]:
    """Yield the state again and again until the start is over, one way or the other.

    The last state has phase "running", or the supervisor has ended.
    """
    while True:
        alive = processes.find(identity) is not None
        state = read_state(home.state_file)
        if state is not None and state.supervisor != identity:
            state = None  # of an earlier supervisor
        yield state
        if not alive or (state is not None and state.phase == "running"):
            return
        with contextlib.suppress(ChildProcessError):
            os.waitpid(identity.pid, os.WNOHANG)  # in case it is ours
        time.sleep(0.1)


def stop(home: Home) -> int:
    """Stop a platform: through its supervisor if there is one, and whatever it may have left behind.

    Returns:
        How many processes had to be ended without a supervisor's help.
    """
    identity = supervisor(home)
    if identity is not None:
        process = processes.find(identity)
        if process is not None:
            processes.send([process], signal.SIGTERM)
            if not _gone(identity, STOP_TIMEOUT):
                processes.send([process], signal.SIGKILL)
                _gone(identity, 5)
    state = read_state(home.state_file)
    ended = processes.end_all(home.root, state)
    if state is not None and state.phase not in ("stopped", "failed"):
        state.phase = "stopped"
        for service in state.services.values():
            service.state = "stopped"
        write_state(home.state_file, state)
    return ended


def _gone(identity: ProcessId, timeout: float) -> bool:
    deadline = time.monotonic() + timeout
    while time.monotonic() < deadline:
        with contextlib.suppress(ChildProcessError):
            os.waitpid(identity.pid, os.WNOHANG)
        if processes.find(identity) is None:
            with contextlib.suppress(ChildProcessError):
                os.waitpid(identity.pid, os.WNOHANG)
            return True
        time.sleep(0.05)
    return False


def inspect(home: Home) -> Report:
    """Look at a platform: what its supervisor recorded, and whether every service answers now."""
    state = read_state(home.state_file)
    identity = supervisor(home)
    if state is None:
        summary = "starting" if identity else "not running"
        return Report(home=str(home.root), up=False, summary=summary)
    problems = {name: service.error or service.state for name, service in state.broken.items()}
    if identity is None:
        for name, service in state.services.items():
            if service.state in UP and service.process and processes.find(service.process):
                problems.setdefault(name, "still runs, without a supervisor")
        if state.phase in ("starting", "running", "stopping"):
            summary = "broken: its supervisor was killed; `down` cleans up, `up` starts anew"
        elif state.phase == "failed":
            summary = f"not running; the last start failed: {state.error}"
        else:
            summary = "not running"
        return Report(home=str(home.root), up=False, summary=summary, problems=problems, state=state)
    if state.phase != "running":
        return Report(home=str(home.root), up=False, summary=state.phase, problems=problems, state=state)
    problems |= {name: problem for name, problem in _ask(home, state).items() if name not in problems}
    summary = f"broken: {', '.join(problems)}" if problems else "up"
    return Report(home=str(home.root), up=not problems, summary=summary, problems=problems, state=state)


def _ask(home: Home, state: PlatformState) -> dict[str, str]:
    """Ask every service whether it is well; return what is wrong with those that are not."""
    facts = load_facts(home, state)
    asked = [service for service in all_services(facts) if service.ready and service.name in state.services]

    def answer(index: int) -> str | None:
        ready = asked[index].ready
        assert ready is not None
        try:
            ready()
        except (NotReady, StartError) as error:
            return f"does not answer as it should: {error}"
        except (OSError, LookupError, ValueError) as error:
            return f"does not answer as it should: {type(error).__name__}: {error}"
        return None

    with ThreadPoolExecutor(max_workers=len(asked) or 1) as pool:
        answers = list(pool.map(answer, range(len(asked))))
    return {service.name: text for service, text in zip(asked, answers, strict=True) if text}


def refresh(home: Home, state: PlatformState) -> None:
    """Bring a running platform's bundle, images and alarms up to date with the project's files."""
    facts = load_facts(home, state)
    bundle.assemble(facts)
    bundle.check_settings(home.bundle)
    airflow.make_pools(facts)
    aws.seed_alarms(facts)


def read_dags(home: Home, state: PlatformState) -> Report:
    """Have Airflow read the DAG files, and look at the platform as soon as it has all of them, or is late."""
    airflow.client(load_facts(home, state)).read_files()
    deadline = time.monotonic() + READ_TIMEOUT
    while (report := inspect(home)).problems.keys() == {"dags"} and time.monotonic() < deadline:
        time.sleep(1)
    return report


def failure(home: Home, state: PlatformState | None, lines: int = 25) -> tuple[str, str]:
    """Return why a start failed, and the end of the log that explains it."""
    if state is None:
        return "the supervisor ended before it could start anything", processes.tail(home.log("supervisor"), lines)
    for name, service in state.broken.items():
        path = home.log(name)
        if not path.exists():
            return f"{name}: {service.error}", ""
        return f"{name}: {service.error}", f"{path}:\n{processes.tail(path, lines)}"
    if state.error:
        return state.error, ""
    return "the start was stopped", ""


def client_environment(facts: Facts) -> dict[str, str]:
    """Return the variables that point aws, kubectl, mlflow and their libraries at a platform."""
    return {
        **facts.aws_environment,
        "KUBECONFIG": str(facts.home.kubeconfig),
        "MLFLOW_TRACKING_URI": facts.mlflow_url,
        "AIRFLOW_URL": facts.airflow_url,
    }
