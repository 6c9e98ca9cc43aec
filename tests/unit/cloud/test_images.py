from __future__ import annotations

import io
import json
import re
import subprocess
import tarfile
from pathlib import Path
from typing import Any

import boto3
import pytest
from moto import mock_aws

from cloud import accepted_findings, docker, document_versions, findings, images, manifest, sbom
from cloud.environments import Environment
from cloud.errors import CloudError

DIGEST = "sha256:" + "a" * 64
PROJECT_ROOT = Path(__file__).resolve().parents[3]
PINNED = f"python:3.12@sha256:{'b' * 64}"
SBOM = {"bomFormat": "CycloneDX", "components": [{"name": "numpy", "version": "2.0"}]}


def git(root: Path, *arguments: str) -> str:
    command = ["git", "-c", "user.name=t", "-c", "user.email=t@example.com", *arguments]
    return subprocess.run(command, cwd=root, check=True, capture_output=True, text=True).stdout.strip()


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A clone in which everything is committed."""
    for name in ("dev", "staging", "prod"):
        (tmp_path / "terraform" / "environments" / name).mkdir(parents=True)
    for recipe in images.IMAGES.values():
        (tmp_path / recipe.dockerfile).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / recipe.dockerfile).write_text(f"ARG PYTHON_IMAGE={PINNED}\n", encoding="utf-8")
    (tmp_path / accepted_findings.FILE).write_text("findings: []\n", encoding="utf-8")
    (tmp_path / "dags").mkdir()
    (tmp_path / "dags/mlplatform").symlink_to(PROJECT_ROOT / "dags/mlplatform")
    git(tmp_path, "init", "-q")
    git(tmp_path, "add", ".")
    git(tmp_path, "commit", "-qm", "all")
    return tmp_path


def test_images_are_built_from_a_commit(root: Path) -> None:
    commit = images.checked_out_commit(root)
    command = images.build_command("trainer", f"repo/trainer:{commit}", commit, images.commit_time(root))
    assert "--file=containers/trainer/Dockerfile" in command
    assert f"--build-arg=GIT_SHA={commit}" in command
    assert f"--build-arg=SOURCE_DATE_EPOCH={git(root, 'log', '-1', '--format=%ct')}" in command
    assert not any("VARIANT" in argument or "--secret" in argument for argument in command)


def test_buildx_is_told_to_push_a_plain_image() -> None:
    command = images.build_command("trainer", "repo/trainer:1", "1", "0", buildx=True)
    assert command[:2] == ["buildx", "build"]
    assert {"--provenance=false", "--sbom=false"} < set(command)
    assert "--output=type=image,push=true,oci-mediatypes=false" in command
    plain = images.build_command("trainer", "repo/trainer:1", "1", "0")
    assert plain == ["build", *(argument for argument in command[2:] if argument not in manifest.BUILDX)]


def test_the_trainer_has_a_variant_with_cuda() -> None:
    command = images.build_command("trainer_cuda", "repo/trainer-cuda:1", "1", "0")
    assert "--file=containers/trainer/Dockerfile" in command
    assert "--build-arg=VARIANT=cuda" in command
    assert (PROJECT_ROOT / "containers/trainer/requirements-cuda.lock").is_file()
    assert images.IMAGES["trainer_cuda"].repository == "trainer-cuda"


def test_a_package_index_of_ones_own_is_a_secret_of_the_build(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    index = tmp_path / "index"
    monkeypatch.setenv("ML_PLATFORM_BUILD_INDEX", str(index))
    with pytest.raises(CloudError, match=r"ML_PLATFORM_BUILD_INDEX names .*index, which is no file"):
        images.build_command("serving", "repo/serving:1", "1", "0")
    index.write_text("PIP_INDEX_URL=https://user:password@example.com/simple\n", encoding="utf-8")
    command = images.build_command("serving", "repo/serving:1", "1", "0")
    assert f"--secret=id=index,src={index}" in command
    assert "password" not in " ".join(command)


def test_the_base_image_is_pinned_in_this_project() -> None:
    assert images.base_image(PROJECT_ROOT).startswith("python:3.12-slim-trixie@sha256:")


@pytest.mark.parametrize(
    ("reference", "says"),
    [
        (
            "python:3.12-slim-bookworm",
            r"containers/serving/Dockerfile: PYTHON_IMAGE is python:3.12-slim-bookworm, which",
        ),
        ("python@sha256:abc", "names no digest"),
        ("", "PYTHON_IMAGE is nothing"),
        (f"python:3.13@sha256:{'b' * 64}", r"not the same in .*serving/Dockerfile"),
    ],
)
def test_no_release_is_built_on_an_unpinned_base_image(
    root: Path, monkeypatch: pytest.MonkeyPatch, reference: str, says: str
) -> None:
    (root / "containers/serving/Dockerfile").write_text(f"ARG PYTHON_IMAGE={reference}\n", encoding="utf-8")
    git(root, "commit", "-qam", "other root")
    monkeypatch.setattr(Environment, "client", lambda *_: pytest.fail("AWS was asked"))
    with pytest.raises(CloudError, match=says):
        images.build_and_push(Environment("dev", root), lambda _: None)


def test_uncommitted_changes_are_refused_by_name(root: Path) -> None:
    (root / "containers" / "trainer" / "Dockerfile").write_text("FROM other\n", encoding="utf-8")
    with pytest.raises(CloudError, match=r"uncommitted changes .*\n.*containers/trainer/Dockerfile"):
        images.checked_out_commit(root)


def test_a_folder_without_git_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CloudError, match="git does not say"):
        images.checked_out_commit(tmp_path)


VERSIONS = {"RunConfig": [2, 7]}


def write_images(environment: Environment, named: dict[str, str]) -> None:
    images.write(environment, named, "c0ffee")
    path = document_versions.path_of(environment.root, environment.name)
    document_versions.write(path, named, "c0ffee", VERSIONS)


def named_images() -> dict[str, str]:
    return {name: f"1.dkr.ecr/ml-platform/{recipe.repository}@{DIGEST}" for name, recipe in images.IMAGES.items()}


@pytest.mark.usefixtures("pushed")
def test_promotion_takes_over_the_very_digests_and_what_is_in_them(root: Path) -> None:
    dev, staging = Environment("dev", root), Environment("staging", root)
    named = named_images()
    write_images(dev, named)
    for name, reference in named.items():
        sbom.write(sbom.path_of(dev, name), reference, SBOM)
    assert images.promote(staging, dev) == named
    assert (staging.folder / images.FILE).read_bytes() == (dev.folder / images.FILE).read_bytes()
    for name in named:
        assert sbom.path_of(staging, name).read_bytes() == sbom.path_of(dev, name).read_bytes()
    described = document_versions.read(document_versions.path_of(root, "staging"), named, "staging")
    assert described == ("c0ffee", VERSIONS)


@pytest.mark.parametrize("there", ["nothing", "another image's", "damaged"])
def test_what_cannot_be_listed_is_not_promoted(root: Path, there: str) -> None:
    dev, staging = Environment("dev", root), Environment("staging", root)
    named = named_images()
    write_images(dev, named)
    for name, reference in named.items():
        sbom.write(sbom.path_of(dev, name), reference, SBOM)
    path = sbom.path_of(dev, "mlflow")
    if there == "nothing":
        path.unlink()
    elif there == "damaged":
        path.write_text("{", encoding="utf-8")
    else:
        sbom.write(path, named["serving"], SBOM)
    with pytest.raises(CloudError, match=r"mlflow.cdx.json does not describe .*run `make images ENV=dev` first"):
        images.promote(staging, dev)
    assert not (staging.folder / images.FILE).exists()
    assert not sbom.path_of(staging, "trainer").exists()


@pytest.mark.usefixtures("pushed")
def test_images_of_which_nobody_knows_what_they_read_are_not_promoted(root: Path) -> None:
    dev, staging = Environment("dev", root), Environment("staging", root)
    named = named_images()
    write_images(dev, named)
    for name, reference in named.items():
        sbom.write(sbom.path_of(dev, name), reference, SBOM)
    described = document_versions.path_of(root, "dev")
    document_versions.write(described, {**named, "trainer": "another"}, "c0ffee", VERSIONS)
    with pytest.raises(CloudError, match=r"documents.json is not about .*\(trainer\): run `make images ENV=dev`$"):
        images.promote(staging, dev)
    described.unlink()
    with pytest.raises(CloudError, match=r"documents.json: no such file.*run `make images ENV=dev`$"):
        images.promote(staging, dev)
    assert not any(path.is_file() for path in staging.folder.rglob("*")), "nothing is taken over half"


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
    """The parts of ECR that are asked of an image: its scan, which is pending first, and its form."""

    class exceptions:
        class ScanNotFoundException(Exception):
            pass

        class ImageNotFoundException(Exception):
            pass

    def __init__(self, *answers: Any, media_types: dict[str, str] | None = None) -> None:
        self.answers = list(answers)
        self.media_types = media_types or {}
        """By repository, where it is not the one that is wanted."""

    def describe_image_scan_findings(self, **asked: Any) -> dict[str, Any]:
        if not self.answers:
            return complete()
        answer: dict[str, Any] | None = self.answers.pop(0)
        if answer is None:
            raise self.exceptions.ScanNotFoundException
        return answer

    def describe_images(self, **asked: Any) -> dict[str, Any]:
        media_type = self.media_types.get(asked["repositoryName"], manifest.WANTED)
        if media_type == "gone":
            raise self.exceptions.ImageNotFoundException
        return {"imageDetails": [{"imageDigest": DIGEST, "imageManifestMediaType": media_type}]}


def complete(**counts: int) -> dict[str, Any]:
    named = [
        {"name": f"CVE-{number}", "severity": severity, "attributes": [{"key": "package_name", "value": "zlib"}]}
        for severity, count in counts.items()
        for number in range(count)
    ]
    content = {"findingSeverityCounts": counts, "findings": named}
    return {"imageScanStatus": {"status": "COMPLETE"}, "imageScanFindings": content}


def test_a_scan_is_waited_for() -> None:
    ecr = Ecr(None, {"imageScanStatus": {"status": "IN_PROGRESS"}}, complete(HIGH=2))
    assert findings.scan(ecr, "ml-platform/trainer", DIGEST, poll_seconds=0).counts == {"HIGH": 2}


def test_a_scan_that_failed_is_no_result() -> None:
    ecr = Ecr({"imageScanStatus": {"status": "UNSUPPORTED_IMAGE"}})
    with pytest.raises(CloudError, match="ended with UNSUPPORTED_IMAGE"):
        findings.scan(ecr, "ml-platform/trainer", DIGEST, poll_seconds=0)


class Docker:
    """A client whose images hold a SBOM; it notes what it was asked to do."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, content: bytes = json.dumps(SBOM).encode()) -> None:
        self.asked: list[tuple[str, ...]] = []
        self._content = content
        monkeypatch.setattr(docker, "run", lambda _, *arguments, **__: self.asked.append(arguments))
        monkeypatch.setattr(docker, "output", self._output)
        monkeypatch.setattr(docker, "has_buildx", lambda _: False)

    def _output(self, _: Path, *arguments: str) -> bytes:
        self.asked.append(arguments)
        if arguments[0] != "cp":
            return b"c0ntainer\n"
        archive = io.BytesIO()
        with tarfile.open(fileobj=archive, mode="w") as tar:
            entry = tarfile.TarInfo("sbom.cdx.json")
            entry.size = len(self._content)
            tar.addfile(entry, io.BytesIO(self._content))
        return archive.getvalue()


@pytest.fixture
def pushed(monkeypatch: pytest.MonkeyPatch) -> Ecr:
    """All images were pushed before, by another machine; the first one asked of is the trainer."""
    ecr = Ecr()
    monkeypatch.setattr(Environment, "client", lambda *_: ecr)
    monkeypatch.setattr(images, "repository_url", lambda _, name: f"repo/ml-platform/{name}")
    monkeypatch.setattr(images, "login", lambda _: docker.run(Path(), "login"))
    return ecr


@pytest.mark.parametrize("buildx", [False, True])
def test_what_is_missing_is_built_and_pushed(
    root: Path, monkeypatch: pytest.MonkeyPatch, pushed: Ecr, buildx: bool
) -> None:
    client = Docker(monkeypatch)
    monkeypatch.setattr(docker, "has_buildx", lambda _: buildx)
    monkeypatch.setattr(images, "_digest", lambda *_: DIGEST if len(client.asked) > 1 else None)
    images.build_and_push(Environment("dev", root), lambda _: None)
    done = [arguments[0] for arguments in client.asked if arguments[0] not in ("create", "cp", "rm")]
    each = ["buildx"] if buildx else ["build", "push"]
    assert done == ["login", *each * len(images.IMAGES)]


OTHER_FORMS = ["application/vnd.oci.image.index.v1+json", "application/vnd.oci.image.manifest.v1+json", ""]


@pytest.mark.parametrize("form", [*OTHER_FORMS, "application/vnd.docker.distribution.manifest.list.v2+json"])
def test_an_image_in_another_form_is_refused(
    root: Path, monkeypatch: pytest.MonkeyPatch, pushed: Ecr, form: str
) -> None:
    dev = Environment("dev", root)
    Docker(monkeypatch)
    pushed.media_types["ml-platform/serving"] = form
    expected = (
        rf"serving: ml-platform/serving@{DIGEST} is {re.escape(form) or 'of no media type'}, which SageMaker .*"
        rf"`aws ecr batch-delete-image --repository-name ml-platform/serving --image-ids imageDigest={DIGEST}`.*buildx"
    )
    with pytest.raises(CloudError, match=expected):
        images.build_and_push(dev, lambda _: None)
    assert not (dev.folder / images.FILE).exists()


@pytest.mark.parametrize(("form", "says"), [(OTHER_FORMS[0], "image.index"), ("gone", "not in the repository")])
def test_an_image_in_another_form_is_not_promoted(root: Path, pushed: Ecr, form: str, says: str) -> None:
    dev, staging = Environment("dev", root), Environment("staging", root)
    named = named_images()
    write_images(dev, named)
    for name, reference in named.items():
        sbom.write(sbom.path_of(dev, name), reference, SBOM)
    pushed.media_types["ml-platform/mlflow"] = form
    with pytest.raises(CloudError, match=rf"mlflow: .*{says}"):
        images.promote(staging, dev)
    assert not any(path.is_file() for path in staging.folder.rglob("*")), "nothing is taken over half"


def test_critical_findings_keep_an_image_out(root: Path, monkeypatch: pytest.MonkeyPatch, pushed: Ecr) -> None:
    dev = Environment("dev", root)
    Docker(monkeypatch)
    pushed.answers = [complete(CRITICAL=1)]
    with pytest.raises(CloudError, match=r"trainer: CRITICAL CVE-0 in zlib: not accepted\nRenew .*ALLOW_FINDINGS=1"):
        images.build_and_push(dev, lambda _: None)
    assert not (dev.folder / images.FILE).exists()

    pushed.answers = [complete(CRITICAL=1)]
    named = images.build_and_push(dev, lambda _: None, allow_findings=True)
    assert json.loads((dev.folder / images.FILE).read_text(encoding="utf-8"))["images"] == named
    assert named["trainer"] == f"repo/ml-platform/trainer@{DIGEST}"
    assert named["trainer_cuda"] == f"repo/ml-platform/trainer-cuda@{DIGEST}"
    commit, versions = document_versions.read(document_versions.path_of(root, "dev"), named, "dev")
    assert commit == git(root, "rev-parse", "HEAD")
    assert versions == document_versions.of_library(PROJECT_ROOT / "dags")


def test_accepted_findings_do_not(root: Path, monkeypatch: pytest.MonkeyPatch, pushed: Ecr) -> None:
    dev = Environment("dev", root)
    Docker(monkeypatch)
    entry = "- {id: CVE-0, package: %s, images: [%s], reason: Debian has no fix., expires: 2999-12-31}"
    entries = [entry % ("zlib", "trainer"), entry % ("perl", "serving")]
    (root / accepted_findings.FILE).write_text("\n".join(["findings:", *entries, ""]), encoding="utf-8")
    git(root, "commit", "-qam", "accepted")
    pushed.answers = [complete(CRITICAL=1, LOW=3)]
    said: list[str] = []
    images.build_and_push(dev, said.append)
    assert "trainer: the scan found 1 critical, 3 low" in said
    unused = "containers/accepted-findings.yaml:3: CVE-0 in perl was found in none of its images: take the entry out"
    assert [line for line in said if "accepted" in line] == [unused]
    assert (dev.folder / images.FILE).exists()


def test_a_list_of_accepted_findings_that_is_wrong_is_told_before_aws_is_asked(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (root / accepted_findings.FILE).write_text("findings: {}\n", encoding="utf-8")
    git(root, "commit", "-qam", "wrong")
    monkeypatch.setattr(Environment, "client", lambda *_: pytest.fail("AWS was asked"))
    with pytest.raises(CloudError, match=r"^containers/accepted-findings.yaml:1: expected a list"):
        images.build_and_push(Environment("dev", root), lambda _: None)


@pytest.mark.usefixtures("pushed")
def test_a_library_that_does_not_import_is_told_before_anything_is_built(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    dev = Environment("dev", root)
    docker = Docker(monkeypatch)
    monkeypatch.setattr(images, "_digest", lambda *_: None)
    (root / "dags/mlplatform").unlink()
    (root / "dags/mlplatform").mkdir()
    (root / "dags/mlplatform/__init__.py").write_text("import nowhere_to_be_found\n", encoding="utf-8")
    git(root, "add", "--all")
    git(root, "commit", "-qm", "broken")
    with pytest.raises(CloudError, match=r"(?s)does not say which documents it reads.*nowhere_to_be_found"):
        images.build_and_push(dev, lambda _: None)
    assert docker.asked == []
    assert not (dev.folder / images.FILE).exists()


@pytest.mark.usefixtures("pushed")
def test_each_digest_comes_with_its_sbom(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    dev = Environment("dev", root)
    client = Docker(monkeypatch)
    named = images.build_and_push(dev, lambda _: None)
    assert [arguments[0] for arguments in client.asked] == ["login", *("create", "cp", "rm") * len(named)]
    for name, reference in named.items():
        document = json.loads(sbom.path_of(dev, name).read_text(encoding="utf-8"))
        assert document["components"] == SBOM["components"]
        assert document["metadata"]["component"]["bom-ref"] == reference

    client.asked.clear()  # a second time all is there, and nothing is fetched
    images.build_and_push(dev, lambda _: None)
    assert client.asked == []


@pytest.mark.usefixtures("pushed")
@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"{}", b'{"bomFormat": "SPDX"}'])
def test_an_image_without_an_sbom_is_refused(root: Path, monkeypatch: pytest.MonkeyPatch, content: bytes) -> None:
    dev = Environment("dev", root)
    client = Docker(monkeypatch, content)
    with pytest.raises(
        CloudError, match=r"repo/ml-platform/trainer@sha256:a+: /opt/venv/share/sbom.cdx.json is no SBOM"
    ):
        images.build_and_push(dev, lambda _: None)
    assert client.asked[-1] == ("rm", "c0ntainer")
    assert not (dev.folder / images.FILE).exists()
