"""Ports of this machine that lead through the bastion: one session of Systems Manager each."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import IO, Any

from cloud.access.probe import silence
from cloud.access.targets import Target
from cloud.environments import Environment
from cloud.errors import CloudError
from cloud.platform_file import platform

Say = Callable[[str], None]
DOCUMENT = "AWS-StartPortForwardingSessionToRemoteHost"
PLUGIN = "session-manager-plugin"
INSTALL = (
    "https://docs.aws.amazon.com/systems-manager/latest/userguide/session-manager-working-with-install-plugin.html"
)
LOCAL = "localhost"  # where the plugin listens, be that 127.0.0.1 or ::1
ANSWERS_WITHIN = 60.0
ONLINE_WITHIN = 180.0
"""A bastion that has just been made, as each newer image makes it, takes a minute or two to be connected."""
ASK_AGAIN_SECONDS = 10.0
_PRESENT = ["pending", "running", "stopping", "stopped"]
_ASK_SECONDS = 10.0
_END_SECONDS = 5.0


@dataclass(frozen=True)
class Forward:
    """A port of this machine that leads to a target while its session runs."""

    target: Target
    port: int
    process: subprocess.Popen[bytes]
    log: IO[bytes]

    @property
    def address(self) -> str:
        """Where the target is on this machine."""
        return f"{self.target.scheme}://{LOCAL}:{self.port}"

    def said(self) -> str:
        """Return the last lines of what the session said."""
        # Not by reading on: where the session writes next is the same place.
        file = self.log.fileno()
        lines = os.pread(file, os.fstat(file).st_size, 0).decode(errors="replace").split("\n")
        return "\n".join([line.strip() for line in lines if line.strip()][-3:]) or "it said nothing"

    def see_that_it_runs(self) -> None:
        """Look whether the session goes on.

        Raises:
            CloudError: it has ended.
        """
        if (code := self.process.poll()) is not None:
            raise CloudError(f"{self.target.name}: the session has ended ({code}): {self.said()}")

    def see_that_it_answers(self, seconds: float) -> None:
        """Wait until the target answers.

        Raises:
            CloudError: the session has ended, or the target does not answer in time.
        """
        deadline = time.monotonic() + seconds
        while True:
            # First: while it runs, who answers on the port is it.
            self.see_that_it_runs()
            problem = silence(self.target, LOCAL, self.port, _ASK_SECONDS)
            if problem is None:
                return
            if time.monotonic() > deadline:
                self.see_that_it_runs()
                raise CloudError(
                    f"{self.target.name} does not answer through the bastion: {problem}. The session of "
                    f"{self.target.host}:{self.target.port} says: {self.said()}"
                )
            time.sleep(0.3)

    def end(self) -> None:
        """End the session, and all that belongs to it."""
        # As Ctrl-C would: the plugin ends the session and itself, which the CLI waits for. What is left goes by force.
        for number, wait in ((signal.SIGINT, _END_SECONDS), (signal.SIGKILL, _END_SECONDS)):
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.process.pid, number)
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.process.wait(wait)
        self.log.close()


@contextlib.contextmanager
def forwarded(
    environment: Environment, targets: Sequence[Target], say: Say, *, some_will_do: bool = False
) -> Iterator[list[Forward]]:
    """Lead to targets through the bastion; all sessions have ended when this returns, however it does.

    Args:
        environment: in which.
        targets: to what.
        say: tells people what happens.
        some_will_do: whether the others are of use without one that does not answer, of which people are told then.

    Raises:
        CloudError: there is no bastion, it does not run, something is not installed, or a session did not start; or a
            target does not answer, or none does where some would do.
    """
    with ended_by_signals(), sessions(environment, targets, say, some_will_do=some_will_do) as found:
        yield found


@contextlib.contextmanager
def sessions(
    environment: Environment, targets: Sequence[Target], say: Say, *, some_will_do: bool = False
) -> Iterator[list[Forward]]:
    """Do as `forwarded`, in any thread: signals are somebody else's to care for.

    Raises:
        CloudError: as `forwarded`.
    """
    executable = cli()
    instance = bastion(environment, say)
    with contextlib.ExitStack() as started:
        found = []
        for target in targets:
            forward = _start(executable, instance, environment.region, target)
            started.callback(forward.end)
            found.append(forward)
        yield list(_answering(found, say, some_will_do=some_will_do))


def _answering(found: Sequence[Forward], say: Say, *, some_will_do: bool) -> Iterator[Forward]:
    deadline, none = time.monotonic() + ANSWERS_WITHIN, True
    for forward in found:
        try:
            forward.see_that_it_answers(deadline - time.monotonic())
        except CloudError as problem:
            if not some_will_do:
                raise
            say(str(problem))
        else:
            none = False
            yield forward
    if none:
        raise CloudError("nothing answers through the bastion")


def cli() -> str:
    """Return the AWS CLI, which needs AWS's plugin for sessions.

    Raises:
        CloudError: one of them is not installed.
    """
    executable = shutil.which("aws")
    if not executable:
        raise CloudError("the AWS CLI was not found: install version 2 of it")
    if not shutil.which(PLUGIN):
        raise CloudError(f"{PLUGIN} was not found, which the AWS CLI needs for sessions: install it, see {INSTALL}")
    return executable


def bastion(environment: Environment, say: Say) -> str:
    """Return the id of the bastion, once sessions can be started on it.

    It is found by its tags: who approves may not read Terraform's state, and it may have been replaced since.

    Raises:
        CloudError: there is none, or no session can be started on it.
    """
    deadline, told = time.monotonic() + ONLINE_WITHIN, False
    while problem := _why_not(environment, instance := _instance(environment)):
        if instance["State"]["Name"] not in ("pending", "running") or time.monotonic() > deadline:
            raise CloudError(problem)
        if not told:
            say(f"the bastion {instance['InstanceId']} is not connected yet; asking again for up to three minutes")
        told = True
        time.sleep(ASK_AGAIN_SECONDS)
    return str(instance["InstanceId"])


def _instance(environment: Environment) -> dict[str, Any]:
    tags = {"Name": f"{environment.prefix}-bastion", "Project": platform().name, "Environment": environment.name}
    filters = [{"Name": f"tag:{key}", "Values": [value]} for key, value in tags.items()]
    answer = environment.client("ec2").describe_instances(
        Filters=[*filters, {"Name": "instance-state-name", "Values": _PRESENT}]
    )
    found = [one for reservation in answer["Reservations"] for one in reservation["Instances"]]
    if not found:
        raise CloudError(
            f"{environment.name} has no bastion: set `bastion` in terraform/environments/{environment.name}/main.tf "
            "and apply, or come from a network that private_client_cidrs or private_client_security_group_ids names"
        )
    newest: dict[str, Any] = max(found, key=lambda one: one["LaunchTime"])
    return newest


def _why_not(environment: Environment, instance: dict[str, Any]) -> str | None:
    """Say why no session can be started on an instance."""
    name, state = instance["InstanceId"], instance["State"]["Name"]
    if state not in ("pending", "running"):
        return f"the bastion {name} is {state}: start it with `aws ec2 start-instances --instance-ids {name}`"
    managed = environment.client("ssm").describe_instance_information(
        Filters=[{"Key": "InstanceIds", "Values": [name]}]
    )["InstanceInformationList"]
    if managed and managed[0]["PingStatus"] == "Online":
        return None
    return (
        f"the bastion {name} is not connected to Systems Manager: after a start that takes a minute or two; if it "
        "stays so, see that its subnet has a way out, and restart it"
    )


def _start(executable: str, instance: str, region: str, target: Target) -> Forward:
    port = _free(target.local_port)
    parameters = {"host": [target.host], "portNumber": [str(target.port)], "localPortNumber": [str(port)]}
    log = tempfile.TemporaryFile()  # noqa: SIM115 - closed by end()
    process = subprocess.Popen(
        [
            *(executable, "ssm", "start-session", "--region", region, "--target", instance),
            *("--document-name", DOCUMENT, "--parameters", json.dumps(parameters)),
        ],
        stdin=subprocess.DEVNULL,
        stdout=log,
        stderr=log,
        start_new_session=True,  # so that it can be ended together with the plugin it starts
    )
    return Forward(target, port, process, log)


def _free(wanted: int) -> int:
    """Return a port that nobody listens on; the wanted one if it can be had."""
    for port in (wanted, *[0] * 10):
        with contextlib.suppress(OSError), contextlib.ExitStack() as tried:
            # On all addresses of its name: a browser may go to ::1 where the plugin listens on 127.0.0.1.
            for family, kind, _, _, place in socket.getaddrinfo(LOCAL, port, type=socket.SOCK_STREAM):
                one = tried.enter_context(socket.socket(family, kind))
                # The plugin, too, takes a port that connections of the last one still wait out.
                one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                one.bind((place[0], port, *place[2:]))
                port = one.getsockname()[1]
            return port
    raise CloudError("no port of this machine is free")


@contextlib.contextmanager
def ended_by_signals() -> Iterator[None]:
    """A closed terminal, or a kill, ends the sessions too, unless it was to go on without one (nohup)."""

    def leave(number: int, _: object) -> None:
        raise SystemExit(128 + number)

    heard = [number for number in (signal.SIGTERM, signal.SIGHUP) if signal.getsignal(number) is not signal.SIG_IGN]
    before = {number: signal.signal(number, leave) for number in heard}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
