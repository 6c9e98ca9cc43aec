"""Keep the table of docs/cost.md as the code has it: `python -m cloud.cost_docs [--check]`."""

from __future__ import annotations

import sys
from pathlib import Path

from cloud import cost
from cloud.environments import NAMES
from cloud.terraform import ROOT

BEGIN, END = "<!-- BEGIN COST -->\n", "<!-- END COST -->"
DOCUMENT = ROOT / "docs" / "cost.md"


def render(text: str) -> str:
    """Return a document with the table between its markers brought up to date.

    Raises:
        ValueError: a marker is missing.
    """
    if BEGIN not in text or END not in text:
        raise ValueError(f"needs the lines {BEGIN.strip()} and {END}")
    before, _, rest = text.partition(BEGIN)
    _, _, after = rest.partition(END)
    return f"{before}{BEGIN}\n{cost.markdown([cost.estimate(name) for name in NAMES])}\n{END}{after}"


def main(arguments: list[str], document: Path = DOCUMENT) -> int:
    """Write the table, or with --check say whether it is stale."""
    text = document.read_text(encoding="utf-8")
    wanted = render(text)
    if wanted == text:
        return 0
    if "--check" in arguments:
        print(f"{document.relative_to(ROOT)} is stale: run `make docs`", file=sys.stderr)
        return 1
    document.write_text(wanted, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
