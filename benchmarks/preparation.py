"""Step prepare against the same job by hand in pandas, Polars, DuckDB and Spark: `python -m benchmarks.preparation`.

Makes a table of 30 columns (`--rows`), runs every contender in a process of its own, in turn and several times
(`--repeats`), and shows medians of wall time, CPU time and peak memory of the process tree, as a Markdown table and,
with `--json`, as a file. Ours runs as in a pod with 2 GiB; the others take what they like. `--growth` repeats ours
with four times the rows: its memory must not grow. What the contenders report of the data must agree.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import psutil

from benchmarks import machine
from local import bootstrap

ROOT = Path(__file__).parents[1]
ENVS = ROOT / ".local" / "envs"
JOBS = Path(__file__).with_name("preparation_by_hand.py")
REQUIREMENTS = Path(__file__).with_name("preparation.in")
POD_MIB = 2048
ENVIRONMENTS = {"ours": "trainer", "duckdb": "trainer", "spark": "spark", "pandas": "bench", "polars": "bench"}

GENERATE = """
import sys, duckdb
rows, target = int(sys.argv[1]), sys.argv[2]
connection = duckdb.connect(config={"memory_limit": "2GB"})
connection.execute("set enable_progress_bar = false")
columns = [
    "(i * 2654435761) % 9007199254740881 as id",
    "timestamp '2024-01-01' + to_microseconds((hash(i) % (200 * 86400000000))::bigint) as happened",
    "(hash(i + 1) % 5 = 0)::integer as target",
]
for k in range(22):
    columns.append(
        f"case hash(i * 31 + {k}) % 100 when 0 then null when 1 then 'nan'::double "
        f"else (hash(i * 37 + {k}) % 1000000) / 1000.0::double end as n{k:02d}"
    )
for k, kinds in enumerate([5, 20, 100, 500, 2000]):
    columns.append(f"'c' || (hash(i * 41 + {k}) % {kinds})::varchar as c{k}")
connection.execute(
    f"copy (select {', '.join(columns)} from range({rows}) t(i)) to '{target}' (format parquet, compression zstd)"
)
"""


@dataclass(frozen=True)
class Measured:
    """One run of one contender.

    Attributes:
        wall: seconds from the process's start to its end.
        cpu: seconds of all cores, user and system.
        peak: largest sum of resident memory of the process and its children, in MiB, sampled every 50 ms.
    """

    contender: str
    rows: int
    wall: float
    cpu: float
    peak: float


def main(argv: Sequence[str] | None = None) -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rows", type=int, default=5_000_000)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--growth", action="store_true", help="also prepare four times the rows")
    parser.add_argument("--contenders", nargs="+", choices=ENVIRONMENTS, default=list(ENVIRONMENTS))
    parser.add_argument("--json", type=Path, help="also write every run's numbers into this file")
    options = parser.parse_args(argv)
    pythons, absent = find_pythons(options.contenders)
    runs: list[Measured] = []
    with tempfile.TemporaryDirectory(prefix="mlp-bench-") as name:
        folder = Path(name)
        source = generate(options.rows, folder)
        expected = None
        for _ in range(options.repeats):
            for contender, python in pythons.items():
                measured, reported = measure(contender, python, source, options.rows, folder / "out")
                expected = expected or reported
                if reported != expected:
                    raise SystemExit(f"{contender} says something else of the data than {next(iter(pythons))}")
                runs.append(measured)
                print(
                    f"# {contender}: {measured.wall:.1f} s, {measured.cpu:.1f} s CPU, {measured.peak:.0f} MiB",
                    flush=True,
                )
        if options.growth:
            source.unlink()
            source = generate(4 * options.rows, folder)
            measured, _ = measure("ours", pythons["ours"], source, 4 * options.rows, folder / "out")
            runs.append(measured)
    print(render(runs, absent))
    if options.json:
        options.json.write_text(json.dumps([asdict(run) for run in runs], indent=2) + "\n", encoding="utf-8")


def find_pythons(contenders: Sequence[str]) -> tuple[dict[str, Path], list[str]]:
    """Return each contender's interpreter, and those that there is none for; install pandas and Polars if needed."""
    bench = ENVS / "bench"
    if "bench" in {ENVIRONMENTS[name] for name in contenders} and not (bench / ".complete").exists():
        try:
            uv = bootstrap.find_or_install_uv()
            subprocess.run([uv, "venv", "--quiet", "--python", sys.executable, "--clear", bench], check=True)
            subprocess.run(
                [uv, "pip", "install", "--quiet", "--python", bench / "bin/python", "-r", REQUIREMENTS], check=True
            )
            (bench / ".complete").touch()
        except (bootstrap.SetupError, OSError, subprocess.CalledProcessError) as error:
            print(f"# {bench} could not be made: {error}")
    pythons = {name: ENVS / ENVIRONMENTS[name] / "bin/python" for name in contenders}
    absent = [name for name, python in pythons.items() if not python.exists()]
    if ENVIRONMENTS["pandas"] == "bench" and not (bench / ".complete").exists():
        absent = sorted({*absent, *(name for name in contenders if ENVIRONMENTS[name] == "bench")})
    return {name: python for name, python in pythons.items() if name not in absent}, absent


def generate(rows: int, folder: Path) -> Path:
    """Write the table."""
    source = folder / "rows.parquet"
    subprocess.run([ENVS / "trainer/bin/python", "-c", GENERATE, str(rows), source], check=True)
    return source


def measure(contender: str, python: Path, source: Path, rows: int, output: Path) -> tuple[Measured, str]:
    """Run a contender; return its costs and what it says of the data."""
    shutil.rmtree(output, ignore_errors=True)
    output.mkdir()
    path = [ROOT / folder for folder in ("dags", "containers/trainer/src", "containers/serving/src")]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(map(str, path)) if contender == "ours" else ""}
    if contender == "ours":
        environment["TRAINER_MEMORY_MIB"] = str(POD_MIB)
    started = time.monotonic()
    before = os.times()
    with (output.parent / "errors").open("w+") as errors:
        process = subprocess.Popen(
            [python, JOBS, contender, source, output], stdout=subprocess.PIPE, stderr=errors, env=environment, text=True
        )
        seen: dict[int, float] = {}
        peak = [0.0]
        watcher = threading.Thread(target=_watch, args=(process.pid, seen, peak), daemon=True)
        watcher.start()
        answer, _ = process.communicate()
        wall = time.monotonic() - started
        watcher.join()
        if process.returncode:
            errors.seek(0)
            raise SystemExit(f"{contender} ended with {process.returncode}: {errors.read()[-2000:]}")
    after = os.times()
    waited = after.children_user + after.children_system - before.children_user - before.children_system
    # A child's child that nobody waited for, such as Spark's JVM, is missing in the system's own account.
    cpu = max(waited, sum(seen.values()))
    return Measured(contender, rows, wall, cpu, peak[0]), answer.splitlines()[-1]


def _watch(pid: int, seen: dict[int, float], peak: list[float]) -> None:
    """Keep each process's CPU time and the largest sum of the tree's resident memory until its root ends."""
    try:
        root = psutil.Process(pid)
        while root.is_running() and root.status() != psutil.STATUS_ZOMBIE:
            total = 0
            for process in [root, *root.children(recursive=True)]:
                try:
                    total += process.memory_info().rss
                    times = process.cpu_times()
                    seen[process.pid] = times.user + times.system
                except psutil.NoSuchProcess:
                    continue
            peak[0] = max(peak[0], total / 2**20)
            time.sleep(0.05)
    except psutil.NoSuchProcess:
        return


def render(runs: Sequence[Measured], absent: Sequence[str]) -> str:
    """Return a Markdown table of the medians, each with its ratio to the fastest by hand."""
    lines = [
        f"{machine.describe()}; ours limited to {POD_MIB} MiB",
        "",
        "| | rows | wall s | ratio | CPU s | peak MiB | runs |",
        "|---|---:|---:|---:|---:|---:|---:|",
    ]
    groups: dict[tuple[int, str], list[Measured]] = {}
    for run in runs:
        groups.setdefault((run.rows, run.contender), []).append(run)
    medians = {
        key: [statistics.median(getattr(run, name) for run in group) for name in ("wall", "cpu", "peak")]
        for key, group in groups.items()
    }
    for key in sorted(groups, key=lambda key: (key[0], medians[key][0])):
        rows, contender = key
        wall, cpu, peak = medians[key]
        by_hand = [times[0] for (count, other), times in medians.items() if count == rows and other != "ours"]
        ratio = f"{wall / min(by_hand):.2f}" if by_hand else ""
        lines.append(
            f"| {contender} | {rows:,} | {wall:.1f} | {ratio} | {cpu:.1f} | {peak:,.0f} | {len(groups[key])} |"
        )
    lines += [f"| {name} | - | not installed | | | | 0 |" for name in absent]
    return "\n".join(lines)


if __name__ == "__main__":
    main()
