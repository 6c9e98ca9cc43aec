"""Tables in documents that are written from the code, between two markers."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

from local.platform.home import ROOT


def replace(text: str, begin: str, end: str, table: str) -> str:
    """Return a document with what is between its markers replaced.

    Raises:
        ValueError: a marker is missing.
    """
    if begin not in text or end not in text:
        raise ValueError(f"needs the lines {begin.strip()} and {end}")
    before, _, rest = text.partition(begin)
    _, _, after = rest.partition(end)
    return f"{before}{begin}\n{table}\n{end}{after}"


def update(document: Path, render: Callable[[str], str], *, check: bool) -> int:
    """Write a document as rendered, or only say whether it is stale; return the exit code.

    Args:
        document: the file.
        render: returns a document's text as it should be.
        check: write nothing.
    """
    text = document.read_text(encoding="utf-8")
    wanted = render(text)
    if wanted == text:
        return 0
    if check:
        name = document.relative_to(ROOT) if document.is_relative_to(ROOT) else document
        print(f"{name} is stale: run `make docs`", file=sys.stderr)
        return 1
    document.write_text(wanted, encoding="utf-8")
    return 0
