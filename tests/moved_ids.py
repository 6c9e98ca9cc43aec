"""Where each test of an earlier version is now: `make moved-tests`.

docs/testing/ids-0.1.0.txt lists the tests as they were. One that has lost its id is looked for by its function and its
parameters in the files that are there now. What this leaves open stands in docs/testing/renamed.tsv, written by hand:
an old id, or the file or function that several begin with, and what has taken its place. A test that no longer stands
alone is renamed to the one that shows the same.

Writes docs/testing/test-ids.tsv, a line for every test that moved; fails with a list when one is gone.
"""

from __future__ import annotations

import argparse
import re
import subprocess
import sys
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

from benchmarks.suite import Suite

ROOT = Path(__file__).resolve().parents[1]
FOLDER = ROOT / "docs" / "testing"
OLD = FOLDER / "ids-0.1.0.txt"
RENAMED = FOLDER / "renamed.tsv"
TABLE = FOLDER / "test-ids.tsv"

_ID = re.compile(r"^(tests/[^:\n]+)::([^\[\n]+)(\[.*)?$", re.MULTILINE)

# What makes two tests one where their files differ, from sure to likely.
_LIKENESSES: tuple[Callable[[str], tuple[str, ...]], ...] = (
    lambda test: (part(test), file_name(test), name(test)),
    lambda test: (file_name(test), name(test)),
    lambda test: (part(test), name(test)),
    lambda test: (name(test),),
)


class Gone(Exception):
    """Tests are not there any more; the message lists them."""


def part(test: str) -> str:
    """Return the part of the suite a test belongs to, as in `unit`."""
    return test.split("/")[1]


def file_name(test: str) -> str:
    """Return the name of a test's file without its folder."""
    return test.partition("::")[0].rpartition("/")[2]


def name(test: str) -> str:
    """Return a test's function, in its class where it has one, with its parameters."""
    return test.partition("::")[2]


def collect() -> list[str]:
    """Return the ids of all tests of `make test`, in its order.

    Raises:
        CalledProcessError: a part cannot be collected.
    """
    found = []
    for each in Suite().parts():
        if each.startswith("test-"):
            command = ["make", "--no-print-directory", each, "PYTEST_ARGS=--collect-only"]
            done = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, text=True, check=True)
            found += ids_in(done.stdout)
    return found


def ids_in(output: str) -> list[str]:
    """Return the ids that pytest tells of when it collects."""
    return [found[0] for found in _ID.finditer(output)]


def write_list(tests: Iterable[str]) -> str:
    """Return ids as a list: a line for each file, below it its functions, below these their parameters."""
    lines: list[str] = []
    last = ("", "")
    for file, function, parameters in sorted(_split(test) for test in tests):
        if file != last[0]:
            lines.append(file)
        if (file, function) != last:
            lines.append(f" {function}")
        if parameters:
            lines.append(f"  {parameters}")
        last = file, function
    return "\n".join(lines) + "\n"


def read_list(text: str) -> list[str]:
    """Return the ids of a list."""
    found: list[str] = []
    file = function = ""
    for line in text.splitlines():
        if line.startswith("  ["):
            if found[-1:] == [f"{file}::{function}"]:
                found.pop()  # with parameters it is no test of its own
            found.append(f"{file}::{function}{line[2:]}")
        elif line.startswith(" "):
            function = line[1:]
            found.append(f"{file}::{function}")
        else:
            file = line
    return found


def read_renamed(text: str) -> dict[str, str]:
    """Return what took the place of what, of lines of two columns; `#` begins a comment."""
    return dict(line.split("\t") for line in text.splitlines() if line and not line.startswith("#"))


def match(old: Iterable[str], new: Iterable[str], renamed: Mapping[str, str]) -> dict[str, str]:
    """Return the new id of every old test that lost its own.

    Raises:
        Gone: there is none, or a line of `renamed` leads nowhere or has nothing to rename.
    """
    there = set(new)
    lost = [test for test in old if test not in there]
    moved = {test: after for test in lost if (after := _renamed(test, renamed, there))}
    free = there - set(old) - set(moved.values())
    for likeness in _LIKENESSES:
        moved |= _pair((test for test in lost if test not in moved), free - set(moved.values()), likeness)
    problems = [f"{test}: is gone" for test in lost if test not in moved]
    problems += [
        f"{before}: has nothing to rename"
        for before in renamed
        if not any(_longest(test, renamed) == before for test in lost)
    ]
    if problems:
        raise Gone("\n".join(problems))
    return {test: moved[test] for test in lost}


def _split(test: str) -> tuple[str, str, str]:
    found = _ID.match(test)
    assert found, test
    return found[1], found[2], found[3] or ""


def _longest(test: str, renamed: Mapping[str, str]) -> str | None:
    """Return the line that says most of a test."""
    begins = (before for before in renamed if test == before or test.startswith((f"{before}::", f"{before}[")))
    return max(begins, key=len, default=None)


def _renamed(test: str, renamed: Mapping[str, str], there: set[str]) -> str | None:
    before = _longest(test, renamed)
    if before is None:
        return None
    after = renamed[before]
    # The same parameters, or one test for all of them.
    return next((found for found in (after + test.removeprefix(before), after) if found in there), None)


def _pair(lost: Iterable[str], free: Iterable[str], likeness: Callable[[str], tuple[str, ...]]) -> dict[str, str]:
    """Pair those that are alike and have no double on either side."""
    sides = []
    for tests in (lost, free):
        alike = defaultdict(list)
        for test in tests:
            alike[likeness(test)].append(test)
        sides.append({like: found[0] for like, found in alike.items() if len(found) == 1})
    before, after = sides
    return {before[like]: after[like] for like in before.keys() & after.keys()}


def main() -> int:
    """Write the table, or the list of a version."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--record", type=Path, metavar="FILE", help="write the present list of tests instead")
    record = parser.parse_args().record
    new = collect()
    if record:
        record.write_text(write_list(new), encoding="utf-8")
        return 0
    old = read_list(OLD.read_text(encoding="utf-8"))
    try:
        moved = match(old, new, read_renamed(RENAMED.read_text(encoding="utf-8")))
    except Gone as gone:
        print(f"{gone}\nsay in {RENAMED.relative_to(ROOT)} what took their place", file=sys.stderr)
        return 1
    TABLE.write_text("old\tnew\n" + "".join(f"{row[0]}\t{row[1]}\n" for row in moved.items()), encoding="utf-8")
    print(f"of {len(old)} tests {len(moved)} have moved; {len(new)} are there now")
    return 0


if __name__ == "__main__":
    sys.exit(main())
