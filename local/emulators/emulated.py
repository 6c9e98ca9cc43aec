"""An emulated AWS account for as long as a `with` block lasts."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.parse
import urllib.request
from pathlib import Path
from types import TracebackType
from typing import IO, Any

import boto3
from botocore.client import Config

from local.emulators.names import ACCOUNT, HOST, PAGES, PREFIX, REGION
from local.images import Image, write_images
from local.platform.home import ROOT, PlatformError
from local.platform.ports import PortReservations
from local.platform.processes import tail

_START_SECONDS = 90
_PROFILE = "aws.config"


class EmulatedAws:
    """The front and its backends on free ports, with nothing in them; all of it is gone afterwards.

    The account's state is in memory. Logs are in `folder`.

    Args:
        registry: have a container registry too, which Docker can push to; wants Debian's docker-registry.
    """

    def __init__(
        self,
        folder: Path | None = None,
        *,
        region: str = REGION,
        account: str = ACCOUNT,
        images: dict[str, Image] | None = None,
        port: int | None = None,
        registry: bool = False,
    ) -> None:
        self._temporary = None if folder else tempfile.TemporaryDirectory(prefix="emulated-aws-")
        self.folder = folder or Path(self._temporary.name if self._temporary else "")
        self.region = region
        self.account = account
        self._images = images or {}
        self._ports = PortReservations()
        self._wanted = port
        self._registry = registry
        self.port = 0
        self.airflow_port = 0
        """Where the pages of all Airflow environments answer, by TLS; nothing leads there by their names."""
        self._process: subprocess.Popen[bytes] | None = None
        self._log: IO[bytes] | None = None
        self._clients: dict[tuple[str, str], Any] = {}

    def __enter__(self) -> EmulatedAws:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, problem: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    @property
    def url(self) -> str:
        """The front's own address: an endpoint for clients that address buckets in the path."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def environment(self) -> dict[str, str]:
        """What makes Terraform, boto3 and the AWS CLI in a subprocess use this account."""
        return environment(self.folder, self.port, self.region, self.account)

    @property
    def registry_host(self) -> str:
        """The container registry's name; the front is its proxy."""
        return registry_host(self.account, self.region)

    @property
    def airflow_authority(self) -> Path:
        """The certificate that those of Airflow's pages are signed with."""
        return self.folder / PAGES / "ca.crt"

    @property
    def images_file(self) -> Path:
        """Which command stands for which serving image; see `local.images`."""
        return self.folder / "images.json"

    def start(self) -> None:
        """Start the processes and wait until they answer.

        Raises:
            PlatformError: they do not come up, with the end of the log in the message; or there is no docker-registry.
        """
        registry = find_docker_registry() if self._registry else None
        self.folder.mkdir(parents=True, exist_ok=True)
        write_images(self.images_file, self._images)
        write_profile(self.folder, self.region, self.account)
        self.port, self.airflow_port = self._ports.reserve(self._wanted), self._ports.reserve(None)
        log = self.folder / "front.log"
        self._log = log.open("ab")
        # A pipe as standard input: the front stops when this process ends, even if it is killed.
        self._process = subprocess.Popen(
            [
                *front_command(self.folder, self.images_file, self.port, self.region, self.account),
                *("--airflow-port", str(self.airflow_port)),
                *(["--registry", str(registry)] if registry else []),
                "--ends-with-stdin",
            ],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=self._log,
            stderr=self._log,
            start_new_session=True,  # Ctrl-C in a terminal is for the tests; they stop the front
        )
        deadline = time.monotonic() + _START_SECONDS
        while not healthy(self.url, self._process.pid):
            ended = self._process.poll() is not None
            if ended or time.monotonic() > deadline:
                self.stop()
                raise PlatformError(f"the emulated AWS account did not start; the end of {log}:\n{tail(log, 20)}")
            time.sleep(0.05)

    def stop(self) -> None:
        """Stop the processes; a second call does nothing."""
        for client in self._clients.values():
            client.close()
        self._clients.clear()
        if self._process is not None:
            assert self._process.stdin is not None
            self._process.stdin.close()
            try:
                self._process.wait(30)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
            self._process = None
        if self._log is not None:
            self._log.close()
            self._log = None
        self._ports.release()
        if self._temporary is not None:
            self._temporary.cleanup()

    def client(self, service: str, region: str | None = None) -> Any:
        """Return a boto3 client that does not retry; the same one each time, as making one is slow."""
        key = (service, region or self.region)
        if key not in self._clients:
            self._clients[key] = client(service, self.port, key[1], self.account)
        return self._clients[key]

    def add_images(self, images: dict[str, Image]) -> None:
        """Let serving images exist from now on."""
        self._images |= images
        write_images(self.images_file, self._images)

    def fault(
        self,
        service: str,
        action: str,
        *,
        times: int = 1,
        status: int = 400,
        code: str = "ValidationException",
        message: str = "This call was told to fail.",
        contains: str = "",
    ) -> None:
        """Have the next calls of an operation end in an AWS error; only those whose path or body has `contains`."""
        fault = {"service": service, "action": action, "times": times, "status": status, "code": code}
        self._administer("POST", "faults", {**fault, "message": message, "contains": contains})

    def clear_faults(self) -> None:
        """Disarm what has not struck yet."""
        self._administer("DELETE", "faults")

    def calls(self, service: str = "", action: str = "") -> list[dict[str, Any]]:
        """Return the calls so far, oldest first: when, service, action, region, status, backend, milliseconds."""
        query = urllib.parse.urlencode({"service": service, "action": action})
        found: list[dict[str, Any]] = self._administer("GET", f"calls?{query}")["calls"]
        return found

    def clear_calls(self) -> None:
        """Begin a new journal."""
        self._administer("DELETE", "calls")

    def _administer(self, method: str, path: str, body: object = None) -> dict[str, Any]:
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(f"{self.url}{PREFIX}{path}", data, method=method)
        try:
            with _opener().open(request, timeout=30) as answer:
                document: dict[str, Any] = json.load(answer)
        except urllib.error.HTTPError as problem:
            raise ValueError(json.load(problem)["message"]) from None
        return document


def registry_host(account: str, region: str) -> str:
    """Return the name of an account's container registry."""
    return f"{account}.dkr.ecr.{region}.amazonaws.com"


def find_docker_registry() -> Path:
    """Return where Debian's registry of container images is.

    Raises:
        PlatformError: it is not installed.
    """
    found = shutil.which("docker-registry")
    if not found:
        raise PlatformError("docker-registry was not found on PATH: install Debian's package docker-registry")
    return Path(found)


def front_command(folder: Path, images: Path, port: int, region: str, account: str) -> list[str]:
    """Return the command that runs a front."""
    return [
        *(sys.executable, "-m", "local.emulators.front"),
        *("--port", str(port), "--folder", str(folder), "--images", str(images)),
        *("--region", region, "--account", account),
    ]


def write_profile(folder: Path, region: str, account: str) -> None:
    """Write a shared configuration file, so that a profile named in the caller's environment plays no part."""
    (folder / _PROFILE).write_text(
        f"[default]\nregion = {region}\naws_access_key_id = {account}\naws_secret_access_key = emulated\n"
    )


def environment(folder: Path, port: int, region: str, account: str) -> dict[str, str]:
    """Return the variables that send AWS clients to a front, and nowhere else."""
    proxy = f"http://127.0.0.1:{port}"
    return {
        "AWS_ENDPOINT_URL": f"http://{HOST}",
        # Both spellings: Go, Python and curl do not agree on which one counts.
        **dict.fromkeys(("HTTP_PROXY", "http_proxy"), proxy),
        **dict.fromkeys(("NO_PROXY", "no_proxy"), "127.0.0.1,localhost"),
        "AWS_ACCESS_KEY_ID": account,  # ministack takes an access key of twelve digits for the account's number
        "AWS_SECRET_ACCESS_KEY": "emulated",
        "AWS_SESSION_TOKEN": "",
        "AWS_REGION": region,
        "AWS_DEFAULT_REGION": region,
        "AWS_PROFILE": "default",
        "AWS_CONFIG_FILE": str(folder / _PROFILE),
        "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
        "AWS_EC2_METADATA_DISABLED": "true",
        "AWS_IGNORE_CONFIGURED_ENDPOINT_URLS": "false",
    }


def client(service: str, port: int, region: str, account: str) -> Any:
    """Return a boto3 client of a front, whatever the caller's environment says."""
    return boto3.session.Session().client(
        service,
        endpoint_url=f"http://{HOST}",
        region_name=region,
        aws_access_key_id=account,
        aws_secret_access_key="emulated",
        config=Config(
            proxies={"http": f"http://127.0.0.1:{port}"}, retries={"total_max_attempts": 1}, max_pool_connections=32
        ),
    )


def healthy(url: str, pid: int) -> bool:
    """Whether the front that is this process, and its backends, answer."""
    try:
        with _opener().open(f"{url}{PREFIX}health", timeout=5) as answer:
            return bool(json.load(answer)["pid"] == pid)
    except (OSError, ValueError):
        return False


def _opener() -> urllib.request.OpenerDirector:
    return urllib.request.build_opener(urllib.request.ProxyHandler({}))  # never through the person's own proxy
