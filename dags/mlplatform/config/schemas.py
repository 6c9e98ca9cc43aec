"""JSON schemas of the configuration files, for editors and people: ``python -m mlplatform.config.schemas FOLDER``."""

from __future__ import annotations

import json
import sys
from pathlib import Path

from mlplatform.config.base import Strict
from mlplatform.config.environment import Settings
from mlplatform.config.family import FamilySpec
from mlplatform.config.own_settings import DatasetFile

SCHEMAS: dict[str, type[Strict]] = {
    "settings": Settings,
    "model": DatasetFile,
    "family": FamilySpec,
}


def render() -> dict[str, str]:
    """Return the schemas' text by file name."""
    return {
        f"{name}.schema.json": json.dumps(
            {"$schema": "https://json-schema.org/draft/2020-12/schema", **model.model_json_schema()}, indent=2
        )
        + "\n"
        for name, model in SCHEMAS.items()
    }


def main(folder: Path) -> None:
    """Write the schemas into a folder."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in render().items():
        (folder / name).write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
