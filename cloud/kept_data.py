"""What a destroyed environment left on purpose: written down, so that the next apply takes it in again.

Buckets and their key leave Terraform's state, untouched. Two files beside the root say how to get them back: import
blocks, and the database snapshot to restore. Commit them if somebody else is to apply.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

STORAGE = "module.platform.module.storage"


class KeptData:
    """The two files of one root."""

    def __init__(self, folder: Path) -> None:
        self.imports = folder / "kept_data.tf"
        self.variables = folder / "kept_data.auto.tfvars.json"

    def record(self, imports: dict[str, str], snapshot: str | None) -> None:
        """Write down addresses with their import ids, and the database's snapshot."""
        blocks = [f'import {{\n  to = {address}\n  id = "{name}"\n}}\n' for address, name in sorted(imports.items())]
        self._write(
            self.imports, "# Kept by the last destroy; the next apply takes it in again.\n\n" + "\n".join(blocks)
        )
        if snapshot:
            self._write(self.variables, json.dumps({"restore_database_snapshot": snapshot}, indent=2) + "\n")

    def forget(self) -> None:
        """Remove the import blocks: everything is in the state again. The snapshot's name stays with the database."""
        self.imports.unlink(missing_ok=True)

    def clear(self) -> None:
        """Remove both files: nothing is kept."""
        self.imports.unlink(missing_ok=True)
        self.variables.unlink(missing_ok=True)

    @staticmethod
    def _write(path: Path, content: str) -> None:
        partial = path.with_suffix(".partial")
        partial.write_text(content, encoding="utf-8")
        partial.replace(path)


def storage_imports(state: dict[str, Any]) -> dict[str, str]:
    """Return address and import id of every resource of the storage module in Terraform's state JSON."""
    found: dict[str, str] = {}

    def walk(module: dict[str, Any]) -> None:
        for resource in module.get("resources", []):
            if resource["mode"] == "managed" and resource["address"].startswith(f"{STORAGE}."):
                found[resource["address"]] = resource["values"]["id"]
        for child in module.get("child_modules", []):
            walk(child)

    walk(state.get("values", {}).get("root_module", {}))
    return found
