"""Which versions of the documents in S3 an environment's images and the DAG bundle read and write.

Both come from the same library, `dags/mlplatform`, but at different times: images are built, the bundle is pushed. What
one of them writes the other one has to read; see docs/adr/0022-documents-outlive-releases.md.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, Field, ValidationError

from cloud import files
from cloud.errors import CloudError

FILE = "documents.json"
"""Beside the file with the images' digests, which it repeats: it is about these images only."""
Versions = Mapping[str, list[int]]
"""Oldest and newest version that can be read, by kind of document; the newest is the one that is written."""


class _Content(BaseModel):
    """What the file says."""

    git_sha: str
    images: dict[str, str]
    documents: dict[str, Annotated[list[int], Field(min_length=2, max_length=2)]]


# In an interpreter of its own, so that it is the library in that folder that answers.
_ASK = """
import json, sys
sys.path.insert(0, sys.argv[1])
from mlplatform.documents.base import versions
print(json.dumps(versions()))
"""


def of_library(folder: Path) -> dict[str, list[int]]:
    """Return what the library in a folder reads and writes.

    Raises:
        CloudError: it cannot be imported.
    """
    command = [sys.executable, "-I", "-B", "-c", _ASK, str(folder)]
    done = subprocess.run(command, cwd="/", capture_output=True, text=True, timeout=60)
    if done.returncode != 0:
        raise CloudError(f"{folder}: the library does not say which documents it reads:\n{done.stderr.strip()[-2000:]}")
    found: dict[str, list[int]] = json.loads(done.stdout.splitlines()[-1])
    return found


def path_of(root: Path, environment: str) -> Path:
    """Return where it is written down what an environment's images read and write."""
    return root / "terraform" / "environments" / environment / FILE


def write(path: Path, images: Mapping[str, str], commit: str, versions: Versions) -> None:
    """Write down what images read and write; to be committed with their digests."""
    content = {"git_sha": commit, "images": dict(images), "documents": dict(versions)}
    files.write(path, json.dumps(content, indent=2) + "\n")


def read(path: Path, images: Mapping[str, str], environment: str, *, running: bool = True) -> tuple[str, Versions]:
    """Return the commit that images were built at, and what they read and write.

    Args:
        path: of the file.
        images: that are meant, by name.
        environment: whose they are, for messages.
        running: whether they are what the environment runs, and not only what is written down for it.

    Raises:
        CloudError: the file is missing, broken, or of other images.
    """
    again = f"run `make images ENV={environment}`"
    try:
        content = _Content.model_validate_json(path.read_bytes(), strict=True)
    except FileNotFoundError:
        raise CloudError(
            f"{path}: no such file, so that nobody knows which documents the images of {environment} read; images of "
            f"release 0.1.0 and older have none: {again}"
        ) from None
    except OSError as error:
        raise CloudError(f"{path}: cannot be read ({error}): {again}") from None
    except ValidationError as error:
        first = error.errors()[0]
        reason = ": ".join(filter(None, (".".join(map(str, first["loc"])), first["msg"])))
        raise CloudError(f"{path}: not what `make images` writes ({reason}): {again}") from None
    if other := sorted(name for name, reference in images.items() if content.images.get(name) != reference):
        if not running:
            raise CloudError(
                f"{path} is not about the images that are written down beside it ({', '.join(other)}): {again}"
            )
        raise CloudError(
            f"{path} is not about the images that {environment} runs ({', '.join(other)}): `make apply "
            f"ENV={environment}` brings the images of this checkout to the environment; or {again}"
        )
    return content.git_sha, content.documents


def mismatches(images: Versions, bundle: Versions, environment: str, commit: str) -> list[str]:
    """Return why images and bundle do not understand each other; empty if they do.

    Args:
        images: what they read and write.
        bundle: what it reads and writes.
        environment: whose images they are.
        commit: that the images were built at.
    """
    problems = []
    renew = f"run `make images ENV={environment}` and `make apply ENV={environment}` first"
    for kind in sorted(set(images) | set(bundle)):
        theirs, ours = images.get(kind, [0, 0])[1], bundle.get(kind, [0, 0])[1]
        if theirs < ours:
            reads = f"read {kind} up to version {theirs}" if theirs else f"do not know {kind}"
            problems.append(
                f"the images of {environment} {reads} and this bundle writes version {ours}: the images are older than "
                f"the bundle; {renew}"
            )
        elif ours < theirs:
            reads = f"reads {kind} up to version {ours}" if ours else f"does not know {kind}"
            problems.append(
                f"this bundle {reads} and the images of {environment} write version {theirs}: the bundle is older than "
                f"the images; bring it up to {commit[:12]}, which they were built at, or have images of this checkout: "
                f"{renew}"
            )
    return problems
