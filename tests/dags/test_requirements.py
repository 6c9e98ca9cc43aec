"""What MWAA installs when a container starts, from the wheels alone; stand-ins for them here.

A stand-in has the name, version and metadata of the package in this environment, which is all that one looks at to find
out what to install.
"""

from __future__ import annotations

import importlib.metadata
import os
import re
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from cloud import wheels
from local import bootstrap

ROOT = Path(__file__).parents[2]


def stand_in(folder: Path, name: str) -> None:
    found = importlib.metadata.distribution(name)
    stem = f"{name.replace('-', '_')}-{found.version}"
    metadata = found.read_text("METADATA") or ""
    with zipfile.ZipFile(folder / f"{stem}-py3-none-any.whl", "w") as packed:
        packed.writestr(f"{stem}.dist-info/METADATA", metadata)
        packed.writestr(f"{stem}.dist-info/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        packed.writestr(f"{stem}.dist-info/RECORD", "")


@pytest.fixture(scope="module")
def locked() -> set[str]:
    return set(wheels.hashes_by_package(wheels.locked((ROOT / wheels.REQUIREMENTS).read_text())))


@pytest.fixture(scope="module")
def plugins(tmp_path_factory: pytest.TempPathFactory, locked: set[str]) -> Path:
    """What plugins.zip becomes on MWAA."""
    folder = tmp_path_factory.mktemp("plugins")
    for name in locked:
        stand_in(folder, name)
    return folder


def install(folder: Path, plugins: Path) -> subprocess.CompletedProcess[str]:
    """Have it said what would be installed of what the DAGs need, in an empty environment."""
    options = [line for line in (ROOT / wheels.REQUIREMENTS).read_text().splitlines() if line.startswith("--")]
    text = "\n".join([*options, (ROOT / wheels.SOURCE).read_text()])
    text = text.replace("/usr/local/airflow/plugins", str(plugins)).replace("/usr/local/airflow/dags", f"{ROOT}/dags")
    requirements = folder / "requirements.txt"
    requirements.write_text(text)
    uv = [str(bootstrap.find_or_install_uv()), "pip", "install", "--dry-run", "--no-config", "--python", sys.executable]
    return subprocess.run(
        [*uv, "--target", str(folder / "empty"), "--no-cache", "--requirement", str(requirements)],
        env={"PATH": os.environ["PATH"], "HOME": str(folder)},
        capture_output=True,
        text=True,
    )


def test_the_wheels_are_all_that_the_dags_need_and_no_more(tmp_path: Path, plugins: Path, locked: set[str]) -> None:
    done = install(tmp_path, plugins)
    assert done.returncode == 0, done.stderr
    assert set(re.findall(r"^ \+ ([a-z0-9-]+)==", done.stderr, re.MULTILINE)) == locked


def test_a_wheel_that_is_missing_is_missed(tmp_path: Path, plugins: Path) -> None:
    (missing,) = plugins.glob("websocket_client-*.whl")  # three steps away from what the DAGs name
    aside = missing.rename(tmp_path / missing.name)
    try:
        done = install(tmp_path, plugins)
    finally:
        aside.rename(missing)
    assert done.returncode != 0
    assert "websocket-client was not found in the provided package locations" in done.stderr
