"""Systems Manager's sessions without Systems Manager: an `aws` and a `session-manager-plugin` for a PATH.

They refuse what the real ones refuse, in their words and with their exit codes, and forward to what the test says
stands behind a host of the network. As the real one does, `aws` leaves Ctrl-C to the plugin and waits for it.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import threading
import uuid
from collections.abc import Iterable, Mapping
from pathlib import Path

DOCUMENT = "AWS-StartPortForwardingSessionToRemoteHost"
AWS, PLUGIN = "aws", "session-manager-plugin"
_STATE = "sessions.json"
_PIDS = "plugins.txt"


class Sessions:
    """The two programs in a folder, and what they know."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        for name in (AWS, PLUGIN):
            program = folder / name
            program.write_text(f'#!/bin/sh\nexec "{sys.executable}" -I "{Path(__file__)}" {name} "{folder}" "$@"\n')
            program.chmod(0o755)
        self.knows((), {})

    def knows(self, online: Iterable[str], hosts: Mapping[str, int]) -> None:
        """Say which instances are connected, and which port of this machine stands for a `host:port` of the network."""
        (self.folder / _STATE).write_text(json.dumps({"online": list(online), "hosts": dict(hosts)}))

    def remove(self, program: str) -> None:
        """Take one of the programs away."""
        (self.folder / program).unlink()

    def running(self) -> list[int]:
        """Return the processes of plugins that have not ended."""
        pids = self.folder / _PIDS
        started = [int(line) for line in pids.read_text().split()] if pids.exists() else []
        return [pid for pid in started if _runs(pid)]


def _runs(pid: int) -> bool:
    import psutil  # the programs below run without the environment's packages

    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


# --- aws ------------------------------------------------------------------------------------------


def _refuse(code: str, message: str) -> int:
    print(f"\nAn error occurred ({code}) when calling the StartSession operation: {message}", file=sys.stderr)
    return 254


def start_session(folder: Path, arguments: list[str]) -> int:
    """Do as `aws ssm start-session` does."""
    parser = argparse.ArgumentParser(exit_on_error=False)
    parser.add_argument("service", choices=["ssm"])
    parser.add_argument("operation", choices=["start-session"])
    for name in ("region", "target", "document-name", "parameters"):
        parser.add_argument(f"--{name}", required=True)
    try:
        given = parser.parse_args(arguments)
        parameters = json.loads(given.parameters)
    except (argparse.ArgumentError, ValueError) as error:
        print(f"usage: aws [options] <command> <subcommand> …\naws: error: {error}", file=sys.stderr)
        return 252
    if not shutil.which(PLUGIN):
        print(
            "\nSessionManagerPlugin is not found. Please refer to SessionManager Documentation here: "
            "http://docs.aws.amazon.com/console/systems-manager/session-manager-plugin-not-found",
            file=sys.stderr,
        )
        return 255
    state = json.loads((folder / _STATE).read_text())
    if given.document_name != DOCUMENT:
        return _refuse("InvalidDocument", f"Document with name {given.document_name} does not exist.")
    strings = all(isinstance(v, list) and v and all(isinstance(one, str) for one in v) for v in parameters.values())
    if (
        not strings
        or set(parameters) != {"host", "portNumber", "localPortNumber"}
        or not all(re.fullmatch(r"[1-9][0-9]{0,4}", parameters[name][0]) for name in ("portNumber", "localPortNumber"))
    ):
        return _refuse("InvalidParameters", "Parameters do not match the document's.")
    if given.target not in state["online"]:
        return _refuse("TargetNotConnected", f"{given.target} is not connected.")
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    response = json.dumps({"SessionId": f"somebody-{uuid.uuid4().hex[:17]}", "Parameters": parameters})
    return subprocess.run([PLUGIN, response, given.region, "StartSession"], restore_signals=True).returncode


# --- The plugin -----------------------------------------------------------------------------------


def forward(folder: Path, arguments: list[str]) -> int:
    """Do as the plugin does: listen, and lead every connection to where the session goes."""
    response = json.loads(arguments[0])
    session, parameters = response["SessionId"], response["Parameters"]
    with (folder / _PIDS).open("a") as pids:
        pids.write(f"{os.getpid()}\n")
    port = int(parameters["localPortNumber"][0])
    print(f"\nStarting session with SessionId: {session}", flush=True)
    try:
        listener = socket.create_server(("localhost", port))
    except OSError as error:
        print(f"listen tcp 127.0.0.1:{port}: bind: {error.strerror}", flush=True)
        return 1

    def leave(*_: object) -> None:
        print(f"Terminate signal received, exiting.\n\nExiting session with sessionId: {session}.\n", flush=True)
        os._exit(0)

    signal.signal(signal.SIGINT, leave)
    print(f"Port {port} opened for sessionId {session}.\nWaiting for connections...", flush=True)
    behind = json.loads((folder / _STATE).read_text())["hosts"]
    place = behind.get(f"{parameters['host'][0]}:{parameters['portNumber'][0]}")
    while True:
        connection, _ = listener.accept()
        if place is None:
            print("\nConnection to destination port failed, check SSM Agent logs.", flush=True)
            connection.close()
            continue
        there = socket.create_connection(("127.0.0.1", place))
        for source, sink in ((connection, there), (there, connection)):
            threading.Thread(target=_carry, args=(source, sink), daemon=True).start()


def _carry(source: socket.socket, sink: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while data := source.recv(65536):
            sink.sendall(data)
    with contextlib.suppress(OSError):
        sink.shutdown(socket.SHUT_WR)


if __name__ == "__main__":
    name, place, *given = sys.argv[1:]
    sys.exit({AWS: start_session, PLUGIN: forward}[name](Path(place), given))
