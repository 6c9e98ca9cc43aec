"""The form in which an image lies in the repository: a single image as Docker has always written it, and nothing else.

Docker 29 and new installations of Docker Desktop write OCI images, and with what their builder attests an index of
images. Such a push succeeds, and everything after it fails: ECR's basic scan does not support an index, and SageMaker
refuses both ("Unsupported manifest media type").
"""

from __future__ import annotations

from typing import Any

from cloud.errors import CloudError

WANTED = "application/vnd.docker.distribution.manifest.v2+json"
BUILDX = ("--provenance=false", "--sbom=false", "--output=type=image,push=true,oci-mediatypes=false")
"""What has buildx push that form, from the engine's own store, from containerd's, and from a builder in a container."""


def digest_of(ecr: Any, repository: str, tag: str) -> str | None:
    """Return the digest of what has a tag."""
    found = _described(ecr, repository, {"imageTag": tag})
    return str(found["imageDigest"]) if found else None


def check(ecr: Any, name: str, repository: str, digest: str) -> None:
    """Ask the repository which form an image has.

    Raises:
        CloudError: it is another one than the services take, or the image is not there.
    """
    found = _described(ecr, repository, {"imageDigest": digest})
    if found is None:
        raise CloudError(f"{name}: {digest} is not in the repository {repository} any more: run `make images` again")
    if (media_type := found.get("imageManifestMediaType")) != WANTED:
        raise CloudError(
            f"{name}: {repository}@{digest} is {media_type or 'of no media type'}, which SageMaker or the scan refuse: "
            f"it has to be {WANTED}. Tags are immutable, so delete it (`aws ecr batch-delete-image --repository-name "
            f"{repository} --image-ids imageDigest={digest}`), install Docker's buildx 0.10 or newer, and run "
            "`make images` again"
        )


def _described(ecr: Any, repository: str, image: dict[str, str]) -> dict[str, Any] | None:
    try:
        found = ecr.describe_images(repositoryName=repository, imageIds=[image])["imageDetails"]
    except ecr.exceptions.ImageNotFoundException:
        return None
    return dict(found[0]) if found else None
