"""Identity of a saved model. Standard library only: the deployer uses it without numpy or an engine."""

from __future__ import annotations

import hashlib
from pathlib import Path


def digest(directory: Path) -> str:
    """Return the SHA-256 (64 hex digits) over the sorted relative names and the contents of a directory's files.

    Names and contents are length-prefixed, so no two different directories give the same input to the hash.

    Raises:
        FileNotFoundError: there is no such directory.
    """
    if not directory.is_dir():
        raise FileNotFoundError(f"{directory}: no such directory")
    names = sorted(path.relative_to(directory).as_posix() for path in directory.rglob("*") if path.is_file())
    total = hashlib.sha256()
    for name in names:
        path = directory / name
        for part in (name.encode(), path.stat().st_size.to_bytes(8, "big")):
            total.update(len(part).to_bytes(8, "big"))
            total.update(part)
        with path.open("rb") as file:
            while block := file.read(1 << 20):
                total.update(block)
    return total.hexdigest()
