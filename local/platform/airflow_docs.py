"""Keep docs/local.md's table of Airflow's options as they are: `python -m local.platform.airflow_docs [--check]`."""

from __future__ import annotations

import sys
from pathlib import Path

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
    if BEGIN not in text or END not in text:
        raise ValueError(f"needs the lines {BEGIN.strip()} and {END}")
    before, _, rest = text.partition(BEGIN)
    _, _, after = rest.partition(END)
    return f"{before}{BEGIN}\n{table()}\n\n{END}{after}"


def main(arguments: list[str], document: Path = DOCUMENT) -> int:
    """Write the table, or with --check say whether it is stale."""
    text = document.read_text(encoding="utf-8")
    wanted = render(text)
    if wanted == text:
        return 0
    if "--check" in arguments:
        print(f"{document} is stale: run `make docs`", file=sys.stderr)
        return 1
    document.write_text(wanted, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
