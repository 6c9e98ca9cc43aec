"""`make images` and the promotion after it, really run: built by Docker, pushed to a registry, taken over by digest.

The Dockerfiles, commands and forms are a release's. What is not: the base image is the stand-in, and each lock file
names one package only, the same in all, so that five images are built and pushed in seconds.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from cloud import images as release
from cloud import manifest
from local.emulators import EmulatedAws
from local.emulators.workspace import Workspace
from local.platform.home import PlatformError
from tests.images.support import ROOT, Images

PACKAGE = "packaging"
CLIENT = """#!/bin/sh
# The engine's own client. A build is given what it lacks here: a base image at hand, and the machine's network.
if [ "$1" = build ]; then shift; exec {client} build {options} "$@"; fi
if [ "$1 $2" = "buildx build" ]; then shift 2; exec {client} buildx build {options} "$@"; fi
exec {client} "$@"
"""


@pytest.fixture(scope="module")
def account(account_port: int, tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmulatedAws]:
    """An account in which nothing is but the repositories that bootstrap makes."""
    try:
        with EmulatedAws(tmp_path_factory.mktemp("account"), port=account_port, registry=True) as aws:
            assert aws.port == account_port, "somebody has taken the port in the meantime: run the tests again"
            for recipe in release.IMAGES.values():
                name = f"ml-platform/{recipe.repository}"
                aws.client("ecr").create_repository(repositoryName=name, imageTagMutability="IMMUTABLE")
            yield aws
    except PlatformError as problem:
        pytest.skip(str(problem))


def git(folder: Path, *arguments: str) -> str:
    command = ["git", "-c", "user.name=t", "-c", "user.email=t@example.com", *arguments]
    return subprocess.run(command, cwd=folder, check=True, capture_output=True, text=True).stdout.strip()


def only(lock: str) -> str:
    """Return a lock file with one package of it."""
    found = re.search(rf"^{PACKAGE}==.*\n(    .*\n)+", lock, re.MULTILINE)
    assert found
    return found[0]


@pytest.fixture(scope="module")
def workspace(account: EmulatedAws, images: Images, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Workspace]:
    """A clone of the project in which all is committed, and Docker signed in nowhere."""
    folder = tmp_path_factory.mktemp("project") / "clone"
    workspace = Workspace(folder, account)
    shutil.copytree(ROOT / "containers", folder / "containers", ignore=shutil.ignore_patterns("__pycache__"))
    for name in (".dockerignore", ".gitignore"):
        shutil.copy(ROOT / name, folder / name)
    for lock in folder.glob("containers/*/requirements*.lock"):
        if lock.parent.name != "build" and not lock.name.endswith("-test.lock"):
            lock.write_text(only(lock.read_text(encoding="utf-8")), encoding="utf-8")
    git(folder, "init", "--quiet")
    git(folder, "add", ".")
    git(folder, "commit", "--quiet", "--message", "all")
    client = tmp_path_factory.mktemp("bin") / "docker"
    command = " ".join(images.engine.command())
    client.write_text(CLIENT.format(client=command, options=" ".join(images.replaced)), encoding="utf-8")
    client.chmod(0o755)
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("PATH", os.pathsep.join((str(client.parent), os.environ["PATH"])))
        for variable, value in images.engine.environment().items():
            if variable.startswith("DOCKER_"):
                environment.setenv(variable, value)
        yield workspace
    for recipe in release.IMAGES.values():  # the cache of builds stays, which holds the same layers
        reference = f"{account.registry_host}/ml-platform/{recipe.repository}"
        for image in images.engine.run("image", "ls", "--quiet", reference).split():
            images.engine.attempt("image", "rm", "--force", image)


@pytest.fixture(scope="module")
def released(workspace: Workspace) -> str:
    """What `make images` says the first time."""
    return said(workspace.cloud("images", "--env", "dev"))


def said(done: subprocess.CompletedProcess[str]) -> str:
    """Return what a command said, in one line: a terminal's width breaks it elsewhere."""
    return " ".join((done.stdout + done.stderr).split())


def named(workspace: Workspace, environment: str) -> dict[str, Any]:
    path = workspace.root(environment) / release.FILE
    content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return content


def test_every_image_is_in_its_repository_in_the_form_that_the_services_take(
    released: str, workspace: Workspace, account: EmulatedAws
) -> None:
    commit = git(workspace.folder, "rev-parse", "HEAD")
    written = named(workspace, "dev")
    assert written["git_sha"] == commit
    assert set(written["images"]) == set(release.IMAGES)
    for name, reference in written["images"].items():
        repository = f"ml-platform/{release.IMAGES[name].repository}"
        asked = {"repositoryName": repository, "imageIds": [{"imageTag": commit}]}
        (found,) = account.client("ecr").describe_images(**asked)["imageDetails"]
        assert found["imageManifestMediaType"] == manifest.WANTED
        assert reference == f"{account.registry_host}/{repository}@{found['imageDigest']}"
        assert f"{name}: the scan found nothing" in released


def test_what_lies_there_runs_and_is_listed(released: str, workspace: Workspace, images: Images) -> None:
    reference = named(workspace, "dev")["images"]["serving"]
    code = f"import importlib.metadata as m; print(m.version({PACKAGE!r}))"
    command = ["run", "--rm", "--network=none", "--entrypoint=python", reference, "-c", code]
    version = images.engine.run(*command).strip()
    listed = json.loads((workspace.root("dev") / "sbom" / "serving.cdx.json").read_text(encoding="utf-8"))
    assert listed["metadata"]["component"]["bom-ref"] == reference
    purls = [component.get("purl", "") for component in listed["components"]]
    assert [purl for purl in purls if purl.startswith("pkg:pypi/")] == [f"pkg:pypi/{PACKAGE}@{version}"]


def test_a_second_time_nothing_is_built(released: str, workspace: Workspace) -> None:
    before = named(workspace, "dev")
    again = said(workspace.cloud("images", "--env", "dev"))
    assert "trainer: building" in released
    assert "building" not in again
    assert named(workspace, "dev") == before


def test_the_same_digests_are_promoted(released: str, workspace: Workspace) -> None:
    workspace.cloud("images", "--env", "staging", "--from", "dev")
    assert named(workspace, "staging") == named(workspace, "dev")


def test_what_lies_there_in_another_form_is_refused(released: str, workspace: Workspace, account: EmulatedAws) -> None:
    git(workspace.folder, "commit", "--quiet", "--allow-empty", "--message", "another")
    commit, before = git(workspace.folder, "rev-parse", "HEAD"), named(workspace, "dev")
    form = "application/vnd.oci.image.index.v1+json"
    for recipe in release.IMAGES.values():
        index = {"repositoryName": f"ml-platform/{recipe.repository}", "imageManifestMediaType": form}
        account.client("ecr").put_image(**index, imageManifest="{}", imageTag=commit)
    done = workspace.cloud("images", "--env", "dev", check=False)
    assert done.returncode != 0
    told = said(done)
    assert f"is {form}, which SageMaker or the scan refuse" in told
    assert "aws ecr batch-delete-image --repository-name ml-platform/trainer" in told
    assert named(workspace, "dev") == before
