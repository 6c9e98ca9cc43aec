"""What can be said of the Dockerfiles without building: they are clean, alike, and take in nothing by chance."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

from cloud import images as release
from tests.images.support import ENVS, ROOT

DOCKERFILES = sorted({recipe.dockerfile for recipe in release.IMAGES.values()})


def test_every_dockerfile_is_an_image() -> None:
    assert sorted(str(path.relative_to(ROOT)) for path in ROOT.glob("containers/*/Dockerfile")) == DOCKERFILES


@pytest.mark.parametrize("dockerfile", DOCKERFILES)
def test_hadolint_finds_nothing(dockerfile: str) -> None:
    done = subprocess.run(
        [str(ENVS / "images/bin/hadolint"), "--no-color", "--failure-threshold=ignore", str(ROOT / dockerfile)],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "hadolint ignore" not in (ROOT / dockerfile).read_text(encoding="utf-8")


def test_hadolint_would_find_something(tmp_path: Path) -> None:
    bad = tmp_path / "Dockerfile"
    bad.write_text("FROM python:latest\nRUN pip install numpy\n", encoding="utf-8")
    done = subprocess.run([str(ENVS / "images/bin/hadolint"), str(bad)], capture_output=True, text=True)
    assert done.returncode != 0
    assert "DL3007" in done.stdout


def instructions(dockerfile: str) -> list[str]:
    text = re.sub(r"^#.*\n", "", (ROOT / dockerfile).read_text(encoding="utf-8"), flags=re.MULTILINE)
    return [line.strip() for line in text.replace("\\\n", " ").splitlines() if line.strip()]


SHAPE = [
    r"ARG PYTHON_IMAGE=\S+@sha256:[0-9a-f]{64}",
    r"FROM \$\{PYTHON_IMAGE\} AS build",
    r"COPY containers/build /build",
    r"RUN --mount=type=secret,id=index --mount=type=secret,id=ca python /build/build.py tools",
    r"(ARG VARIANT=)?",
    r"COPY containers/\S+\.lock /build/image.lock",
    r"RUN --mount=type=secret,id=index --mount=type=secret,id=ca python /build/build.py environment",
    r"(COPY (dags|containers)/\S+ /opt/app\S*\n)+RUN python /build/build.py application",
    r"FROM \$\{PYTHON_IMAGE\}",
    r"RUN rm -rf .*",
    r"COPY --from=build /layers/environment /",
    r"COPY --from=build /layers/application /",
    r"ENV PATH=/opt/venv/bin:\$PATH .*HOME=/tmp.*",
    r"(VOLUME .*)?",
    r"USER 10001:10001",
    r"WORKDIR \S+",
    r"(EXPOSE \d+\nHEALTHCHECK .*)?",
    r"ENTRYPOINT \[.*\]",
    r"(CMD \[.*\])?",
    r"(ARG VARIANT=)?",
    r"ARG GIT_SHA=unknown",
    r"ARG VERSION=\S+",
    r"LABEL .*",
]
"""What is new with every commit comes last: it makes no layer new."""


@pytest.mark.parametrize("dockerfile", DOCKERFILES)
def test_all_have_one_shape(dockerfile: str) -> None:
    text = "\n".join(instructions(dockerfile)) + "\n"
    pattern = "".join(f"{part[:-2]}\n)?" if part.endswith(")?") else f"{part}\n" for part in SHAPE)
    assert re.fullmatch(pattern, text), text


def test_the_base_image_is_one_and_pinned() -> None:
    assert release.base_image(ROOT).startswith("python:3.12-slim-trixie@sha256:")
    pins = [(ROOT / path).read_text(encoding="utf-8").count("@sha256:") for path in DOCKERFILES]
    assert pins == [1] * len(pins)
