"""From a saved model to the archive that SageMaker unpacks in the container."""

from __future__ import annotations

import gzip
import tarfile
from pathlib import Path

from mlplatform.errors import NonRetryableError
from modelformat import digest

MANIFEST = "manifest.json"


def find_model(directory: Path, expected_digest: str, uri: str) -> Path:
    """Return the directory of the saved model inside a downloaded MLflow model.

    Raises:
        NonRetryableError: there is none, there are several, or it is not the one that was evaluated.
    """
    found = sorted(path.parent for path in directory.rglob(MANIFEST))
    if len(found) != 1:
        raise NonRetryableError(f"{uri}: expected one {MANIFEST} of a saved model, found {len(found)}")
    actual = digest(found[0])
    if actual != expected_digest:
        raise NonRetryableError(
            f"{uri}: its files have the digest {actual}, but {expected_digest} was evaluated; "
            "the artifact was changed after training: train again"
        )
    return found[0]


def pack(directory: Path, archive: Path) -> Path:
    """Write a directory's files as ``.tar.gz``: the same files give the same bytes."""
    with (
        archive.open("wb") as file,
        gzip.GzipFile(filename="", mode="wb", fileobj=file, mtime=0) as compressed,
        tarfile.open(fileobj=compressed, mode="w", format=tarfile.PAX_FORMAT) as tar,
    ):
        for path in sorted(path for path in directory.rglob("*") if path.is_file()):
            member = tarfile.TarInfo(path.relative_to(directory).as_posix())
            member.size = path.stat().st_size
            member.mode = 0o644  # owner, group and time stay 0
            with path.open("rb") as content:
                tar.addfile(member, content)
    return archive
