"""The images as the tests use them: built like a release on the base image at hand, run as a cluster runs them."""

from __future__ import annotations

import os
import socket
import subprocess
import time
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from cloud import images as release
from local.docker.engine import DockerError, Engine

ROOT = Path(__file__).resolve().parents[2]
ENVS = ROOT / ".local" / "envs"
# Kept between runs: what did not change is not built again. `make clean` removes it.
CACHE = ROOT / ".local" / "cache" / "images"
NAMES = tuple(release.IMAGES)
COMMIT = "0123456789abcdef0123456789abcdef01234567"
RESTRICTED = (
    *("--read-only", "--cap-drop=ALL", "--security-opt=no-new-privileges", "--pids-limit=512"),
    *("--tmpfs=/tmp:mode=1777,size=2g", "--memory=6g"),
)
"""The pods' security context: nothing can be written but the one mounted folder, and nothing run from it."""
PROXIES = ("HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "http_proxy", "https_proxy", "no_proxy")


@dataclass
class Images:
    """Builds each image once, when it is first asked for or announced."""

    engine: Engine
    base_image: str
    _pool: ThreadPoolExecutor
    _builds: dict[str, Future[str]] = field(default_factory=dict)

    @property
    def replaced(self) -> list[str]:
        """Options of a build that are not a release's: the base image, the network, and what is told."""
        proxies = [f"--build-arg={proxy}" for proxy in PROXIES if proxy in os.environ]
        return [f"--build-arg=PYTHON_IMAGE={self.base_image}", "--network=host", "--progress=plain", *proxies]

    def announce(self, names: Sequence[str]) -> None:
        """Begin to build images while others are tested."""
        for name in names:
            if name not in self._builds:
                self._builds[name] = self._pool.submit(self.build, name, f"mlplatform/{name}:test")

    def reference(self, name: str) -> str:
        """Return the reference of a built image."""
        self.announce([name])
        return self._builds[name].result()

    def build(self, name: str, reference: str, *options: str) -> str:
        """Build an image with the very command of a release, but for the base image and the network.

        What the build says stays in a log file beside the cache.

        Raises:
            DockerError: it cannot be built.
        """
        _, *arguments = release.build_command(name, reference, COMMIT, "1700000000")
        done = self.engine.attempt("build", *self.replaced, *options, *arguments, timeout=1800, folder=ROOT)
        (CACHE / f"{reference.rpartition('/')[2].replace(':', '-')}.log").write_text(done.stderr, encoding="utf-8")
        if done.returncode != 0:
            raise DockerError(f"{name} cannot be built:\n{done.stderr[-6000:]}")
        return reference

    def run(
        self,
        name: str,
        *arguments: str,
        environment: Mapping[str, str] | None = None,
        network: str = "none",
        entrypoint: str | None = None,
        options: Sequence[str] = (),
        timeout: float = 300,
    ) -> subprocess.CompletedProcess[str]:
        """Run a container to its end, restricted as a pod is."""
        command = ["run", "--rm", *RESTRICTED, f"--network={network}", *options]
        command += [f"--env={key}={value}" for key, value in (environment or {}).items()]
        if entrypoint:
            command.append(f"--entrypoint={entrypoint}")
        return self.engine.attempt(*command, self.reference(name), *arguments, timeout=timeout)

    @contextmanager
    def serve(
        self, name: str, url: str, *arguments: str, environment: Mapping[str, str], options: Sequence[str] = ()
    ) -> Iterator[str]:
        """Run a server on the machine's network until the end of the block; yield the container's id.

        Raises:
            DockerError: it does not answer, or does not end well when it is told to.
        """
        command = ["run", "--detach", *RESTRICTED, "--network=host", *options]
        command += [f"--env={key}={value}" for key, value in environment.items()]
        container = self.engine.run(*command, self.reference(name), *arguments).strip()
        try:
            self._wait(container, url)
            yield container
            self.engine.run("stop", "--time=30", container)
            if (code := self._state(container, "ExitCode")) != "0":
                raise DockerError(f"{name} ended with {code}:\n{self.log(container)}")
        finally:
            self.engine.attempt("rm", "--force", container)

    def log(self, container: str) -> str:
        """Return all that a container has said."""
        done = self.engine.attempt("logs", container)
        return done.stdout + done.stderr

    def _state(self, container: str, key: str) -> str:
        return self.engine.run("inspect", "--format", f"{{{{.State.{key}}}}}", container).strip()

    def _wait(self, container: str, url: str) -> None:
        deadline = time.monotonic() + 120
        while True:
            try:
                urllib.request.urlopen(url, timeout=5).close()
                return
            except OSError as error:
                if self._state(container, "Running") != "true" or time.monotonic() > deadline:
                    raise DockerError(f"{url} does not answer ({error}):\n{self.log(container)}") from None
            time.sleep(0.2)


def free_port() -> int:
    """Return a port nobody listens on."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port: int = free.getsockname()[1]
    return port
