"""What is written down beside a Terraform root for its variables, read as Terraform reads it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import hcl2

from cloud.errors import CloudError


def written(folder: Path) -> Iterator[tuple[Path, dict[str, Any]]]:
    """Yield each file of values with what it says; a later one wins.

    Raises:
        CloudError: one cannot be read.
    """
    first = [folder / "terraform.tfvars", folder / "terraform.tfvars.json"]
    for path in [*first, *sorted([*folder.glob("*.auto.tfvars"), *folder.glob("*.auto.tfvars.json")])]:
        if path.exists():
            yield path, read(path)


def read(path: Path) -> dict[str, Any]:
    """Return what a file of values says.

    Raises:
        CloudError: it is not what it should be.
    """
    kind = "JSON" if path.suffix == ".json" else "Terraform code"
    try:
        text = path.read_text(encoding="utf-8")
        found = json.loads(text) if path.suffix == ".json" else plain(hcl2.loads(text))
    except OSError as error:
        raise CloudError(f"{path} cannot be read: {error.strerror}") from None
    except Exception as error:  # the parser of HCL has no error of its own
        raise CloudError(f"{path}: is not {kind} in UTF-8: {str(error).splitlines()[0]}") from None
    if not isinstance(found, dict):
        raise CloudError(f"{path}: is {kind}, but not values by name")
    return found


def plain(value: Any) -> Any:
    """Return a value of HCL without the parser's quotes and notes."""
    if isinstance(value, dict):
        return {key.strip('"'): plain(entry) for key, entry in value.items() if not key.startswith("__")}
    if isinstance(value, list):
        return [plain(entry) for entry in value]
    return value.strip('"') if isinstance(value, str) else value
