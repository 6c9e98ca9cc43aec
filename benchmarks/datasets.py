"""What more datasets cost Airflow: `make bench BENCH=datasets`.

Bundles of 1 to 100 datasets, each with its four DAGs, are parsed file by file as the DAG processor does it, and as the
process of a task does it. Then Airflow's scheduler runs with them on a PostgreSQL of its own. Processor seconds, as
other work on the machine does not change them. Prints Markdown tables.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path

from benchmarks.dag_parsing import Parsed
from benchmarks.dataset_bundle import ROOT, assemble, names
from benchmarks.scheduler_loop import BUNDLE_NAME, Loops
from benchmarks.scratch_postgres import server
from local.platform.home import environment_python

COUNTS = (1, 10, 30, 100)
LOOPS = 30


def airflow_environment(home: Path, bundle: Path, database: str | None = None) -> dict[str, str]:
    """Return the environment variables of an Airflow of its own, which knows one bundle.

    Args:
        home: its folder.
        bundle: folder of the bundle.
        database: its address; a file in the folder unless given.
    """
    bundles = [
        {
            "name": BUNDLE_NAME,
            "classpath": "airflow.dag_processing.bundles.local.LocalDagBundle",
            "kwargs": {"path": str(bundle)},
        }
    ]
    own = {
        "AIRFLOW_HOME": str(home),
        "AIRFLOW__CORE__DAGS_FOLDER": str(bundle),
        "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
        "AIRFLOW__CORE__EXECUTOR": "LocalExecutor",
        "AIRFLOW__DAG_PROCESSOR__DAG_BUNDLE_CONFIG_LIST": json.dumps(bundles),
        "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": database or f"sqlite:///{home / 'airflow.db'}",
        "AIRFLOW__SCHEDULER__ENABLE_HEALTH_CHECK": "False",
        "AIRFLOW__SCHEDULER__SCHEDULER_IDLE_SLEEP_TIME": "0.1",
        "AIRFLOW__USAGE_DATA_COLLECTION__ENABLED": "False",
        "AIRFLOW__LOGGING__BASE_LOG_FOLDER": str(home / "logs"),
        # The bundle brings its own library, which finds the configuration beside it.
        "PYTHONPATH": str(ROOT),
    }
    return {key: value for key, value in os.environ.items() if not key.startswith("AIRFLOW_")} | own


def parse(bundle: Path, task_of: str | None = None) -> list[Parsed]:
    """Parse a bundle's files, or as for a task of one DAG only that one's, and return what each took.

    Raises:
        CalledProcessError: a file cannot be imported.
    """
    with tempfile.TemporaryDirectory(prefix="mlp-bench-") as home:
        done = subprocess.run(
            [
                environment_python("airflow"),
                "-m",
                "benchmarks.dag_parsing",
                str(bundle),
                *([task_of] if task_of else []),
            ],
            env=airflow_environment(Path(home), bundle),
            stdout=subprocess.PIPE,
            text=True,
            check=True,
        )
    return [Parsed(**json.loads(line)) for line in done.stdout.splitlines() if line.startswith("{")]


def row(count: int, files: Sequence[Parsed], task: Parsed) -> str:
    """Return a row of the table.

    Args:
        count: of datasets.
        files: what the bundle's files took.
        task: what the file took in the process of a training's task.
    """
    total, slowest = sum(file.cpu for file in files), max(files, key=lambda file: file.cpu)
    return (
        f"| {count} | {sum(file.dags for file in files)} | {total:.1f} | {slowest.cpu:.1f} (`{slowest.file}`) "
        f"| {max(file.peak_mib for file in files):,.0f} | {task.cpu:.1f} | {task.peak_mib:,.0f} |"
    )


def schedule(bundle: Path) -> list[Loops]:
    """Let a scheduler run with a bundle's DAGs, at rest and with a waiting run of each training.

    Raises:
        CalledProcessError: it ended with an error.
    """
    with tempfile.TemporaryDirectory(prefix="mlp-bench-") as folder, server(Path(folder) / "postgres") as database:
        # As the scheduler finds its DAGs' library where the DAG processor does.
        environment = airflow_environment(Path(folder), bundle, database)
        environment["PYTHONPATH"] += f"{os.pathsep}{bundle}"
        done = subprocess.run(
            [environment_python("airflow"), "-m", "benchmarks.scheduler_loop", str(bundle), str(LOOPS)],
            env=environment,
            stdout=subprocess.PIPE,
            text=True,
            check=True,
        )
    return [Loops(**json.loads(line)) for line in done.stdout.splitlines() if line.startswith("{")]


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--counts", type=int, nargs="+", default=COUNTS, help="of datasets (default: %(default)s)")
    counts: Sequence[int] = parser.parse_args().counts
    columns = "datasets | DAGs | all files, CPU s | slowest file, CPU s | peak MiB | a task, CPU s | a task, peak MiB"
    print(f"| {columns} |")
    print("|---:|---:|---:|---:|---:|---:|---:|", flush=True)
    loops: list[Loops] = []
    with tempfile.TemporaryDirectory(prefix="mlp-bench-") as folder:
        for count in counts:
            bundle = assemble(Path(folder) / str(count), count)
            files = parse(bundle)
            (task,) = parse(bundle, f"train__{names(count)[-1]}")
            print(row(count, files, task), flush=True)
            loops += schedule(bundle)
    print("\n| DAGs | trainings that wait | a loop of the scheduler, CPU ms | wall ms | slowest, wall ms |")
    print("|---:|---:|---:|---:|---:|")
    for found in loops:
        print(
            f"| {found.dags} | {found.running} | {found.cpu_ms:.0f} | {found.wall_ms:.0f} "
            f"| {found.slowest_wall_ms:.0f} |"
        )


if __name__ == "__main__":
    main()
