"""Build, scan and push the container images; environments name them by digest, and a digest is what is promoted.

Beside the digests lies each image's software bill of materials (SBOM, CycloneDX), made in the image's build from what
is installed.
"""

from __future__ import annotations

import base64
import json
import os
import re
import subprocess
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import botocore.exceptions

from cloud import docker, document_versions, files, sbom
from cloud.environments import PROJECT, Environment
from cloud.errors import CloudError
from cloud.terraform import ROOT


@dataclass(frozen=True)
class Recipe:
    """What an image is built from and where it goes; its name is the one the configuration uses."""

    folder: str
    repository: str
    arguments: Mapping[str, str] = field(default_factory=dict)

    @property
    def dockerfile(self) -> str:
        """Path in the project."""
        return f"containers/{self.folder}/Dockerfile"


IMAGES = {
    "trainer": Recipe("trainer", "trainer"),
    "trainer_cuda": Recipe("trainer", "trainer-cuda", {"VARIANT": "cuda"}),
    "serving": Recipe("serving", "serving"),
    "deployer": Recipe("deployer", "deployer"),
    "mlflow": Recipe("mlflow", "mlflow"),
}
SOURCES = ("containers", "dags/mlplatform", ".dockerignore")
"""What goes into images, and how."""
PLATFORM = "linux/amd64"
REFUSED = ("CRITICAL",)
"""Severities of findings that keep an image out."""
SCAN_MINUTES = 15
FILE = "images.auto.tfvars.json"
SECRETS = {"index": "ML_PLATFORM_BUILD_INDEX", "ca": "ML_PLATFORM_BUILD_CA"}
"""Secrets of a build, and the variable that names the file with each: a package index of one's own, its authorities."""
_BASE_IMAGE = re.compile(r"^ARG PYTHON_IMAGE=(.*)$", re.MULTILINE)
_PINNED = re.compile(r".+@sha256:[0-9a-f]{64}")
Say = Callable[[str], None]


def build_and_push(environment: Environment, say: Say, *, allow_findings: bool = False) -> dict[str, str]:
    """Build every image at the checked-out commit, push it once, and write its digest down for the environment.

    An image whose tag is in the repository already is not built again: tags are immutable.

    Raises:
        CloudError: uncommitted changes, a library that does not import, no Docker, a build or push failed, or a scan
            found too much.
    """
    commit = checked_out_commit(environment.root)
    base_image(environment.root)
    versions = document_versions.of_library(environment.root / "dags")
    ecr = environment.client("ecr")
    repositories = {name: repository_url(ecr, recipe.repository) for name, recipe in IMAGES.items()}
    missing = [name for name, recipe in IMAGES.items() if not _digest(ecr, recipe.repository, commit)]
    if missing:
        login(ecr)
    for name in missing:
        reference = f"{repositories[name]}:{commit}"
        say(f"{name}: building")
        docker.run(environment.root, *build_command(name, reference, commit, commit_time(environment.root)))
        say(f"{name}: pushing")
        docker.run(environment.root, "push", "--quiet", reference)
    images: dict[str, str] = {}
    for name, recipe in IMAGES.items():
        digest = _digest(ecr, recipe.repository, commit)
        if not digest:
            raise CloudError(
                f"{name}: {repositories[name]}:{commit} is not in the repository after its push; try again"
            )
        findings = scan(ecr, recipe.repository, digest)
        counts = ", ".join(f"{count} {severity.lower()}" for severity, count in sorted(findings.items())) or "nothing"
        say(f"{name}: the scan found {counts}")
        if any(findings.get(severity) for severity in REFUSED) and not allow_findings:
            raise CloudError(
                f"{name}: the scan found {counts}: renew the base image or the lock file, or pass ALLOW_FINDINGS=1 "
                f"(`aws ecr describe-image-scan-findings --repository-name {PROJECT}/{recipe.repository} "
                f"--image-id imageDigest={digest}`)"
            )
        images[name] = f"{repositories[name]}@{digest}"
    signed_in = bool(missing)
    for name, reference in images.items():
        path = sbom.path_of(environment, name)
        if not sbom.describes(path, reference):
            if not signed_in:
                login(ecr)  # the image may have to be fetched: another machine has pushed it
                signed_in = True
            sbom.write(path, reference, sbom.read(environment.root, reference, PLATFORM))
    write(environment, images, commit)
    document_versions.write(document_versions.path_of(environment.root, environment.name), images, commit, versions)
    return images


def promote(environment: Environment, source: Environment) -> dict[str, str]:
    """Let an environment use exactly the images that another one uses.

    Raises:
        CloudError: the other one names none, or does not say what is in them or what they read; nothing is taken over.
    """
    path = source.folder / FILE
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        images, commit = content["images"], content["git_sha"]
    except (OSError, ValueError, KeyError):
        raise CloudError(f"{path} names no images: run `make images ENV={source.name}` first") from None
    for name, reference in images.items():
        bill = sbom.path_of(source, name)
        if not sbom.describes(bill, reference):
            raise CloudError(f"{bill} does not describe {reference}: run `make images ENV={source.name}` first")
    described = document_versions.path_of(source.root, source.name)
    versions = document_versions.read(described, images, source.name, running=False)[1]
    for name, reference in images.items():
        document = json.loads(sbom.path_of(source, name).read_text(encoding="utf-8"))
        sbom.write(sbom.path_of(environment, name), reference, document)
    document_versions.write(document_versions.path_of(environment.root, environment.name), images, commit, versions)
    write(environment, images, commit)
    return dict(images)


def write(environment: Environment, images: dict[str, str], commit: str) -> None:
    """Write the digests where Terraform reads them; to be committed with the change that rolls them out."""
    files.write(environment.folder / FILE, json.dumps({"git_sha": commit, "images": images}, indent=2) + "\n")


def build_command(name: str, reference: str, commit: str, epoch: str) -> list[str]:
    """Return the arguments of Docker that build an image.

    Args:
        epoch: the commit's time in seconds since 1970; a builder that knows SOURCE_DATE_EPOCH dates the image by it.

    Raises:
        CloudError: a secret's file does not exist.
    """
    recipe = IMAGES[name]
    arguments = {"GIT_SHA": commit, "SOURCE_DATE_EPOCH": epoch, **recipe.arguments}
    return [
        "build",
        f"--platform={PLATFORM}",
        f"--file={recipe.dockerfile}",
        *(f"--build-arg={argument}={value}" for argument, value in arguments.items()),
        *build_secrets(),
        f"--tag={reference}",
        ".",
    ]


def build_secrets() -> list[str]:
    """Return the arguments of Docker for the secrets that the environment names.

    Raises:
        CloudError: a file does not exist.
    """
    arguments = []
    for secret, variable in SECRETS.items():
        if path := os.environ.get(variable):
            if not Path(path).is_file():
                raise CloudError(f"{variable} names {path}, which is no file")
            arguments.append(f"--secret=id={secret},src={path}")
    return arguments


def base_image(root: Path = ROOT) -> str:
    """Return the image that all others begin with.

    Raises:
        CloudError: it is not pinned by its digest, or not the same everywhere: the same commit could give other images.
    """
    found: dict[str, list[str]] = {}
    for dockerfile in sorted({recipe.dockerfile for recipe in IMAGES.values()}):
        for reference in _BASE_IMAGE.findall((root / dockerfile).read_text(encoding="utf-8")) or [""]:
            found.setdefault(reference, []).append(dockerfile)
    for reference, dockerfiles in found.items():
        if not _PINNED.fullmatch(reference):
            raise CloudError(
                f"{', '.join(dockerfiles)}: PYTHON_IMAGE is {reference or 'nothing'}, which names no digest: pin it as "
                "name:tag@sha256:…; `docker buildx imagetools inspect name:tag` says which"
            )
    if len(found) > 1:
        raise CloudError(
            f"PYTHON_IMAGE is not the same in {' and '.join(group[0] for group in found.values())}: pin one base image"
        )
    return next(iter(found))


def checked_out_commit(root: Path = ROOT) -> str:
    """Return the commit that is checked out.

    Raises:
        CloudError: there are changes that are not committed, so that no tag could say what is in an image.
    """

    def git(*arguments: str) -> str:
        return subprocess.run(["git", *arguments], cwd=root, capture_output=True, text=True, check=True).stdout.strip()

    try:
        changed = git("status", "--porcelain", "--", *SOURCES)
        commit = git("rev-parse", "HEAD")
    except (OSError, subprocess.CalledProcessError) as error:
        raise CloudError(f"git does not say what is checked out in {root}: {error}") from None
    if changed:
        raise CloudError(f"uncommitted changes would get into the images; commit or stash them first:\n{changed}")
    return commit


def commit_time(root: Path = ROOT) -> str:
    """Return when the checked-out commit was made, in seconds since 1970."""
    command = ["git", "log", "--max-count=1", "--format=%ct"]
    return subprocess.run(command, cwd=root, capture_output=True, text=True, check=True).stdout.strip()


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
    docker.run(ROOT, "login", "--username", user, "--password-stdin", authorization["proxyEndpoint"], stdin=password)


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
