"""Keep docs/local.md's table of Airflow's options as they are: `python -m local.platform.airflow_docs [--check]`."""

from __future__ import annotations

import sys
from pathlib import Path

from local import generated_tables
from local.platform.airflow_options import differences
from local.platform.home import ROOT

BEGIN, END = "<!-- BEGIN AIRFLOW -->\n", "<!-- END AIRFLOW -->"
DOCUMENT = ROOT / "docs" / "local.md"


def table() -> str:
    """Return the differences as a table."""
    rows = (f"| `{name}` | `{one.here}` | {one.there} | {one.why} |" for name, one in differences().items())
    return "\n".join(["| Option | Here | In the cloud | Why |", "|---|---|---|---|", *rows])


def render(text: str) -> str:
    """Return a document with the table between its markers brought up to date.

    Raises:
        ValueError: a marker is missing.
    """
    return generated_tables.replace(text, BEGIN, END, f"{table()}\n")


def main(arguments: list[str], document: Path = DOCUMENT) -> int:
    """Write the table, or with --check say whether it is stale."""
    return generated_tables.update(document, render, check="--check" in arguments)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
