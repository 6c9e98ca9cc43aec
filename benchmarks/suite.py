"""Runs parts of the test suite, several at a time, and tells what each took (`make suite`).

A part's output comes when the part has ended. Once one has failed, those that run are waited for and no other begins.
With `--write` (`make bench-suite`) the table in docs/testing.md gets a row for each part that passed.
"""

from __future__ import annotations

import argparse
import re
import signal
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from threading import Event

from benchmarks import machine, report, suite_table
from benchmarks.process_tree import Cost, Measured
from benchmarks.suite_table import Row

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs" / "testing.md"
SECTION = "suite"
AT_A_TIME = 3
"""What CI runs on two cores: much of the suite waits."""

# pytest's closing line, as in "2 failed, 31 passed, 4 skipped in 5.67s".
_CLOSING = re.compile(r"^(?:=+ )?((?:\d+ [a-z]+, )*\d+ [a-z]+) in \d+\.\d+s", re.MULTILINE)


@dataclass(frozen=True)
class Result:
    """A part that has ended."""

    part: str
    output: str
    cost: Cost

    def __str__(self) -> str:
        ended = "passed" if self.cost.returncode == 0 else f"FAILED with exit code {self.cost.returncode}"
        told = f"{self.part} {ended} in {self.cost.wall / 60:.1f} min, {self.cost.cpu / 60:.1f} min of processors"
        return told + "".join(f"\nsuite: {self.part} left running: {command}" for command in self.cost.left)

    def row(self, day: date) -> Row:
        """Return the row of the table."""
        passed, skipped = counts(self.output)
        return Row(self.part, passed, skipped, self.cost.wall / 60, self.cost.cpu / 60, day.isoformat())


class Suite:
    """Parts of the suite, by their names in a Makefile."""

    def __init__(self, folder: Path = ROOT) -> None:
        self._folder = folder
        self._stopped = Event()
        self._running: set[Measured] = set()

    def parts(self) -> list[str]:
        """Return all there are: what `make test` asks for."""
        recipes = (self._folder / "Makefile").read_text(encoding="utf-8")
        return re.findall(r"^test:([^#\n]*)", recipes, re.MULTILINE)[0].split()

    def run(self, parts: Sequence[str], at_a_time: int) -> Iterator[Result]:
        """Run parts, beginning in their order, until one fails; yield each as it ends."""
        self._stopped.clear()
        with ThreadPoolExecutor(at_a_time) as pool:
            try:
                for ended in as_completed([pool.submit(self._run, part) for part in parts]):
                    if result := ended.result():
                        yield result
            finally:
                self._stopped.set()

    def stop(self) -> None:
        """Begin nothing more, and ask what runs to end."""
        self._stopped.set()
        for running in list(self._running):
            running.terminate()

    def _run(self, part: str) -> Result | None:
        if self._stopped.is_set():
            return None
        with tempfile.TemporaryFile() as output:
            running = Measured(["make", "--no-print-directory", f"--directory={self._folder}", part], output)
            self._running.add(running)
            cost = running.wait()
            self._running.remove(running)
            output.seek(0)
            result = Result(part, output.read().decode(errors="replace"), cost)
        if cost.returncode:
            self._stopped.set()
        return result


def counts(output: str) -> tuple[int, int]:
    """Return how many tests passed and were skipped, in all runs of pytest that an output tells of."""
    ends = [dict(reversed(end.split()) for end in line.split(", ")) for line in _CLOSING.findall(output)]
    passed, skipped = (sum(int(end.get(kind, 0)) for end in ends) for kind in ("passed", "skipped"))
    return passed, skipped


def main(arguments: Sequence[str] | None = None, suite: Suite | None = None, page: Path = PAGE) -> int:
    """Run the chosen parts, all unless some are named."""
    suite = suite or Suite()
    everything = suite.parts()
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--parts", metavar="A,B", help=f"some of {', '.join(everything)} (default: all)")
    parser.add_argument("--at-a-time", type=int, default=AT_A_TIME, metavar="N", help="(default: %(default)s)")
    parser.add_argument("--write", action="store_true", help=f"into the table in docs/{page.name}")
    chosen = parser.parse_args(arguments)
    parts = chosen.parts.split(",") if chosen.parts else everything
    if chosen.write and (unknown := sorted(set(parts) - set(everything))):
        parser.error(f"{unknown[0]!r} is no part of `make test`: choose from {', '.join(everything)}")

    before = signal.signal(signal.SIGTERM, lambda *_: suite.stop())
    try:
        return run(suite, parts, chosen.at_a_time, page if chosen.write else None)
    finally:
        signal.signal(signal.SIGTERM, before)


def run(suite: Suite, parts: Sequence[str], at_a_time: int, page: Path | None) -> int:
    """Run parts, tell of each, and write the rows of those that passed into a page, if there is one."""
    everything = suite.parts()
    began = time.monotonic()
    passed = []
    for result in suite.run(parts, at_a_time):
        print(f"{result.output}suite: {result}", flush=True)
        if result.cost.returncode == 0:
            passed.append(result)
    minutes = (time.monotonic() - began) / 60
    if page and passed:
        setting = f"{machine.describe()}, {at_a_time} parts at a time"
        if len(passed) == len(everything):
            setting += f", all in {minutes:.0f} minutes"
        text = page.read_text(encoding="utf-8")
        rows = [result.row(date.today()) for result in passed]
        table = suite_table.update(report.section(text, SECTION), rows, setting, everything)
        page.write_text(report.insert(text, SECTION, table), encoding="utf-8")
    if len(passed) < len(parts):
        print(f"suite: FAILED after {minutes:.1f} minutes")
        return 1
    rest = "" if set(everything) <= set(parts) else "; before a pull request: make test"
    print(f"suite: {', '.join(parts)} passed in {minutes:.1f} minutes{rest}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
