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
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import botocore.exceptions

from cloud import accepted_findings, docker, document_versions, files, findings, manifest, sbom
from cloud.environments import Environment
from cloud.errors import CloudError
from cloud.platform_file import platform
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
        CloudError: uncommitted changes, a library that does not import, no Docker, a build or push failed, what was
            pushed has a form that the services refuse, or a scan found too much.
    """
    commit = checked_out_commit(environment.root)
    base_image(environment.root)
    accepted = accepted_findings.read(environment.root, IMAGES)
    versions = document_versions.of_library(environment.root / "dags")
    ecr = environment.client("ecr")
    repositories = {name: repository_url(ecr, recipe.repository) for name, recipe in IMAGES.items()}
    missing = [name for name, recipe in IMAGES.items() if not _digest(ecr, recipe.repository, commit)]
    if missing:
        login(ecr)
        buildx = docker.has_buildx(environment.root)
        for name in missing:
            _push(environment.root, name, f"{repositories[name]}:{commit}", commit, buildx, say)
    images: dict[str, str] = {}
    scans: dict[str, findings.Scan] = {}
    for name, recipe in IMAGES.items():
        digest = _digest(ecr, recipe.repository, commit)
        if not digest:
            raise CloudError(
                f"{name}: {repositories[name]}:{commit} is not in the repository after its push; try again"
            )
        manifest.check(ecr, name, f"{platform().name}/{recipe.repository}", digest)
        scans[name] = findings.scan(ecr, f"{platform().name}/{recipe.repository}", digest)
        say(f"{name}: the scan found {scans[name]}")
        images[name] = f"{repositories[name]}@{digest}"
    _judge(scans, accepted, images, say, allow_findings=allow_findings)
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
        CloudError: the other one names none, does not say what is in them or what they read, or one of them has a form
            that the services refuse; nothing is taken over.
    """
    path = source.folder / FILE
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        images, commit = content["images"], content["git_sha"]
    except (OSError, ValueError, KeyError, TypeError):
        raise CloudError(f"{path} names no images: run `make images ENV={source.name}` first") from None
    for name, reference in images.items():
        bill = sbom.path_of(source, name)
        if not sbom.describes(bill, reference):
            raise CloudError(f"{bill} does not describe {reference}: run `make images ENV={source.name}` first")
    ecr = environment.client("ecr")
    for name, reference in images.items():
        repository, _, digest = reference.partition("/")[2].partition("@")
        manifest.check(ecr, name, repository, digest)
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


def build_command(name: str, reference: str, commit: str, epoch: str, *, buildx: bool = False) -> list[str]:
    """Return the arguments of Docker that build an image, and with buildx push it too.

    Args:
        buildx: whether the client has it. The engine's own builder attests nothing, and knows none of the options.
        epoch: the commit's time in seconds since 1970; a builder that knows SOURCE_DATE_EPOCH dates the image by it.

    Raises:
        CloudError: a secret's file does not exist.
    """
    recipe = IMAGES[name]
    arguments = {"GIT_SHA": commit, "SOURCE_DATE_EPOCH": epoch, **recipe.arguments}
    return [
        *(("buildx", "build", *manifest.BUILDX) if buildx else ("build",)),
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
        found = ecr.describe_repositories(repositoryNames=[f"{platform().name}/{name}"])["repositories"][0]
    except botocore.exceptions.ClientError as error:
        code = error.response["Error"]["Code"]
        raise CloudError(
            f"the repository {platform().name}/{name} cannot be used ({code}): apply terraform/bootstrap"
        ) from None
    url: str = found["repositoryUri"]
    return url


def login(ecr: Any) -> None:
    """Sign Docker in; the password goes through a pipe, not over the command line."""
    authorization = ecr.get_authorization_token()["authorizationData"][0]
    user, _, password = base64.b64decode(authorization["authorizationToken"]).decode().partition(":")
    # By the name that pushes look it up by: not every credential helper takes an address for it.
    registry = authorization["proxyEndpoint"].removeprefix("https://")
    docker.run(ROOT, "login", "--username", user, "--password-stdin", registry, stdin=password)


def _push(root: Path, name: str, reference: str, commit: str, buildx: bool, say: Say) -> None:
    """Build an image and push it."""
    say(f"{name}: building")
    docker.run(root, *build_command(name, reference, commit, commit_time(root), buildx=buildx))
    if not buildx:
        say(f"{name}: pushing")
        docker.run(root, "push", "--quiet", reference)


def _judge(
    scans: Mapping[str, findings.Scan],
    accepted: Sequence[accepted_findings.Accepted],
    images: Mapping[str, str],
    say: Say,
    *,
    allow_findings: bool,
) -> None:
    """Say what is accepted in vain.

    Raises:
        CloudError: an image has what has a fix, or what nobody has accepted.
    """
    for entry in findings.unused(scans, accepted):
        say(f"{entry.place}: {entry.id} in {entry.package} was found in none of its images: take the entry out")
    today = datetime.now(UTC).date()
    refused = {name: findings.refusals(name, scan, accepted, today) for name, scan in scans.items()}
    lines = [f"{name}: {line}" for name, found in refused.items() for line in found]
    if lines and not allow_findings:
        shown = next(name for name, found in refused.items() if found)
        repository, _, digest = images[shown].partition("/")[2].partition("@")
        raise CloudError(
            "\n".join(lines) + "\nRenew the base image (docs/images.md) or the lock file; accept what has no fix in "
            f"{accepted_findings.FILE}, with a reason and a day; or pass ALLOW_FINDINGS=1 this once "
            f"(`aws ecr describe-image-scan-findings --repository-name {repository} --image-id imageDigest={digest}`)"
        )


def _digest(ecr: Any, name: str, tag: str) -> str | None:
    return manifest.digest_of(ecr, f"{platform().name}/{name}", tag)
