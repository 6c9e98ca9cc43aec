"""What people write behind a target reaches the command as they wrote it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
TOLD = f"{sys.executable} -c 'import json,sys; print(json.dumps(sys.argv[1:]))'"
HOSTILE = """saves $5k, $(shell touch {0}) $(touch {0}) `touch {0}`; "quoted" O'Neill"""


def told(*words: str, **environment: str) -> list[str]:
    """Return the arguments with which a target begins its command; nothing is set up."""
    done = subprocess.run(
        ["make", "--no-print-directory", "-o", "setup", "-o", "setup-platform", f"CLOUD={TOLD}", *words],
        cwd=ROOT, env={**os.environ, **environment}, capture_output=True, text=True, check=True,
    )  # fmt: skip
    arguments: list[str] = json.loads(done.stdout)
    return arguments


@pytest.mark.parametrize("name", ["DATASET", "REASON", "RUN"])
def test_nothing_that_is_given_is_taken_for_code(tmp_path: Path, name: str) -> None:
    text = HOSTILE.format(tmp_path / "touched")
    assert text in told("approve", "ENV=dev", f"{name}={text}")
    assert text in told("approve", "ENV=dev", **{name: text})
    assert not (tmp_path / "touched").exists()


@pytest.mark.parametrize(("value", "on"), [("1", True), ("yes", True), ("0", False), ("no", False), ("", False)])
def test_a_switch_is_on_only_when_it_is_switched_on(value: str, on: bool) -> None:
    arguments = told("approve", "ENV=dev", f"REJECT={value}", f"YES={value}")
    assert ("--reject" in arguments, "--yes" in arguments) == (on, on)
