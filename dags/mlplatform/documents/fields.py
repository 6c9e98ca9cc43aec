"""Every field of every document, as text to compare: ``python -m mlplatform.documents.fields FILE``."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args

from pydantic import BaseModel

from mlplatform.documents.base import Document, kinds

_ADDRESS = re.compile(r" at 0x[0-9a-f]+")


def render() -> str:
    """Return a line for each document's version, and one for each field: path, type, and whether it may be missing."""
    lines = {line for kind in kinds() for line in _lines(kind)}
    return "".join(f"{line}\n" for line in sorted(lines))


def _lines(kind: type[Document]) -> Iterator[str]:
    yield f"{kind.__name__}: schema_version {kind.current_version()}"
    for path, annotation, required in _fields(kind, ()):
        if path != "schema_version":
            yield f"{kind.__name__}: {path} {annotation}{'' if required else ' (optional)'}"


def _fields(
    model: type[BaseModel], above: tuple[type[BaseModel], ...], prefix: str = ""
) -> Iterator[tuple[str, str, bool]]:
    if model in above:
        return
    for name, field in model.model_fields.items():
        path = f"{prefix}{field.alias or name}"
        embedded = list(_models(field.annotation))
        shown = " | ".join(sorted(one.__name__ for one in embedded)) or str(field.annotation).replace("typing.", "")
        shown = _ADDRESS.sub("", shown)  # where a validator's function happens to lie
        yield path, shown.removeprefix("<class '").removesuffix("'>"), field.is_required()
        for one in embedded:
            yield from _fields(one, (*above, model), f"{path}.")


def _models(annotation: Any) -> Iterator[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for part in get_args(annotation):
        yield from _models(part)


def forgotten(known: str, present: str) -> str | None:
    """Say what has to be done before the present fields can take the place of the known ones; None if nothing.

    What a policy asks for decides which models go live, so that no change of it only informs.
    """

    def of(text: str, start: str) -> set[str]:
        return {line for line in text.splitlines() if line.startswith(f"RunConfig: {start}")}

    changed = sorted(of(known, "policy.") ^ of(present, "policy."))
    if not changed or of(known, "schema_version") != of(present, "schema_version"):
        return None
    return (
        "the policy has changed, and older images would judge without it: raise GUARDS_VERSION in "
        "dags/mlplatform/config/policy.py first (docs/how-to/add-a-guard.md)\n  " + "\n  ".join(changed)
    )


def main(file: Path) -> None:
    """Write the file, unless something was forgotten."""
    present = render()
    if file.exists() and (problem := forgotten(file.read_text(encoding="utf-8"), present)):
        sys.exit(f"{file}: {problem}")
    file.write_text(present, encoding="utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
