"""Build, scan and push the container images; environments name them by digest, and a digest is what is promoted."""

from __future__ import annotations

import base64
import json
import shutil
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import botocore.exceptions

from cloud import files
from cloud.environments import PROJECT, Environment
from cloud.errors import CloudError
from cloud.terraform import ROOT

IMAGES = ("trainer", "serving", "deployer", "mlflow")
PLATFORM = "linux/amd64"
REFUSED = ("CRITICAL",)
"""Severities of findings that keep an image out."""
SCAN_MINUTES = 15
FILE = "images.auto.tfvars.json"
Say = Callable[[str], None]


def build_and_push(environment: Environment, say: Say, *, allow_findings: bool = False) -> dict[str, str]:
    """Build every image at the checked-out commit, push it once, and write its digest down for the environment.

    An image whose tag is in the repository already is not built again: tags are immutable.

    Raises:
        CloudError: uncommitted changes, no Docker, a build or push failed, or a scan found too much.
    """
    commit = checked_out_commit(environment.root)
    ecr = environment.client("ecr")
    repositories = {name: repository_url(ecr, name) for name in IMAGES}
    missing = [name for name in IMAGES if not _digest(ecr, name, commit)]
    if missing:
        login(ecr)
    for name in missing:
        reference = f"{repositories[name]}:{commit}"
        say(f"{name}: building")
        _docker(environment.root, *build_command(name, reference, commit))
        say(f"{name}: pushing")
        _docker(environment.root, "push", "--quiet", reference)
    images: dict[str, str] = {}
    for name in IMAGES:
        digest = _digest(ecr, name, commit)
        if not digest:
            raise CloudError(
                f"{name}: {repositories[name]}:{commit} is not in the repository after its push; try again"
            )
        findings = scan(ecr, name, digest)
        counts = ", ".join(f"{count} {severity.lower()}" for severity, count in sorted(findings.items())) or "nothing"
        say(f"{name}: the scan found {counts}")
        if any(findings.get(severity) for severity in REFUSED) and not allow_findings:
            raise CloudError(
                f"{name}: the scan found {counts}: renew the base image or the lock file, or pass ALLOW_FINDINGS=1 "
                f"(`aws ecr describe-image-scan-findings --repository-name {PROJECT}/{name} "
                f"--image-id imageDigest={digest}`)"
            )
        images[name] = f"{repositories[name]}@{digest}"
    write(environment, images, commit)
    return images


def promote(environment: Environment, source: Environment) -> dict[str, str]:
    """Let an environment use exactly the images that another one uses.

    Raises:
        CloudError: the other one names none.
    """
    path = source.folder / FILE
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        images, commit = content["images"], content["git_sha"]
    except (OSError, ValueError, KeyError):
        raise CloudError(f"{path} names no images: run `make images ENV={source.name}` first") from None
    write(environment, images, commit)
    return dict(images)


def write(environment: Environment, images: dict[str, str], commit: str) -> None:
    """Write the digests where Terraform reads them; to be committed with the change that rolls them out."""
    files.write(environment.folder / FILE, json.dumps({"git_sha": commit, "images": images}, indent=2) + "\n")


def build_command(name: str, reference: str, commit: str) -> list[str]:
    """Return the arguments of Docker that build an image."""
    return [
        "build",
        f"--platform={PLATFORM}",
        "--pull",
        f"--file=containers/{name}/Dockerfile",
        f"--build-arg=GIT_SHA={commit}",
        f"--tag={reference}",
        ".",
    ]


def checked_out_commit(root: Path = ROOT) -> str:
    """Return the commit that is checked out.

    Raises:
        CloudError: there are changes that are not committed, so that no tag could say what is in an image.
    """

    def git(*arguments: str) -> str:
        return subprocess.run(["git", *arguments], cwd=root, capture_output=True, text=True, check=True).stdout.strip()

    try:
        changed = git("status", "--porcelain", "--", "containers", "dags/mlplatform")
        commit = git("rev-parse", "HEAD")
    except (OSError, subprocess.CalledProcessError) as error:
        raise CloudError(f"git does not say what is checked out in {root}: {error}") from None
    if changed:
        raise CloudError(f"uncommitted changes would get into the images; commit or stash them first:\n{changed}")
    return commit


def repository_url(ecr: Any, name: str) -> str:
    """Return the address of an image's repository.

    Raises:
        CloudError: it does not exist.
    """
    try:
        found = ecr.describe_repositories(repositoryNames=[f"{PROJECT}/{name}"])["repositories"][0]
    except botocore.exceptions.ClientError as error:
        code = error.response["Error"]["Code"]
        raise CloudError(
            f"the repository {PROJECT}/{name} cannot be used ({code}): apply terraform/bootstrap"
        ) from None
    url: str = found["repositoryUri"]
    return url


def login(ecr: Any) -> None:
    """Sign Docker in; the password goes through a pipe, not over the command line."""
    authorization = ecr.get_authorization_token()["authorizationData"][0]
    user, _, password = base64.b64decode(authorization["authorizationToken"]).decode().partition(":")
    _docker(ROOT, "login", "--username", user, "--password-stdin", authorization["proxyEndpoint"], stdin=password)


def scan(ecr: Any, name: str, digest: str, poll_seconds: float = 5) -> dict[str, int]:
    """Wait for the repository's own scan of an image; return the number of findings by severity.

    Raises:
        CloudError: the scan failed or has not ended in time.
    """
    deadline = time.monotonic() + SCAN_MINUTES * 60
    wanted = {"repositoryName": f"{PROJECT}/{name}", "imageId": {"imageDigest": digest}}
    while time.monotonic() < deadline:
        try:
            found = ecr.describe_image_scan_findings(**wanted)
        except ecr.exceptions.ScanNotFoundException:
            found = {"imageScanStatus": {"status": "PENDING"}}
        status = found["imageScanStatus"]["status"]
        if status in ("COMPLETE", "ACTIVE"):
            return dict(found.get("imageScanFindings", {}).get("findingSeverityCounts", {}))
        if status in ("FAILED", "UNSUPPORTED_IMAGE"):
            raise CloudError(f"{name}: the scan of {digest} ended with {status}: {found['imageScanStatus']}")
        time.sleep(poll_seconds)
    raise CloudError(f"{name}: no scan result after {SCAN_MINUTES} minutes: is scan on push on for {PROJECT}/{name}?")


def _digest(ecr: Any, name: str, tag: str) -> str | None:
    try:
        found = ecr.describe_images(repositoryName=f"{PROJECT}/{name}", imageIds=[{"imageTag": tag}])["imageDetails"]
    except ecr.exceptions.ImageNotFoundException:
        return None
    return str(found[0]["imageDigest"]) if found else None


def _docker(root: Path, *arguments: str, stdin: str | None = None) -> None:
    if not shutil.which("docker"):
        raise CloudError("docker was not found on PATH: install it, or build where it is and promote the digests")
    done = subprocess.run(["docker", *arguments], cwd=root, input=stdin, text=True)
    if done.returncode != 0:
        raise CloudError(f"docker {arguments[0]} failed, see above")
