"""Every field of every document, as text to compare: ``python -m mlplatform.documents.fields FILE``."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args

from pydantic import BaseModel

from mlplatform.documents.base import Document, kinds


def render() -> str:
    """Return a line for each field: document, version, path, type, and whether it may be missing."""
    lines = {line for kind in kinds() for line in _lines(kind)}
    return "".join(f"{line}\n" for line in sorted(lines))


def _lines(kind: type[Document]) -> Iterator[str]:
    for path, annotation, required in _fields(kind, ()):
        if path != "schema_version":
            yield f"{kind.__name__} {kind.current_version()}: {path} {annotation}{'' if required else ' (optional)'}"


def _fields(
    model: type[BaseModel], above: tuple[type[BaseModel], ...], prefix: str = ""
) -> Iterator[tuple[str, str, bool]]:
    if model in above:
        return
    for name, field in model.model_fields.items():
        path = f"{prefix}{field.alias or name}"
        embedded = list(_models(field.annotation))
        shown = " | ".join(sorted(one.__name__ for one in embedded)) or str(field.annotation).replace("typing.", "")
        yield path, shown.removeprefix("<class '").removesuffix("'>"), field.is_required()
        for one in embedded:
            yield from _fields(one, (*above, model), f"{path}.")


def _models(annotation: Any) -> Iterator[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for part in get_args(annotation):
        yield from _models(part)


if __name__ == "__main__":
    Path(sys.argv[1]).write_text(render(), encoding="utf-8")
