from __future__ import annotations

import json
import subprocess
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import boto3
import pytest
from moto import mock_aws

from cloud import images
from cloud.environments import Environment
from cloud.errors import CloudError

DIGEST = "sha256:" + "a" * 64


def git(root: Path, *arguments: str) -> str:
    command = ["git", "-c", "user.name=t", "-c", "user.email=t@example.com", *arguments]
    return subprocess.run(command, cwd=root, check=True, capture_output=True, text=True).stdout.strip()


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A clone in which everything is committed."""
    for name in ("dev", "staging", "prod"):
        (tmp_path / "terraform" / "environments" / name).mkdir(parents=True)
    (tmp_path / "containers" / "trainer").mkdir(parents=True)
    (tmp_path / "containers" / "trainer" / "Dockerfile").write_text("FROM scratch\n", encoding="utf-8")
    git(tmp_path, "init", "-q")
    git(tmp_path, "add", ".")
    git(tmp_path, "commit", "-qm", "all")
    return tmp_path


def test_images_are_built_from_a_commit(root: Path) -> None:
    commit = images.checked_out_commit(root)
    command = images.build_command("trainer", f"repo/trainer:{commit}", commit)
    assert "--file=containers/trainer/Dockerfile" in command
    assert f"--build-arg=GIT_SHA={commit}" in command


def test_uncommitted_changes_are_refused_by_name(root: Path) -> None:
    (root / "containers" / "trainer" / "Dockerfile").write_text("FROM other\n", encoding="utf-8")
    with pytest.raises(CloudError, match=r"uncommitted changes .*\n.*containers/trainer/Dockerfile"):
        images.checked_out_commit(root)


def test_a_folder_without_git_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CloudError, match="git does not say"):
        images.checked_out_commit(tmp_path)


def test_promotion_takes_over_the_very_digests(root: Path) -> None:
    dev, staging = Environment("dev", root), Environment("staging", root)
    named = {name: f"1.dkr.ecr/ml-platform/{name}@{DIGEST}" for name in images.IMAGES}
    images.write(dev, named, "c0ffee")
    assert images.promote(staging, dev) == named
    assert (staging.folder / images.FILE).read_bytes() == (dev.folder / images.FILE).read_bytes()


@pytest.mark.parametrize("content", [None, "{", "{}"])
def test_nothing_to_promote_is_said(root: Path, content: str | None) -> None:
    dev, staging = Environment("dev", root), Environment("staging", root)
    if content is not None:
        (dev.folder / images.FILE).write_text(content, encoding="utf-8")
    with pytest.raises(CloudError, match="names no images: run `make images ENV=dev` first"):
        images.promote(staging, dev)
    assert not (staging.folder / images.FILE).exists()


@mock_aws
def test_a_missing_repository_says_what_makes_it() -> None:
    ecr = boto3.client("ecr", region_name="us-east-1", aws_access_key_id="t", aws_secret_access_key="t")
    with pytest.raises(CloudError, match=r"ml-platform/trainer .*RepositoryNotFoundException.*terraform/bootstrap"):
        images.repository_url(ecr, "trainer")


class Ecr:
    """The parts of ECR that a scan needs: it is pending first."""

    class exceptions:
        class ScanNotFoundException(Exception):
            pass

        class ImageNotFoundException(Exception):
            pass

    def __init__(self, *answers: Any) -> None:
        self.answers = list(answers)

    def describe_image_scan_findings(self, **_: Any) -> dict[str, Any]:
        answer: dict[str, Any] | None = self.answers.pop(0)
        if answer is None:
            raise self.exceptions.ScanNotFoundException
        return answer


def complete(**counts: int) -> dict[str, Any]:
    return {"imageScanStatus": {"status": "COMPLETE"}, "imageScanFindings": {"findingSeverityCounts": counts}}


def test_a_scan_is_waited_for() -> None:
    ecr = Ecr(None, {"imageScanStatus": {"status": "IN_PROGRESS"}}, complete(HIGH=2))
    assert images.scan(ecr, "trainer", DIGEST, poll_seconds=0) == {"HIGH": 2}


def test_a_scan_that_failed_is_no_result() -> None:
    with pytest.raises(CloudError, match="ended with UNSUPPORTED_IMAGE"):
        images.scan(Ecr({"imageScanStatus": {"status": "UNSUPPORTED_IMAGE"}}), "trainer", DIGEST, poll_seconds=0)


def test_critical_findings_keep_an_image_out(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    dev = Environment("dev", root)
    monkeypatch.setattr(Environment, "client", lambda *_: SimpleNamespace())
    monkeypatch.setattr(images, "repository_url", lambda _, name: f"repo/{name}")
    monkeypatch.setattr(images, "_digest", lambda *_: DIGEST)  # all pushed before: nothing is built again
    monkeypatch.setattr(images, "scan", lambda *_: {"CRITICAL": 1})
    with pytest.raises(CloudError, match="the scan found 1 critical"):
        images.build_and_push(dev, lambda _: None)
    assert not (dev.folder / images.FILE).exists()

    named = images.build_and_push(dev, lambda _: None, allow_findings=True)
    assert json.loads((dev.folder / images.FILE).read_text(encoding="utf-8"))["images"] == named
    assert named["trainer"] == f"repo/trainer@{DIGEST}"
