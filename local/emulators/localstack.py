"""LocalStack without Docker: the AWS services it has, in one process of its own, gone when the caller is.

What holds and moves data (S3, KMS, SQS, SNS, logs, IAM, EC2's networks …) it does closer to AWS than the other
emulators; it has no managed services (SageMaker, EKS, RDS, ECR, MWAA). It runs from the environment
``localstack`` as any user: its folders ``/usr/lib/localstack`` and ``/var/lib/localstack`` are moved below a
temporary one. It downloads nothing and reports to nobody.

For people: ``python -m local.emulators.localstack``.
"""

from __future__ import annotations

import os
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Self

from local.platform.facts import ACCOUNT, REGION
from local.platform.home import PlatformError, environment_python
from local.platform.ports import LOOPBACK, PortReservations
from local.platform.processes import tail

SERVICES = ("cloudwatch", "ec2", "events", "iam", "kms", "logs", "s3", "secretsmanager", "sns", "sqs", "ssm", "sts")
"""Started on first use; every other service is refused."""

_GUARD = Path(__file__).with_name("localstack_guard.py")
_LAUNCH = Path(__file__).with_name("localstack_launch.py")
_NOWHERE = f"http://{LOOPBACK}:9"


class LocalStack:
    """One LocalStack; several can run side by side. Use it as a context manager."""

    def __init__(self, services: Sequence[str] = SERVICES, *, start_timeout: float = 120) -> None:
        self.services = tuple(services)
        self._start_timeout = start_timeout
        self._ports = PortReservations()
        self._port: int | None = None
        self._guard: subprocess.Popen[bytes] | None = None
        self._folder: Path | None = None
        self._clients: dict[str, Any] = {}

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    @property
    def url(self) -> str:
        """Address of all its services.

        Raises:
            PlatformError: it does not run.
        """
        if self._port is None:
            raise PlatformError("this LocalStack was not started")
        return f"http://{LOOPBACK}:{self._port}"

    @property
    def environment(self) -> dict[str, str]:
        """What AWS clients in other processes need in their environment; lay it over one without other AWS settings."""
        return {
            "AWS_ENDPOINT_URL": self.url,
            "AWS_ACCESS_KEY_ID": ACCOUNT,  # LocalStack takes twelve digits for the account
            "AWS_SECRET_ACCESS_KEY": "localstack",
            "AWS_REGION": REGION,
            "AWS_DEFAULT_REGION": REGION,
            "AWS_EC2_METADATA_DISABLED": "true",
            "NO_PROXY": LOOPBACK,
            "no_proxy": LOOPBACK,
        }

    @property
    def folder(self) -> Path | None:
        """Its files, while it runs."""
        return self._folder

    def client(self, service: str) -> Any:
        """Return a boto3 client, whatever the caller's environment says; the same one each time."""
        if service not in self._clients:
            import boto3
            import botocore.session

            # Without the profile and the files that the caller's environment may name.
            alone = {
                "profile": (None, None, None, None),
                "config_file": (None, None, os.devnull, None),
                "credentials_file": (None, None, os.devnull, None),
            }
            session = boto3.session.Session(
                aws_access_key_id=ACCOUNT,
                aws_secret_access_key="localstack",
                region_name=REGION,
                botocore_session=botocore.session.Session(session_vars=alone),
            )
            self._clients[service] = session.client(service, endpoint_url=self.url)
        return self._clients[service]

    def start(self) -> None:
        """Start it and wait until it answers.

        Raises:
            PlatformError: it does not start; the message has the end of its log.
        """
        if self._guard is not None:
            return
        python = environment_python("localstack")
        self._port = self._ports.reserve(None)
        self._folder = Path(tempfile.mkdtemp(prefix="localstack-"))
        for name in ("home", "tmp"):
            (self._folder / name).mkdir()
        self._guard = subprocess.Popen(
            [
                *(sys.executable, "-I", "-S", str(_GUARD), str(self._folder)),
                *(str(python), "-P", str(_LAUNCH), str(self._folder)),
            ],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            env=self._settings(self._folder),
            start_new_session=True,
        )
        try:
            self._wait_ready()
        except BaseException:
            self.stop()
            raise

    def stop(self) -> None:
        """Stop it and remove its folder; nothing happens if it does not run."""
        if self._guard is not None:
            assert self._guard.stdin is not None
            self._guard.stdin.close()  # which is what the guard waits for
            self._guard.wait()
            self._guard = None
        if self._folder is not None:
            shutil.rmtree(self._folder, ignore_errors=True)  # if somebody killed the guard
            self._folder = None
        for client in self._clients.values():
            client.close()
        self._clients.clear()
        self._ports.release()
        self._port = None

    def log(self, lines: int = 40) -> str:
        """Return the end of its log."""
        return tail(self._folder / "log", lines) if self._folder else ""

    def _settings(self, folder: Path) -> dict[str, str]:
        """Its whole environment; nothing of the caller's reaches it."""
        return {
            "PATH": os.defpath,
            "HOME": str(folder / "home"),
            "TMPDIR": str(folder / "tmp"),
            "FILESYSTEM_ROOT": str(folder / "root"),  # in front of /usr/lib/localstack and /var/lib/localstack …
            "OVERRIDE_IN_DOCKER": "0",  # … unless it takes the machine for its own container
            "CONFIG_DIR": str(folder / "home"),  # not the profiles in the user's ~/.localstack
            "GATEWAY_LISTEN": f"{LOOPBACK}:{self._port}",
            "LOCALSTACK_HOST": f"{LOOPBACK}:{self._port}",  # in the addresses it hands out
            "SQS_ENDPOINT_STRATEGY": "off",  # queues as http://host:port/account/name, which needs no name resolution
            "SERVICES": ",".join(self.services),
            "DNS_ADDRESS": "0",  # no name server of its own
            "DISABLE_EVENTS": "1",
            "SKIP_SSL_CERT_DOWNLOAD": "1",
            # Should it still ask for something outside, that fails at once.
            "HTTP_PROXY": _NOWHERE,
            "HTTPS_PROXY": _NOWHERE,
            "NO_PROXY": f"{LOOPBACK},localhost",
            "PYTHONUNBUFFERED": "1",
        }

    def _wait_ready(self) -> None:
        assert self._folder is not None
        direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        deadline = time.monotonic() + self._start_timeout
        while True:
            try:
                direct.open(f"{self.url}/_localstack/health", timeout=2).close()
                return
            except (OSError, urllib.error.URLError):
                pass
            ended = (self._folder / "exit-code").exists()
            if ended or time.monotonic() > deadline:
                why = "ended at once" if ended else f"did not answer within {self._start_timeout:g} s"
                raise PlatformError(f"LocalStack {why}. The end of its log:\n{self.log()}")
            time.sleep(0.1)


def main() -> None:
    """Run one until Ctrl-C, after telling how to use it."""
    # Ctrl-C too: what a shell starts in the background begins with it ignored.
    for ending in (signal.SIGINT, signal.SIGTERM):
        signal.signal(ending, signal.default_int_handler)
    with LocalStack() as localstack:
        for name, value in localstack.environment.items():
            print(f"export {name}={shlex.quote(value)}")
        print("# LocalStack runs until Ctrl-C.", flush=True)
        try:
            signal.pause()
        except KeyboardInterrupt:
            print("# stopping", flush=True)


if __name__ == "__main__":
    main()
