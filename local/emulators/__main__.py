"""The emulated AWS account for people: `python -m local.emulators up|down|status`."""

from __future__ import annotations

import contextlib
import fcntl
import json
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import typer

from local.emulators.emulated import environment, front_command, healthy, write_profile
from local.emulators.names import ACCOUNT, REGION
from local.images import write_images
from local.platform import images
from local.platform.home import ROOT
from local.platform.ports import any_free_port, is_free
from local.platform.processes import find, identify, tail, wait_until_gone
from local.platform.state import ProcessId

FOLDER = ROOT / ".local" / "emulators"
USUAL_PORT = 4567
_START_SECONDS = 90

app = typer.Typer(
    help="An AWS account on this machine: ministack and the project's own AWS API behind one port.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
FolderOption = Annotated[Path, typer.Option("--folder", help="Logs and state.", file_okay=False)]


@app.command()
def up(
    folder: FolderOption = FOLDER,
    port: Annotated[int | None, typer.Option(help=f"Port; {USUAL_PORT} if free when left out.")] = None,
) -> None:
    """Start the account, or adopt the one that runs, and print what points a shell at it.

    eval "$(python -m local.emulators up)"
    """
    folder = folder.absolute()
    folder.mkdir(parents=True, exist_ok=True)
    with _locked(folder):
        state = _running(folder)
        if state is None:
            state = _start(folder, port)
            _say(f"the emulated account is up on port {state['port']}; its state is in memory and ends with it")
        else:
            _say(f"the emulated account is up already, on port {state['port']}")
    _print_environment(folder, state["port"])


@app.command()
def down(folder: FolderOption = FOLDER) -> None:
    """Stop the account; everything in it is gone."""
    folder = folder.absolute()
    state = _read(folder)
    process = find(_identity(state)) if state else None
    if process is None or state is None:
        _say("not running")
    else:
        process.send_signal(signal.SIGTERM)
        if not wait_until_gone(_identity(state), 30):
            process.kill()
        _say("stopped")
    _state_file(folder).unlink(missing_ok=True)


@app.command()
def status(folder: FolderOption = FOLDER) -> None:
    """Say whether the account is up, and print what points a shell at it. Exits with 1 when it is not."""
    folder = folder.absolute()
    state = _running(folder)
    if state is None:
        _say("not running")
        raise typer.Exit(1)
    _say(f"up on port {state['port']}, process {state['pid']}, logs in {folder}")
    _print_environment(folder, state["port"])


def _start(folder: Path, port: int | None) -> dict[str, Any]:
    if port is not None and not is_free(port):
        _fail(f"port {port} is taken: choose another with --port")
    chosen = port or (USUAL_PORT if is_free(USUAL_PORT) else any_free_port())
    file = folder / "images.json"
    write_images(file, {images.references()["serving"]: images.image("serving", str(folder))})
    write_profile(folder, REGION, ACCOUNT)
    log = folder / "front.log"
    with log.open("ab") as output:
        process = subprocess.Popen(
            front_command(folder, file, chosen, REGION, ACCOUNT),
            cwd=ROOT,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,
        )
    deadline = time.monotonic() + _START_SECONDS
    while not healthy(f"http://127.0.0.1:{chosen}", process.pid):
        if process.poll() is not None or time.monotonic() > deadline:
            process.terminate()
            process.wait(30)
            _fail(f"the emulated account did not start; the end of {log}:\n{tail(log, 20)}")
        time.sleep(0.1)
    identity = identify(process.pid)
    assert identity is not None
    state = {"pid": identity.pid, "create_time": identity.create_time, "port": chosen}
    _state_file(folder).write_text(json.dumps(state))
    return state


def _running(folder: Path) -> dict[str, Any] | None:
    state = _read(folder)
    if state is None or not healthy(f"http://127.0.0.1:{state['port']}", state["pid"]):
        return None
    return state


def _read(folder: Path) -> dict[str, Any] | None:
    try:
        state: dict[str, Any] = json.loads(_state_file(folder).read_text())
    except (OSError, ValueError):
        return None
    return state


def _identity(state: dict[str, Any]) -> ProcessId:
    return ProcessId(pid=state["pid"], create_time=state["create_time"])


def _state_file(folder: Path) -> Path:
    return folder / "state.json"


def _print_environment(folder: Path, port: int) -> None:
    for name, value in environment(folder, port, REGION, ACCOUNT).items():
        print(f"export {name}={shlex.quote(value)}")


@contextlib.contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Have two `up`s at the same time start one account."""
    with (folder / "up.lock").open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _say(message: str) -> None:
    print(message, file=sys.stderr)


def _fail(message: str) -> None:
    _say(f"error: {message}")
    raise typer.Exit(1)


if __name__ == "__main__":
    app()
