"""Follows a page of docs/how-to: makes the changes that it shows in a copy of the project.

A paragraph that begins with a path in backticks says which file the blocks after it are about: a ``diff`` changes it,
any other block is the whole of a new file.
"""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
_PART = re.compile(r"^`(?P<path>[\w./-]+\.\w+)`|^```(?P<kind>\w+)\n(?P<block>.*?)^```$", re.MULTILINE | re.DOTALL)


def follow(page: str, project: Path) -> set[str]:
    """Make a page's changes, and return the files that were touched.

    Raises:
        AssertionError: a block is about no file, or does not fit it.
    """
    path, touched = None, set()
    for part in _PART.finditer((ROOT / "docs" / "how-to" / page).read_text(encoding="utf-8")):
        if part["path"]:
            path = part["path"]
            continue
        assert path is not None, f"{page}: no file is named before\n{part['block']}"
        file = project / path
        text = part["block"] if part["kind"] != "diff" else apply(file.read_text(encoding="utf-8"), part["block"], path)
        file.write_text(text, encoding="utf-8")
        touched.add(path)
    return touched


def apply(text: str, diff: str, where: str) -> str:
    """Return a text with the lines of a diff's one hunk changed."""
    lines = diff.splitlines()
    assert all(line[:1] in ("", " ", "+", "-") for line in lines), f"{where}: not a diff:\n{diff}"
    old = "".join(f"{line[1:]}\n" for line in lines if line[:1] != "+")
    new = "".join(f"{line[1:]}\n" for line in lines if line[:1] != "-")
    assert text.count(old) == 1, (
        f"{where}: {text.count(old)} places, and it should be one, are as in\n{old}bring the page up to date"
    )
    return text.replace(old, new)
