"""Software bills of materials (SBOM, CycloneDX) of the images, beside the digests that an environment names.

The build of an image makes it from what is installed, and the image holds it. Here it is copied out, and says which
image it is of.
"""

from __future__ import annotations

import io
import json
import tarfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from cloud import docker, files
from cloud.environments import Environment
from cloud.errors import CloudError

FOLDER = "sbom"
IN_IMAGE = "/opt/venv/share/sbom.cdx.json"


def path_of(environment: Environment, name: str) -> Path:
    """Return where an image's SBOM lies."""
    return environment.folder / FOLDER / f"{name}.cdx.json"


def describes(path: Path, reference: str) -> bool:
    """Whether a SBOM is there and of exactly this image."""
    try:
        component = json.loads(path.read_text(encoding="utf-8"))["metadata"]["component"]
    except (OSError, ValueError, KeyError, TypeError):
        return False
    return bool(component.get("bom-ref") == reference)


def write(path: Path, reference: str, document: Mapping[str, Any]) -> None:
    """Write a SBOM that says of which image it is.

    Args:
        reference: of the image, by its digest.
        document: as the image holds it.
    """
    address, _, digest = reference.partition("@")
    component = {"type": "container", "bom-ref": reference, "name": address, "version": digest}
    metadata = {**document.get("metadata", {}), "component": component}
    path.parent.mkdir(parents=True, exist_ok=True)
    files.write(path, json.dumps({**document, "metadata": metadata}, indent=1, sort_keys=True) + "\n")


def read(root: Path, reference: str, platform: str) -> dict[str, Any]:
    """Return the SBOM that an image holds; the image is fetched where it is not, and not run.

    Raises:
        CloudError: Docker cannot read it, or it is no SBOM.
    """
    container = docker.output(root, "create", f"--platform={platform}", reference).decode().strip()
    try:
        archive = docker.output(root, "cp", f"{container}:{IN_IMAGE}", "-")
    finally:
        docker.output(root, "rm", container)
    try:
        with tarfile.open(fileobj=io.BytesIO(archive)) as tar:
            file = tar.extractfile(tar.getmembers()[0])
            document: dict[str, Any] = json.loads(file.read()) if file else {}
        if document["bomFormat"] != "CycloneDX":
            raise ValueError(document["bomFormat"])
    except (tarfile.TarError, ValueError, KeyError, IndexError, TypeError) as error:
        raise CloudError(f"{reference}: {IN_IMAGE} is no SBOM: {error}") from None
    return document
