"""Runs the benchmarks of training and serving and writes their tables into their pages of docs."""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import sys
from dataclasses import dataclass
from datetime import date
from pathlib import Path

from benchmarks import machine

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs" / "benchmarks.md"


@dataclass(frozen=True)
class Benchmark:
    """A module of this package, the environment it runs in, its arguments, and the page with its section."""

    environment: str
    arguments: tuple[str, ...] = ()
    page: Path = PAGE


BENCHMARKS = {
    "preparation": Benchmark("dev", ("--growth",)),
    "cpu_training": Benchmark("trainer"),
    "datasets": Benchmark("dev"),
    "datasets_at_once": Benchmark("dev"),
    "serving": Benchmark("dev", page=ROOT / "docs" / "serving.md"),
}


def table_of(output: str) -> str:
    """Return the Markdown tables of a benchmark's output and what is written around them, without its progress."""
    lines = output.splitlines()
    first = next((number for number, line in enumerate(lines) if line.startswith("|")), None)
    if first is None:
        raise ValueError(f"no table in the output:\n{output}")
    while first > 0 and not lines[first - 1].strip():
        first -= 1
    return "\n".join(line for line in lines[first:] if not line.startswith("#")).strip()


def section(page: str, name: str) -> str:
    """Return what a benchmark wrote into the page.

    Raises:
        ValueError: the page has no such section.
    """
    found = re.search(rf"(?<=<!-- BEGIN {name} -->\n).*?(?=<!-- END {name} -->)", page, re.DOTALL)
    if not found:
        raise ValueError(f"the page has no section {name!r}")
    return found[0]


def insert(page: str, name: str, content: str) -> str:
    """Return the page with a benchmark's section replaced.

    Raises:
        ValueError: the page has no such section.
    """
    begin, end = f"<!-- BEGIN {name} -->\n", f"<!-- END {name} -->"
    return page.replace(f"{begin}{section(page, name)}{end}", f"{begin}{content}\n{end}")


def run(name: str) -> str:
    """Run a benchmark and return its section.

    Raises:
        CalledProcessError: it failed.
    """
    chosen = BENCHMARKS[name]
    python = ROOT / ".local" / "envs" / chosen.environment / "bin" / "python"
    folders = (".", "dags", "containers/trainer/src", "containers/serving/src")
    done = subprocess.run(
        [python, "-m", f"benchmarks.{name}", *chosen.arguments],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(str(ROOT / folder) for folder in folders)},
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    return f"{date.today():%Y-%m-%d}, {machine.describe()}\n\n{table_of(done.stdout)}"


def main() -> int:
    """Run the chosen benchmarks, all unless some are named."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(BENCHMARKS)} (default: all)")
    names = parser.parse_args().names or list(BENCHMARKS)
    if unknown := sorted(set(names) - set(BENCHMARKS)):
        parser.error(f"unknown benchmark {unknown[0]!r}: choose from {', '.join(BENCHMARKS)}")
    for name in names:
        print(f"{name}: running ...", file=sys.stderr, flush=True)
        page = BENCHMARKS[name].page
        try:
            content = run(name)
        except subprocess.CalledProcessError as error:
            kept = f"docs/{page.name} keeps the last"
            print(f"{name}: failed with exit code {error.returncode}; {kept}", file=sys.stderr)
            return 1
        page.write_text(insert(page.read_text(encoding="utf-8"), name, content), encoding="utf-8")
        print(content, flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
