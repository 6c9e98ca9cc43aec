"""What people write behind a target reaches the command as they wrote it."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.makefile import handed_on

HOSTILE = """saves $5k, $(shell touch {0}) $(touch {0}) `touch {0}`; "quoted" O'Neill"""


@pytest.mark.parametrize("name", ["DATASET", "REASON", "RUN"])
def test_nothing_that_is_given_is_taken_for_code(tmp_path: Path, name: str) -> None:
    text = HOSTILE.format(tmp_path / "touched")
    assert text in handed_on("approve", "ENV=dev", f"{name}={text}")
    assert text in handed_on("approve", "ENV=dev", **{name: text})
    assert not (tmp_path / "touched").exists()


@pytest.mark.parametrize(("value", "on"), [("1", True), ("yes", True), ("0", False), ("no", False), ("", False)])
def test_a_switch_is_on_only_when_it_is_switched_on(value: str, on: bool) -> None:
    arguments = handed_on("approve", "ENV=dev", f"REJECT={value}", f"YES={value}")
    assert ("--reject" in arguments, "--yes" in arguments) == (on, on)
