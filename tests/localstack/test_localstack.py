"""LocalStack's life cycle: alone, confined, and gone when it should be."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import httpx
import psutil
import pytest
from botocore.exceptions import ClientError

from local.emulators import localstack as module
from local.emulators.localstack import LocalStack
from local.platform.home import PlatformError

ROOT = Path(__file__).parents[2]


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where this test's LocalStacks keep their files."""
    monkeypatch.setattr(module.tempfile, "tempdir", str(tmp_path))
    return tmp_path


def below(place: Path) -> list[psutil.Process]:
    """The processes that were started with a folder in this place."""
    found = []
    for process in psutil.process_iter():
        try:
            if any(part.startswith(str(place)) for part in process.cmdline()):
                found.append(process)
        except (psutil.NoSuchProcess, psutil.AccessDenied, psutil.ZombieProcess):
            pass
    return found


def gone(place: Path, seconds: float = 15) -> bool:
    """Whether no process and no file is left, in the end."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if not below(place) and not list(place.glob("localstack-*")):
            return True
        time.sleep(0.1)
    return False


def test_it_serves_until_the_end_of_the_block_and_leaves_nothing(
    place: Path, localstack: LocalStack, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LOCALSTACK_AUTH_TOKEN", "ours")
    monkeypatch.setenv("GATEWAY_LISTEN", "0.0.0.0:4566")
    monkeypatch.setenv("AWS_PROFILE", "no-such-profile")
    with LocalStack(("s3",)) as own:
        assert own.url != localstack.url
        s3 = own.client("s3")
        s3.create_bucket(Bucket="of-its-own")
        assert [bucket["Name"] for bucket in s3.list_buckets()["Buckets"]] == ["of-its-own"]
        guard_and_localstack = below(place)
        assert len(guard_and_localstack) == 2
        for process in guard_and_localstack:
            assert not {"LOCALSTACK_AUTH_TOKEN", "AWS_PROFILE"} & set(process.environ())
        others = localstack.client("s3").list_buckets()["Buckets"]
        assert "of-its-own" not in [bucket["Name"] for bucket in others]
    assert gone(place, seconds=1)
    with pytest.raises(PlatformError, match="was not started"):
        _ = own.url
    own.stop()  # harmless


def test_the_environment_leads_other_processes_to_it(localstack: LocalStack) -> None:
    code = (
        "import boto3; print(boto3.client('sts').get_caller_identity()['Account']); "
        "print(boto3.client('sqs').create_queue(QueueName='queue')['QueueUrl'])"
    )
    done = subprocess.run([sys.executable, "-c", code], env=localstack.environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    queue = f"{localstack.url}/123456789012/queue"
    assert done.stdout.split() == ["123456789012", queue]
    localstack.client("sqs").delete_queue(QueueUrl=queue)


def test_only_the_services_asked_for_are_served(localstack: LocalStack) -> None:
    with pytest.raises(ClientError, match="not enabled"):
        localstack.client("dynamodb").list_tables()


def test_it_listens_on_loopback_only_and_talks_to_nobody(localstack: LocalStack) -> None:
    assert localstack.folder is not None
    processes = below(localstack.folder)
    assert len(processes) == 2
    connections = [item for process in processes for item in process.net_connections(kind="inet")]
    listening = [item.laddr for item in connections if item.status == psutil.CONN_LISTEN]
    assert [f"http://{address.ip}:{address.port}" for address in listening] == [localstack.url]
    assert {item.raddr.ip for item in connections if item.raddr} <= {"127.0.0.1"}


PARENT = """
import sys, tempfile, time
tempfile.tempdir = sys.argv[1]
from local.emulators.localstack import LocalStack
with LocalStack(("s3",)) as localstack:
    print(localstack.url, flush=True)
    time.sleep(600)
"""


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_it_is_gone_when_its_parent_is(place: Path, number: signal.Signals) -> None:
    parent = subprocess.Popen(
        [sys.executable, "-c", PARENT, str(place)], cwd=ROOT, stdout=subprocess.PIPE, text=True, start_new_session=True
    )
    try:
        assert parent.stdout is not None
        assert re.fullmatch(r"http://127\.0\.0\.1:\d+\n", parent.stdout.readline())
        assert len(below(place)) == 3  # the parent names the place too
        parent.send_signal(number)
        parent.wait(10)
        assert gone(place)
    finally:
        if parent.poll() is None:
            os.killpg(parent.pid, signal.SIGKILL)
            parent.wait()


def test_one_that_does_not_start_says_why_and_leaves_nothing(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    broken = place / "broken.py"
    broken.write_text("raise SystemExit('no room')")
    monkeypatch.setattr(module, "_LAUNCH", broken)
    with pytest.raises(PlatformError, match=r"(?s)LocalStack ended at once. The end of its log:.*no room"):
        LocalStack().start()
    assert gone(place, seconds=1)


def test_one_that_hangs_is_given_up(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    slow = place / "slow.py"
    slow.write_text("import time; time.sleep(600)")
    monkeypatch.setattr(module, "_LAUNCH", slow)
    with pytest.raises(PlatformError, match="did not answer within 1 s"):
        LocalStack(start_timeout=1).start()
    assert gone(place, seconds=2)


def test_for_people_it_prints_what_to_export_and_stops_on_ctrl_c(place: Path) -> None:
    process = subprocess.Popen(
        [sys.executable, "-m", "local.emulators.localstack"],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "TMPDIR": str(place)},
        start_new_session=True,
    )
    try:
        assert process.stdout is not None
        said = {}
        for line in process.stdout:
            if line.startswith("#"):
                break
            name, _, value = line.removeprefix("export ").strip().partition("=")
            said[name] = value
        assert "sts" in httpx.get(f"{said['AWS_ENDPOINT_URL']}/_localstack/health").json()["services"]
        process.send_signal(signal.SIGINT)
        assert process.wait(10) == 0
        assert gone(place)
    finally:
        process.kill()  # its guard ends LocalStack then
