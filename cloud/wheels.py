"""The Python packages of MWAA, as wheels in one archive that is made here and uploaded by Terraform.

MWAA installs `dags/requirements.txt` in each of its containers when that starts, and the web server of a private
environment reaches no package index. So everything that the file names lies in `plugins.zip`, which MWAA unpacks first.
The archive is named after the file it was made of, so that Terraform takes the right one and none is made twice, and
what is in it depends on nothing else: made again anywhere, it has the same bytes.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import re
import subprocess
import sys
import tempfile
import venv
import zipfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from cloud.errors import CloudError

REQUIREMENTS = "dags/requirements.txt"
SOURCE = "dags/requirements.in"
FOLDER = ".local/mwaa"
OBJECT = "module.platform.module.airflow.aws_s3_object.plugins"
"""The archive in Terraform's plan."""
KEY = "plugins/plugins.zip"
MARK = "requirements"
"""The object's metadata that says which file the archive was made of, by its digest."""

PYTHON = "3.12"
# MWAA runs on Amazon Linux 2023 on x86_64, whose glibc is 2.34. pip takes every tag by itself.
PLATFORMS = (
    *(f"manylinux_2_{minor}_x86_64" for minor in range(34, 4, -1)),
    *(f"{old}_x86_64" for old in ("manylinux2014", "manylinux2010", "manylinux1", "linux")),
)
LARGEST = 1 << 30
"""Bytes: AWS recommends to stay below, as every container unpacks the archive when it starts."""

_PIN = re.compile(r"^(?P<name>[a-z0-9-]+)==(?P<version>[^ ;\\]+)")
_HASH = re.compile(r"--hash=sha256:(?P<hash>[0-9a-f]{64})")
_MISSING = re.compile(r"No matching distribution found for (\S+)")
_EPOCH = (1980, 1, 1, 0, 0, 0)
Say = Callable[[str], None]


def digest(root: Path) -> str:
    """Return the digest of what MWAA installs."""
    return hashlib.sha256((root / REQUIREMENTS).read_bytes()).hexdigest()


def archive(root: Path) -> Path:
    """Return where the archive is, once it is made; Terraform comes to the same name."""
    return root / FOLDER / f"plugins-{digest(root)[:16]}.zip"


def uploaded(planned: Mapping[str, Any]) -> bool:
    """Whether a plan of Terraform's uploads the archive."""
    changes = (change for change in planned.get("resource_changes", []) if change["address"] == OBJECT)
    return any({"create", "update"} & set(change["change"]["actions"]) for change in changes)


def build(root: Path, say: Say) -> Path:
    """Make the archive, unless it is there.

    Raises:
        CloudError: a package has no wheel for MWAA, or cannot be fetched, or is not the one that was locked.
    """
    target = archive(root)
    with _alone(target.parent):
        if target.exists():
            return target
        lines = locked((root / REQUIREMENTS).read_text(encoding="utf-8"))
        pins = hashes_by_package(lines)
        say(f"fetching the {len(pins)} Python packages of Airflow, which MWAA cannot fetch itself: a minute, once")
        with tempfile.TemporaryDirectory(dir=target.parent) as folder:
            download(lines, Path(folder), pip_in(target.parent / "pip"))
            wheels = sorted(Path(folder).glob("*.whl"))
            if problems := unlike(pins, wheels):
                raise CloudError("\n".join(problems))
            made = Path(folder, "plugins.zip")
            pack(wheels, made)
            if (size := made.stat().st_size) > LARGEST:
                raise CloudError(f"the packages of {SOURCE} take {size >> 20} MiB; MWAA wants less than 1024")
            for old in target.parent.glob("plugins-*.zip"):
                old.unlink()
            made.replace(target)
    say(f"{len(wheels)} wheels, {target.stat().st_size >> 20} MiB: {target.relative_to(root)}")
    return target


def locked(text: str) -> str:
    """Return the packages of a requirements file without its options, which lead to MWAA's own folders."""
    return "".join(line for line in text.splitlines(keepends=True) if not line.startswith("-"))


def hashes_by_package(lines: str) -> dict[str, frozenset[str]]:
    """Return the SHA-256 that each locked package may have.

    Raises:
        CloudError: a line is no pin, or a package has no hash.
    """
    found: dict[str, frozenset[str]] = {}
    for line in lines.replace("\\\n", "").splitlines():
        if not line.strip() or line.startswith("#"):
            continue
        pin, hashes = _PIN.match(line), frozenset(_HASH.findall(line))
        if not pin or not hashes:
            raise CloudError(f"{REQUIREMENTS}: {line.strip()[:80]!r} is no locked package: `make lock` writes the file")
        found[pin["name"]] = hashes
    return found


def download(lines: str, folder: Path, pip: Path) -> None:
    """Fetch a wheel for each locked package that fits MWAA; nothing is built from sources.

    Raises:
        CloudError: one has none, or pip failed otherwise.
    """
    wanted = folder / "requirements.txt"
    wanted.write_text(lines, encoding="utf-8")
    command = [str(pip), "-m", "pip", "download", "--quiet", "--no-deps", "--require-hashes", "--dest", str(folder)]
    command += ["--only-binary", ":all:", "--implementation", "cp", "--python-version", PYTHON]
    command += [f"--platform={platform}" for platform in PLATFORMS]
    # An index that wants a password would ask for it where nobody sees it.
    environment = {**os.environ, "PIP_DISABLE_PIP_VERSION_CHECK": "1", "PIP_NO_INPUT": "1"}
    done = subprocess.run(
        [*command, "--requirement", str(wanted)],
        env=environment, stdin=subprocess.DEVNULL, capture_output=True, text=True,
    )  # fmt: skip
    if missing := _MISSING.search(done.stderr):
        raise CloudError(
            f"{missing[1]} has no wheel that MWAA can install (Python {PYTHON}, Linux on x86_64, glibc 2.34), or the "
            f"package index cannot be reached. Choose another version in {SOURCE}, `make lock`, and try again"
        )
    if done.returncode != 0:
        raise CloudError(f"the packages of {REQUIREMENTS} could not be fetched:\n{done.stderr.strip()[-3000:]}")


def unlike(pins: Mapping[str, frozenset[str]], wheels: Iterable[Path]) -> list[str]:
    """Return how the wheels differ from what was locked: missing, too many, or other bytes."""
    problems, missing = [], set(pins)
    for wheel in wheels:
        name = re.sub(r"[-_.]+", "-", wheel.name.partition("-")[0]).lower()
        missing.discard(name)
        if name not in pins:
            problems.append(f"{wheel.name} is not in {REQUIREMENTS}")
        elif hashlib.sha256(wheel.read_bytes()).hexdigest() not in pins[name]:
            problems.append(f"{wheel.name} is not what {REQUIREMENTS} has the hash of: do not use it")
    return problems + [f"{name} of {REQUIREMENTS} has no wheel here" for name in sorted(missing)]


def pack(wheels: Iterable[Path], target: Path) -> None:
    """Write an archive whose bytes depend on the files' names and contents only."""
    with zipfile.ZipFile(target, "w", zipfile.ZIP_STORED) as packed:  # wheels are compressed already
        for wheel in sorted(wheels, key=lambda path: path.name):
            entry = zipfile.ZipInfo(wheel.name, _EPOCH)
            entry.create_system, entry.external_attr = 3, 0o644 << 16  # as on Linux, whoever runs this
            packed.writestr(entry, wheel.read_bytes())


def pip_in(folder: Path) -> Path:
    """Return an interpreter with the pip that Python itself brings; no environment of the project has one."""
    python = folder / "bin" / "python"
    if not (folder / "ready").exists() or not python.exists():
        try:
            venv.EnvBuilder(clear=True, symlinks=True, with_pip=True).create(folder)
        except subprocess.CalledProcessError as error:
            raise CloudError(
                f"{sys.executable} cannot make an environment with pip (install python3-venv): {error}"
            ) from None
        (folder / "ready").touch()
    return python


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Wait for another command that makes the archive at the moment."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / ".lock").open("w") as guard:
        fcntl.flock(guard, fcntl.LOCK_EX)
        yield
