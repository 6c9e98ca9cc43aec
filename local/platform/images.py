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
_LIBRARY = tuple(f"dags/mlplatform/{name}.py" for name in ("__init__", "config", "results", "steps", "storage"))


@dataclass(frozen=True)
class Recipe:
    """What goes into an image: files and folders relative to the project, and where Python finds them."""

    sources: tuple[str, ...]
    python_path: tuple[str, ...]


RECIPES = {
    "trainer": Recipe(
        sources=(
            "containers/trainer/requirements.lock",
            "containers/trainer/src",
            "containers/serving/src/modelformat",
            *_LIBRARY,
        ),
        python_path=("containers/trainer/src", "containers/serving/src", "dags"),
    ),
    "serving": Recipe(
        sources=("containers/serving/requirements.lock", "containers/serving/src"),
        python_path=("containers/serving/src",),
    ),
    "deployer": Recipe(
        sources=(
            "containers/deployer/requirements.lock",
            "containers/deployer/src",
            "containers/serving/src/modelformat",
            *_LIBRARY,
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
    return {name: f"{REGISTRY}/{name}:{source_digest(root, recipe.sources)}" for name, recipe in RECIPES.items()}


def image(name: str, marker: str) -> Image:
    """Return how this machine runs an image: its interpreter, its sources, and nothing of the caller's environment."""
    python = environment_python(name)
    environment = {
        "PYTHONPATH": os.pathsep.join(str(ROOT / part) for part in RECIPES[name].python_path),
        "PYTHONUNBUFFERED": "1",
        "PATH": os.pathsep.join([str(python.parent), "/usr/local/bin", "/usr/bin", "/bin"]),
        # Two pods at a time, or a server beside the pipeline, should not fight over the cores.
        "OMP_NUM_THREADS": str(max(1, (os.cpu_count() or 2) // 2)),
        MARKER: marker,
    }
    if name == "serving":
        environment["SERVING_HOST"] = "127.0.0.1"  # in a container, all addresses of its own network
    return Image(entrypoint=[str(python), "-m", name], env=environment, working_dir=str(ROOT))
