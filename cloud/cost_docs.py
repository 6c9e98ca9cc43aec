"""Keep the table of docs/cost.md as the code has it: `python -m cloud.cost_docs [--check]`."""

from __future__ import annotations

import sys
from pathlib import Path

from cloud import cost
from cloud.environments import NAMES
from cloud.terraform import ROOT
from local import generated_tables

BEGIN, END = "<!-- BEGIN COST -->\n", "<!-- END COST -->"
DOCUMENT = ROOT / "docs" / "cost.md"


def render(text: str) -> str:
    """Return a document with the table between its markers brought up to date.

    Raises:
        ValueError: a marker is missing.
    """
    return generated_tables.replace(text, BEGIN, END, cost.markdown([cost.estimate(name) for name in NAMES]))


def main(arguments: list[str], document: Path = DOCUMENT) -> int:
    """Write the table, or with --check say whether it is stale."""
    return generated_tables.update(document, render, check="--check" in arguments)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
