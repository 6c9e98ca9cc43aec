"""Terraform through the front: its S3 backend, its locks, and what it does when AWS says no."""

from __future__ import annotations

import os
import subprocess
import time
import uuid
from pathlib import Path

import pytest

from cloud.terraform import Terraform
from local.emulators import EmulatedAws


class Root:
    """A root whose state is in a bucket of its own."""

    def __init__(self, folder: Path, aws: EmulatedAws) -> None:
        self.aws = aws
        self.bucket = f"state-{uuid.uuid4().hex[:8]}"
        aws.client("s3").create_bucket(Bucket=self.bucket)
        self.terraform = Terraform(folder, aws.environment)
        self.terraform.init(f"-backend-config=bucket={self.bucket}", f"-backend-config=region={aws.region}")

    def stored(self) -> list[str]:
        """Return what is in the bucket."""
        return [e["Key"] for e in self.aws.client("s3").list_objects_v2(Bucket=self.bucket).get("Contents", [])]


@pytest.fixture
def root(aws: EmulatedAws, probe: Path) -> Root:
    return Root(probe, aws)


def test_apply_and_destroy_with_the_state_in_a_bucket(root: Root) -> None:
    root.terraform.run("apply", "-auto-approve", "-input=false")
    assert root.stored() == ["probe.tfstate"]
    topics = [topic["TopicArn"] for topic in root.aws.client("sns").list_topics()["Topics"]]
    assert f"arn:aws:sns:us-east-1:{root.aws.account}:one" in topics
    assert root.terraform.run("plan", "-detailed-exitcode", check=False).returncode == 0
    root.terraform.run("destroy", "-auto-approve", "-input=false")
    topics = [topic["TopicArn"] for topic in root.aws.client("sns").list_topics()["Topics"]]
    assert f"arn:aws:sns:us-east-1:{root.aws.account}:one" not in topics


def test_the_second_of_two_applies_is_refused(root: Root) -> None:
    """The first holds the lock while it waits for somebody to approve."""
    first = subprocess.Popen(
        root.terraform.command("apply"),
        env={**os.environ, **root.aws.environment, "TF_CLI_CONFIG_FILE": ""},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        deadline = time.monotonic() + 60
        while "probe.tfstate.tflock" not in root.stored():
            assert first.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.1)
        second = root.terraform.run("apply", "-auto-approve", "-input=false", check=False)
        assert second.returncode == 1
        assert "Error acquiring the state lock" in second.stderr
        assert "PreconditionFailed" in second.stderr
        said, _ = first.communicate("yes\n", timeout=60)
    finally:
        if first.poll() is None:
            first.kill()
            first.wait()
    assert first.returncode == 0, said
    assert root.stored() == ["probe.tfstate"]  # and the lock is gone


def test_an_apply_that_failed_half_way_goes_on(root: Root) -> None:
    three = 'topics=["a", "b", "c"]'
    root.aws.fault("sns", "CreateTopic", code="AuthorizationError", status=403, contains="Name=b")
    failed = root.terraform.run("apply", "-auto-approve", "-input=false", "-var", three, check=False)
    assert failed.returncode == 1
    assert "AuthorizationError" in failed.stderr
    planned = root.terraform.run("plan", "-input=false", "-var", three).stdout
    assert "1 to add, 0 to change, 0 to destroy" in planned
    root.terraform.run("apply", "-auto-approve", "-input=false", "-var", three)
    root.terraform.run("destroy", "-auto-approve", "-input=false", "-var", three)
