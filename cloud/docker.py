"""Docker's client, as the commands use it."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

from cloud.errors import CloudError


def run(root: Path, *arguments: str, stdin: str | None = None) -> None:
    """Run Docker in a folder; what it says goes to the terminal.

    Raises:
        CloudError: it is not installed, or failed.
    """
    done = subprocess.run(_command(arguments), cwd=root, input=stdin, text=True, env=_environment())
    if done.returncode != 0:
        raise CloudError(f"docker {arguments[0]} failed, see above")


def output(root: Path, *arguments: str) -> bytes:
    """Run Docker in a folder and return its standard output.

    Raises:
        CloudError: it is not installed, or failed.
    """
    done = subprocess.run(_command(arguments), cwd=root, capture_output=True, env=_environment())
    if done.returncode != 0:
        raise CloudError(f"docker {arguments[0]} failed: {done.stderr.decode(errors='replace').strip()}")
    return done.stdout


def has_buildx(root: Path) -> bool:
    """Whether the client builds with its plugin buildx; without it, with the engine's own builder."""
    # Not `buildx build --help`: a client without the plugin answers that with its own help.
    return subprocess.run(_command(("buildx", "version")), cwd=root, capture_output=True).returncode == 0


def _command(arguments: tuple[str, ...]) -> list[str]:
    if not shutil.which("docker"):
        raise CloudError("docker was not found on PATH: install it, or build where it is and promote the digests")
    return ["docker", *arguments]


def _environment() -> dict[str, str]:
    return {**os.environ, "DOCKER_BUILDKIT": "1"}  # what older clients need to be told
