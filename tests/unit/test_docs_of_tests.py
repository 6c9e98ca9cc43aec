"""What docs/testing.md and CONTRIBUTING.md say of the suite is so."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from benchmarks import report
from benchmarks.suite import PAGE, SECTION, Suite

ROOT = Path(__file__).resolve().parents[2]
TARGETS = set(re.findall(r"^([a-z][a-z0-9-]*):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))


@pytest.mark.parametrize("page", ["docs/testing.md", "CONTRIBUTING.md"])
def test_every_command_is_a_target(page: str) -> None:
    named = set(re.findall(r"`make ([a-z0-9-]+)[^`]*`", (ROOT / page).read_text(encoding="utf-8")))

    assert {"check", "test"} <= named
    assert named <= TARGETS


def test_every_part_is_explained() -> None:
    explained = re.findall(r"^\| `([a-z0-9-]+)` \|", PAGE.read_text(encoding="utf-8"), re.MULTILINE)

    assert sorted(explained) == sorted(Suite().parts())


def test_the_page_has_room_for_what_parts_cost() -> None:
    page = PAGE.read_text(encoding="utf-8")

    assert report.insert(page, SECTION, "x") != page
