"""The container registry: what Docker may push, and what ECR then says is there."""

from __future__ import annotations

import hashlib
import json
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import ClientError

from local.emulators import EmulatedAws
from local.platform.home import PlatformError

IMAGE = "application/vnd.docker.distribution.manifest.v2+json"
CONFIG = b"{}"


@pytest.fixture(scope="module")
def account(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmulatedAws]:
    try:
        with EmulatedAws(tmp_path_factory.mktemp("account"), registry=True) as aws:
            aws.client("ecr").create_repository(repositoryName="p/trainer", imageTagMutability="IMMUTABLE")
            yield aws
    except PlatformError as problem:
        pytest.skip(str(problem))


def ask(
    aws: EmulatedAws, method: str, path: str, body: bytes | None = None, *, media_type: str = "", token: str = ""
) -> tuple[int, bytes, str]:
    """Ask the registry as Docker does; return status, body and where to go on."""
    if not token:
        token = aws.client("ecr").get_authorization_token()["authorizationData"][0]["authorizationToken"]
    headers = {
        "Authorization": f"Basic {token}",
        "Content-Type": media_type or "application/octet-stream",
        "Accept": IMAGE,
    }
    url = path if path.startswith("http") else f"http://{aws.registry_host}{path}"
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({"http": aws.url}))
    try:
        with opener.open(urllib.request.Request(url, body, headers, method=method), timeout=30) as answer:
            return answer.status, answer.read(), answer.headers.get("Location", "")
    except urllib.error.HTTPError as refused:
        return refused.code, refused.read(), ""


def digest(content: bytes) -> str:
    return f"sha256:{hashlib.sha256(content).hexdigest()}"


def push(aws: EmulatedAws, tag: str, media_type: str = IMAGE, repository: str = "p/trainer") -> tuple[int, Any]:
    """Push an image without layers."""
    status, _, upload = ask(aws, "POST", f"/v2/{repository}/blobs/uploads/", b"")
    assert status == 202
    assert upload.startswith("/v2/")
    assert ask(aws, "PUT", f"{upload}&digest={digest(CONFIG)}", CONFIG)[0] == 201
    config = {"mediaType": "application/vnd.docker.container.image.v1+json", "size": 2, "digest": digest(CONFIG)}
    manifest = {"schemaVersion": 2, "mediaType": media_type, "config": config, "layers": [], "annotations": {"t": tag}}
    content = json.dumps(manifest).encode()
    status, answer, _ = ask(aws, "PUT", f"/v2/{repository}/manifests/{tag}", content, media_type=media_type)
    return status, json.loads(answer) if answer else digest(content)


def test_what_is_pushed_is_there(account: EmulatedAws) -> None:
    status, pushed = push(account, "one")
    assert status == 201
    image = {"imageTag": "one"}
    (found,) = account.client("ecr").describe_images(repositoryName="p/trainer", imageIds=[image])["imageDetails"]
    assert (found["imageDigest"], found["imageManifestMediaType"]) == (pushed, IMAGE)
    scan = account.client("ecr").describe_image_scan_findings(repositoryName="p/trainer", imageId=image)
    assert scan["imageScanStatus"]["status"] == "COMPLETE"
    status, content, _ = ask(account, "GET", "/v2/p/trainer/manifests/one", media_type=IMAGE)
    assert (status, digest(content)) == (200, pushed)


@pytest.mark.parametrize(
    "form",
    [
        "application/vnd.oci.image.index.v1+json",
        "application/vnd.oci.image.manifest.v1+json",
        "application/vnd.docker.distribution.manifest.list.v2+json",
    ],
)
def test_other_forms_are_refused(account: EmulatedAws, form: str) -> None:
    status, answer = push(account, "other", form)
    assert status == 400
    assert answer["errors"][0] == {"code": "MANIFEST_INVALID", "message": f"Unsupported manifest media type {form}"}
    asked = {"repositoryName": "p/trainer", "imageIds": [{"imageTag": "other"}]}
    assert account.client("ecr").describe_images(**asked)["imageDetails"] == []


def test_a_tag_is_given_once(account: EmulatedAws) -> None:
    assert push(account, "once")[0] == 201
    status, answer = push(account, "once")
    assert (status, answer["errors"][0]["code"]) == (400, "TAG_INVALID")


def test_a_repository_has_to_be_made_first(account: EmulatedAws) -> None:
    status, answer = push(account, "one", repository="p/nobody")
    assert (status, answer["errors"][0]["code"]) == (400, "NAME_UNKNOWN")


def test_nothing_is_there_for_who_has_not_signed_in(account: EmulatedAws) -> None:
    assert ask(account, "GET", "/v2/", token="QVdTOm5vYm9keQ==")[0] == 401
    assert ask(account, "GET", "/v2/")[0] == 200


def test_an_index_is_not_scanned(account: EmulatedAws) -> None:
    ecr, form = account.client("ecr"), "application/vnd.oci.image.index.v1+json"
    ecr.put_image(repositoryName="p/trainer", imageManifest="{}", imageManifestMediaType=form, imageTag="index")
    found = ecr.describe_image_scan_findings(repositoryName="p/trainer", imageId={"imageTag": "index"})
    assert found["imageScanStatus"]["status"] == "UNSUPPORTED_IMAGE"
    with pytest.raises(ClientError, match="ImageNotFoundException"):
        ecr.describe_image_scan_findings(repositoryName="p/trainer", imageId={"imageTag": "nobody"})


def test_without_a_program_to_keep_images_the_reason_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(PlatformError, match="docker-registry was not found on PATH: install"):
        EmulatedAws(tmp_path / "account", registry=True).start()
