"""The processes behind the front: ministack, the project's own AWS API, and a container registry if wanted."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import sys
from pathlib import Path

import aiohttp

from local.emulators.names import HOST
from local.platform.home import ROOT, environment_python
from local.platform.ports import PortReservations

MINISTACK = "ministack"
LOCAL_AWS = "local-aws"
REGISTRY = "registry"
_LAUNCH = ROOT / "local" / "aws" / "sagemaker" / "launch.py"  # has the kernel end a process with its parent
_HEALTH = {MINISTACK: "/_ministack/health", LOCAL_AWS: "/_local/health", REGISTRY: "/"}
_START_SECONDS = 60
_STOP_SECONDS = 10


class Backends:
    """Starts and stops the backends of one front.

    Args:
        registry: Debian's docker-registry; without it there is no registry.
    """

    def __init__(
        self, folder: Path, images: Path, region: str, account: str, front_port: int, registry: Path | None = None
    ) -> None:
        self._folder = folder.resolve()
        self._images = images.resolve()
        self._region = region
        self._account = account
        self._front_port = front_port
        self._registry = registry
        self._ports = PortReservations()
        self._names = [MINISTACK, LOCAL_AWS, *([REGISTRY] if registry else [])]
        self._port = {name: self._ports.reserve(None) for name in self._names}
        self._processes: dict[str, asyncio.subprocess.Process] = {}

    def url(self, name: str) -> str:
        """Return a backend's address."""
        return f"http://127.0.0.1:{self._port[name]}"

    @property
    def has_registry(self) -> bool:
        """Whether there is a container registry."""
        return self._registry is not None

    def ended(self) -> list[str]:
        """Return the backends that do not run (any more)."""
        running = {name for name, process in self._processes.items() if process.returncode is None}
        return sorted(set(self._names) - running)

    async def start(self) -> None:
        """Start all and wait until they answer.

        Raises:
            RuntimeError: one does not come up; the message has the end of its log.
        """
        starts = [self._start(MINISTACK, *self._ministack()), self._start(LOCAL_AWS, *self._local_aws())]
        if self._registry:
            starts.append(self._start(REGISTRY, *self._docker_registry(self._registry)))
        await asyncio.gather(*starts)

    async def stop(self) -> None:
        """End both, politely first."""
        running = [process for process in self._processes.values() if process.returncode is None]
        for process in running:
            process.send_signal(signal.SIGTERM)
        for process in running:
            try:
                await asyncio.wait_for(process.wait(), _STOP_SECONDS)
            except TimeoutError:
                with contextlib.suppress(ProcessLookupError):
                    process.kill()
                await process.wait()
        self._ports.release()

    def _ministack(self) -> tuple[list[str], dict[str, str]]:
        home = self._folder / MINISTACK
        home.mkdir(parents=True, exist_ok=True)
        environment = {
            "GATEWAY_PORT": str(self._port[MINISTACK]),
            "BIND_HOST": "127.0.0.1",
            "MINISTACK_HOST": HOST,  # in queue URLs and the addresses of databases
            "MINISTACK_ACCOUNT_ID": self._account,
            "MINISTACK_REGION": self._region,
            # With no Docker to be found it keeps clusters and databases as records and starts nothing.
            "DOCKER_HOST": f"unix://{home}/no-docker.sock",
            "IOT_MTLS_ENABLED": "0",
            "SFTP_ENABLED": "0",
            "LOG_LEVEL": "WARNING",
            **{name: str(home) for name in ("HOME", "TMPDIR", "S3_DATA_DIR", "STATE_DIR")},
        }
        return [str(environment_python("ministack")), "-m", "ministack"], environment

    def _local_aws(self) -> tuple[list[str], dict[str, str]]:
        state = self._folder / LOCAL_AWS
        state.mkdir(parents=True, exist_ok=True)
        command = [
            *(sys.executable, "-m", "local.aws"),
            *("--port", str(self._port[LOCAL_AWS])),
            *("--state-dir", str(state)),
            *("--images", str(self._images)),
            *("--region", self._region, "--account", self._account),
            # Model data is in the S3 that everybody else uses.
            *("--s3-endpoint", f"http://127.0.0.1:{self._front_port}"),
        ]
        return command, {"PYTHONPATH": str(ROOT), "HOME": str(state)}

    def _docker_registry(self, program: Path) -> tuple[list[str], dict[str, str]]:
        home = self._folder / REGISTRY
        home.mkdir(parents=True, exist_ok=True)
        configuration = {
            "version": 0.1,
            "log": {"level": "warn", "accesslog": {"disabled": True}},
            "storage": {"filesystem": {"rootdirectory": str(home)}},
            # Where an upload goes on is told without a host: clients know this one by ECR's name.
            "http": {"addr": f"127.0.0.1:{self._port[REGISTRY]}", "relativeurls": True},
        }
        file = self._folder / f"{REGISTRY}.yml"
        file.write_text(json.dumps(configuration), encoding="utf-8")
        return [str(program), "serve", str(file)], {"HOME": str(home)}

    async def _start(self, name: str, command: list[str], environment: dict[str, str]) -> None:
        log = self._folder / f"{name}.log"
        with log.open("ab") as output:
            process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-I", "-S", str(_LAUNCH), str(os.getpid())),
                *command,
                # Nothing of the caller's environment: no AWS settings, no proxies.
                env={"PATH": os.environ.get("PATH", os.defpath), "PYTHONUNBUFFERED": "1", **environment},
                cwd=ROOT,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )
        self._processes[name] = process
        url = self.url(name) + _HEALTH[name]
        async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=5)) as session:
            for _ in range(_START_SECONDS * 10):
                if process.returncode is not None:
                    raise RuntimeError(f"{name} ended with {process.returncode}; the end of {log}:\n{_tail(log)}")
                with contextlib.suppress(aiohttp.ClientError, TimeoutError):
                    async with session.get(url) as reply:
                        if reply.status == 200:
                            return
                await asyncio.sleep(0.1)
        raise RuntimeError(f"{name} is not ready after {_START_SECONDS} s; the end of {log}:\n{_tail(log)}")


def _tail(path: Path) -> str:
    return path.read_text(errors="replace")[-2000:]
