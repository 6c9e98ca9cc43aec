"""The README's commands, as a reader would run them."""

from __future__ import annotations

import re
from pathlib import Path

README = Path(__file__).parents[1] / "README.md"
IN_AWS = "## The way to AWS"


def printed(beginning: str) -> list[str]:
    """Return the lines of the text block that begins so, without what is left out (`…`)."""
    for block in re.findall(r"^```text\n(.*?)^```", README.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL):
        lines: list[str] = block.splitlines()
        if lines[0].startswith(beginning):
            return [line for line in lines if line.strip() not in ("", "…")]
    raise AssertionError(f"the README has no block that begins with {beginning!r}")


def commands(*, in_aws: bool) -> list[str]:
    """Return every command in the README's shell blocks, without comments: of the part about AWS, or of the rest."""
    found: list[str] = []
    for section in re.split(r"^(?=## )", README.read_text(encoding="utf-8"), flags=re.MULTILINE):
        if section.startswith(IN_AWS) is in_aws:
            for block in re.findall(r"^```(?:sh|bash|shell)\n(.*?)^```", section, re.MULTILINE | re.DOTALL):
                lines = [line.partition(" #")[0].strip() for line in block.splitlines()]
                found += [line for line in lines if line and not line.startswith("#")]
    return found
