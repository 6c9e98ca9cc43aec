"""What a `make` command hands to `python -m cloud`."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
_TELL = f"{sys.executable} -c 'import json,sys; print(json.dumps(sys.argv[1:]))'"


def handed_on(*words: str, **environment: str) -> list[str]:
    """Return the arguments with which a target begins its command; nothing is set up, and the command is not run."""
    # Of a make that the tests themselves run in.
    outer = {name: value for name, value in os.environ.items() if name not in ("MAKEFLAGS", "MAKELEVEL", "MFLAGS")}
    done = subprocess.run(
        ["make", "--no-print-directory", "-o", "setup", "-o", "setup-platform", f"CLOUD={_TELL}", *words],
        cwd=ROOT, env={**outer, **environment}, capture_output=True, text=True, check=True,
    )  # fmt: skip
    arguments: list[str] = json.loads(done.stdout)
    return arguments
