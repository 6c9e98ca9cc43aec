"""The stand-in of the base image, as far as it can be told without making it."""

from __future__ import annotations

import platform

import pytest

from local.docker import base_image
from local.docker.engine import DockerError, Unavailable


def test_packages_are_called_as_in_the_base_images_release() -> None:
    known = {"libssl3t64", "zlib1g", "libc6"}
    assert base_image.names_in_archive(["libc6", "libssl3", "zlib1g"], known) == ["libc6", "libssl3t64", "zlib1g"]
    with pytest.raises(DockerError, match="libnobody1, which this Python links"):
        base_image.names_in_archive(["libnobody1"], known)


@pytest.mark.parametrize(
    ("system", "release"),
    [
        ({"ID": "debian", "VERSION_ID": "12", "VERSION_CODENAME": "bookworm"}, "trixie"),
        ({"ID": "debian", "VERSION_ID": "13", "VERSION_CODENAME": "trixie"}, "trixie"),
        ({"ID": "debian", "VERSION_CODENAME": "forky"}, "forky"),
        ({"ID": "ubuntu", "VERSION_ID": "24.04", "VERSION_CODENAME": "noble"}, "noble"),
    ],
)
def test_an_older_debian_makes_the_real_release(
    monkeypatch: pytest.MonkeyPatch, system: dict[str, str], release: str
) -> None:
    monkeypatch.setattr(platform, "freedesktop_os_release", lambda: system)
    assert base_image._release() == release


def test_another_system_cannot_make_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(platform, "freedesktop_os_release", lambda: {"ID": "fedora", "VERSION_ID": "42"})
    with pytest.raises(Unavailable, match="this system is neither"):
        base_image._release()
