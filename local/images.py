"""Which command stands for which container image on this machine.

The local Kubernetes API and the local SageMaker start the project's own code as processes. An image
reference that is not in the registry does not exist, and fails as it would in the cloud.
"""

from __future__ import annotations

from pathlib import Path

from pydantic import BaseModel, ConfigDict, TypeAdapter


class Image(BaseModel):
    """What an image would contain: its ENTRYPOINT, CMD, ENV, WORKDIR and USER (root where it is empty)."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    entrypoint: list[str] = []
    cmd: list[str] = []
    env: dict[str, str] = {}
    working_dir: str | None = None
    user: str = ""


_IMAGES = TypeAdapter(dict[str, Image])


class ImageRegistry:
    """The images of a JSON file, read again whenever the file changes."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._read_at: tuple[int, int] | None = None
        self._images: dict[str, Image] = {}

    def find(self, reference: str) -> Image | None:
        """Return the image of exactly this reference, or None when there is no such image."""
        status = self._path.stat()
        if self._read_at != (status.st_mtime_ns, status.st_size):
            self._images = _IMAGES.validate_json(self._path.read_bytes())
            self._read_at = (status.st_mtime_ns, status.st_size)
        return self._images.get(reference)


def write_images(path: Path, images: dict[str, Image]) -> None:
    """Replace the registry file in one step, so that no reader sees half of it."""
    partial = path.with_suffix(".partial")
    partial.write_bytes(_IMAGES.dump_json(images, indent=2))
    partial.replace(path)
