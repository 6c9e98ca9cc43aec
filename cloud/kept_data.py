"""What a destroyed environment left on purpose: written down, so that the next apply takes it in again.

Buckets and their key leave Terraform's state, untouched. Two files beside the root say how to get them back: import
blocks, and the database snapshot to restore. Commit them if somebody else is to apply.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

STORAGE = "module.platform.module.storage"


class KeptData:
    """The two files of one root.

    While a destroy is under way they have other names: import blocks would take in again what it is to leave.
    """

    def __init__(self, folder: Path) -> None:
        self.imports = folder / "kept_data.tf"
        self.variables = folder / "kept_data.auto.tfvars.json"

    @property
    def recorded(self) -> bool:
        """Whether the next apply takes something in again."""
        return self.imports.exists()

    def record(self, imports: dict[str, str], snapshot: str | None) -> None:
        """Write down addresses with their import ids, and the database's snapshot, until `settle`."""
        blocks = [f'import {{\n  to = {address}\n  id = "{name}"\n}}\n' for address, name in sorted(imports.items())]
        head = "# Kept by the last destroy; the next apply takes it in again.\n\n"
        _pending(self.imports).write_text(head + "\n".join(blocks), encoding="utf-8")
        if snapshot:
            content = json.dumps({"restore_database_snapshot": snapshot}, indent=2) + "\n"
            _pending(self.variables).write_text(content, encoding="utf-8")

    def settle(self) -> None:
        """Give what was recorded its effect on the next apply."""
        for path in (self.variables, self.imports):
            if _pending(path).exists():
                _pending(path).replace(path)

    def forget(self) -> None:
        """Remove the import blocks: everything is in the state again. The snapshot's name stays with the database."""
        self.imports.unlink(missing_ok=True)

    def clear(self) -> None:
        """Remove both files: nothing is kept."""
        for path in (self.imports, self.variables):
            path.unlink(missing_ok=True)
            _pending(path).unlink(missing_ok=True)


def addresses(state: dict[str, Any]) -> Iterator[str]:
    """Yield the address of every resource in Terraform's state JSON."""
    for resource in _managed(state.get("values", {}).get("root_module", {})):
        yield resource["address"]


def storage_imports(state: dict[str, Any]) -> dict[str, str]:
    """Return address and import id of every resource of the storage module in Terraform's state JSON."""
    return {
        resource["address"]: resource["values"]["id"]
        for resource in _managed(state.get("values", {}).get("root_module", {}))
        if resource["address"].startswith(f"{STORAGE}.")
    }


def _managed(module: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield from (resource for resource in module.get("resources", []) if resource["mode"] == "managed")
    for child in module.get("child_modules", []):
        yield from _managed(child)


def _pending(path: Path) -> Path:
    return path.with_name(f"{path.name}.pending")
