"""Container images on this machine: a name for the sources as they are, and the command that runs them.

An image's tag is a hash of everything its Dockerfile copies, as a real image's digest would be: change a
line and it is another image, with which a finished run is not finished any more.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from local.images import Image
from local.platform.facts import ACCOUNT, REGION
from local.platform.home import ROOT, PlatformError, environment_python
from local.platform.processes import MARKER

REGISTRY = f"{ACCOUNT}.dkr.ecr.{REGION}.amazonaws.com/mlplatform"
_LIBRARY = "dags/mlplatform"
_USER = "10001:10001"  # as each Dockerfile says
_TRAINER = ("containers/trainer/src", "containers/serving/src/modelformat", _LIBRARY)
_TRAINER_PATH = ("containers/trainer/src", "containers/serving/src", "dags")


@dataclass(frozen=True)
class Recipe:
    """What goes into an image: its environment and package, files and folders, and where Python finds them."""

    environment: str
    package: str
    sources: tuple[str, ...]
    python_path: tuple[str, ...]
    optional: bool = False
    """Whether the platform starts without it, and only a pod of this image fails."""


RECIPES = {
    "trainer": Recipe(
        environment="trainer",
        package="trainer",
        sources=("containers/trainer/requirements.lock", *_TRAINER),
        python_path=_TRAINER_PATH,
    ),
    "trainer_cuda": Recipe(
        environment="trainer-cuda",
        optional=True,  # several gigabytes, which only PyTorch needs here
        package="trainer",
        sources=("containers/trainer/requirements-cuda.lock", *_TRAINER),
        python_path=_TRAINER_PATH,
    ),
    "serving": Recipe(
        environment="serving",
        package="serving",
        sources=("containers/serving/requirements.lock", "containers/serving/src"),
        python_path=("containers/serving/src",),
    ),
    "deployer": Recipe(
        environment="deployer",
        package="deployer",
        sources=(
            "containers/deployer/requirements.lock",
            "containers/deployer/src",
            "containers/serving/src/modelformat",
            _LIBRARY,
        ),
        python_path=("containers/deployer/src", "containers/serving/src", "dags"),
    ),
}


def source_digest(root: Path, sources: Sequence[str]) -> str:
    """Return 12 hex digits for the names and contents of files and of all files in folders.

    Raises:
        PlatformError: a source is missing.
    """
    files: set[Path] = set()
    for source in sources:
        path = root / source
        if path.is_dir():
            files.update(p for p in path.rglob("*") if p.is_file() and "__pycache__" not in p.parts)
        elif path.is_file():
            files.add(path)
        else:
            raise PlatformError(f"{path} is missing: an image is made of it")
    digest = hashlib.sha256()
    for path in sorted(files):
        content = hashlib.sha256(path.read_bytes()).hexdigest()
        digest.update(f"{path.relative_to(root).as_posix()} {content}\n".encode())
    return digest.hexdigest()[:12]


def references(root: Path = ROOT) -> dict[str, str]:
    """Return the full reference of each image, by its short name."""
    return {
        name: f"{REGISTRY}/{recipe.environment}:{source_digest(root, recipe.sources)}"
        for name, recipe in RECIPES.items()
    }


def image_if_set_up(name: str, marker: str) -> Image:
    """Return an image, or for an optional one that is not set up one that says how to get it.

    Raises:
        PlatformError: it is not set up and not optional.
    """
    try:
        return image(name, marker)
    except PlatformError as error:
        if not RECIPES[name].optional:
            raise
        advice = f"{error}, then `make local-up`, and try again"
        return Image(entrypoint=["/bin/sh", "-c", 'echo "$0" >&2; exit 64', advice], user=_USER)


def image(name: str, marker: str) -> Image:
    """Return how this machine runs an image: its interpreter, its sources, and nothing of the caller's environment."""
    recipe = RECIPES[name]
    python = environment_python(recipe.environment)
    environment = {
        "PYTHONPATH": os.pathsep.join(str(ROOT / part) for part in recipe.python_path),
        "PYTHONUNBUFFERED": "1",
        "PATH": os.pathsep.join([str(python.parent), "/usr/local/bin", "/usr/bin", "/bin"]),
        # Two pods at a time, or a server beside the pipeline, should not fight over the cores.
        "OMP_NUM_THREADS": str(max(1, (os.cpu_count() or 2) // 2)),
        MARKER: marker,
    }
    if name == "serving":
        environment["SERVING_HOST"] = "127.0.0.1"  # in a container, all addresses of its own network
    return Image(entrypoint=[str(python), "-m", recipe.package], env=environment, working_dir=str(ROOT), user=_USER)
