"""A Docker engine of one's own: it shares nothing with another on the machine and leaves nothing running.

The engine lives in its own process and mount namespaces. Whatever ends it, the kernel ends its containers and releases
its mounts with it; whoever started it being killed ends it too.
"""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from types import TracebackType

ADMINISTRATION = os.pathsep.join((os.environ.get("PATH", os.defpath), "/usr/local/sbin", "/usr/sbin", "/sbin"))
KEEP_GB = 20
"""The engine forgets its oldest build cache beyond this."""
START_SECONDS = 60.0
STOP_SECONDS = 30.0
BUILDX_NEEDED = 23
"""From this version on the client builds with BuildKit through its plugin buildx only; before, by itself."""
_PDEATHSIG = 1


class Unavailable(Exception):
    """Docker cannot run here; the message says what is missing."""


class DockerError(Exception):
    """A command of Docker failed; the message is what it said."""


def find_program(name: str, package: str) -> Path:
    """Return where a program is.

    Raises:
        Unavailable: it is not installed.
    """
    found = shutil.which(name, path=ADMINISTRATION)
    if not found:
        raise Unavailable(f"{name} was not found on PATH: install Debian's package {package}")
    return Path(found)


def find_client() -> Path:
    """Return a Docker client that can build with BuildKit.

    Raises:
        Unavailable: there is none.
    """
    seen: list[str] = []
    for folder in ADMINISTRATION.split(os.pathsep):
        client = Path(folder) / "docker"
        if not os.access(client, os.X_OK) or str(client.resolve()) in seen:
            continue
        seen.append(str(client.resolve()))
        version = re.search(r"\d+", _output(client, "--version"))
        if (version and int(version.group()) < BUILDX_NEEDED) or _output(client, "buildx", "version"):
            return client
    if seen:
        raise Unavailable(f"{', '.join(seen)} cannot build with BuildKit: install buildx or Debian's package docker.io")
    raise Unavailable("docker was not found on PATH: install Debian's package docker.io")


def _output(*command: str | Path) -> str:
    done = subprocess.run([str(part) for part in command], capture_output=True, text=True)
    return done.stdout if done.returncode == 0 else ""


class Engine:
    """A running engine, as a context manager.

    Args:
        home: keeps images and build cache between runs; one engine at a time uses it, another waits.
        registry: host of a registry without TLS, for an emulator of one.
        proxy: address of the HTTP proxy that the engine reaches registries through.

    Raises:
        Unavailable: Docker cannot run here.
    """

    def __init__(self, home: Path, *, registry: str = "", proxy: str = "") -> None:
        self._home = home
        self._registry = registry
        self._proxy = proxy
        self._folder: Path | None = None
        self._process: subprocess.Popen[bytes] | None = None
        self._client = Path()
        self._lock: int | None = None

    def __enter__(self) -> Engine:
        if sys.platform != "linux" or os.geteuid() != 0:
            raise Unavailable("a Docker engine needs Linux and root")
        self._client = find_client()
        dockerd = find_program("dockerd", "docker.io")
        unshare = find_program("unshare", "util-linux")
        self._home.mkdir(parents=True, exist_ok=True)
        self._lock = os.open(self._home.with_name(f"{self._home.name}.lock"), os.O_CREAT | os.O_RDWR)
        fcntl.flock(self._lock, fcntl.LOCK_EX)
        self._folder = Path(tempfile.mkdtemp(prefix="docker-"))  # short: a socket's path has 108 characters at most
        try:
            self._start(unshare, dockerd)
        except BaseException:
            self.stop()
            raise
        return self

    def _start(self, unshare: Path, dockerd: Path) -> None:
        configuration = self._here / "daemon.json"
        settings = {
            "builder": {"gc": {"enabled": True, "defaultKeepStorage": f"{KEEP_GB}GB"}},
            "insecure-registries": [self._registry] if self._registry else [],
        }
        configuration.write_text(json.dumps(settings))
        command: list[str | Path] = [
            unshare,
            "--mount",
            "--pid",
            "--fork",
            "--mount-proc",
            "--kill-child=KILL",
            "--",
            dockerd,
        ]
        command += [f"--config-file={configuration}", f"--data-root={self._home}", f"--exec-root={self._here}/exec"]
        command += [f"--pidfile={self._here}/pid", f"--host=unix://{self.socket}"]
        # Containers get no network or the machine's: neither a bridge nor a rule of a firewall is made.
        command += ["--bridge=none", "--iptables=false", "--ip6tables=false", "--ip-forward=false"]
        command += ["--log-level=warn"]
        with (self._here / "log").open("wb") as log:
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=self._engine_environment(),
                preexec_fn=_end_with_parent,
            )
        deadline = time.monotonic() + START_SECONDS
        while not self._answers():
            if self._process.poll() is not None or time.monotonic() > deadline:
                raise Unavailable(f"the Docker engine does not start: {' | '.join(self._said(5))}")
            time.sleep(0.1)

    def _engine_environment(self) -> dict[str, str]:
        if not self._proxy:
            return dict(os.environ)
        # HTTPS too, which the emulator refuses: nothing is asked of whoever has the registry's name in the world.
        proxies = dict.fromkeys(("HTTP_PROXY", "HTTPS_PROXY", "http_proxy", "https_proxy"), self._proxy)
        return {**os.environ, **proxies, "NO_PROXY": "", "no_proxy": ""}

    def _answers(self) -> bool:
        done = subprocess.run(self.command("version"), env=self.environment(), capture_output=True)
        return done.returncode == 0

    def _said(self, lines: int) -> list[str]:
        try:
            return (self._here / "log").read_text(errors="replace").strip().splitlines()[-lines:]
        except (DockerError, OSError):
            return []

    @property
    def _here(self) -> Path:
        if self._folder is None:
            raise DockerError("the Docker engine has ended, or was never started")
        return self._folder

    @property
    def socket(self) -> Path:
        """Where the engine listens."""
        return self._here / "docker.sock"

    def environment(self) -> dict[str, str]:
        """Return the environment in which the client talks to this engine, with no configuration of the user's."""
        return {
            **{name: value for name, value in os.environ.items() if not name.startswith(("DOCKER_", "BUILDKIT_"))},
            "DOCKER_HOST": f"unix://{self.socket}",
            "DOCKER_CONFIG": str(self._here / "config"),
            "DOCKER_BUILDKIT": "1",
        }

    def command(self, *arguments: str | Path) -> list[str]:
        """Return a command line of the client."""
        return [str(part) for part in (self._client, *arguments)]

    def run(self, *arguments: str | Path, timeout: float = 600, stdin: int | None = None) -> str:
        """Run the client; return its standard output.

        Raises:
            DockerError: it failed or took longer than the timeout in seconds.
        """
        try:
            done = self.attempt(*arguments, timeout=timeout, stdin=stdin)
        except subprocess.TimeoutExpired as error:
            raise DockerError(f"docker {arguments[0]}: not done after {timeout:.0f} s") from error
        if done.returncode != 0:
            raise DockerError(f"docker {arguments[0]} ended with {done.returncode}:\n{done.stdout}{done.stderr}")
        return done.stdout

    def attempt(
        self, *arguments: str | Path, timeout: float = 600, stdin: int | None = None, folder: Path | None = None
    ) -> subprocess.CompletedProcess[str]:
        """Run the client, in a folder if one is given, whatever its exit code.

        Raises:
            DockerError: the engine is not there any more.
        """
        done = subprocess.run(
            self.command(*arguments),
            env=self.environment(),
            cwd=folder,
            stdin=subprocess.DEVNULL if stdin is None else stdin,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=timeout,
        )
        if self._process is None or self._process.poll() is not None:
            said = "\n".join(self._said(60))
            raise DockerError(f"the Docker engine has ended while `docker {arguments[0]}` ran; it said:\n{said}")
        return done

    def stop(self) -> None:
        """End the engine with all that runs in it."""
        if self._process is not None:
            for child in _children(self._process.pid):
                _signal(child, signal.SIGTERM)  # unshare itself passes no signal on
            try:
                self._process.wait(STOP_SECONDS)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
            self._process = None
        if self._folder is not None:
            shutil.rmtree(self._folder, ignore_errors=True)
            self._folder = None
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()


def _end_with_parent() -> None:
    ctypes.CDLL(None).prctl(_PDEATHSIG, signal.SIGKILL)


def _children(pid: int) -> list[int]:
    try:
        return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except OSError:
        return []


def _signal(pid: int, number: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, number)
