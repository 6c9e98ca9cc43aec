"""Ten datasets training at once against ten one after another: `make bench BENCH=datasets_at_once`.

On an empty local platform of its own, with copies of `iris` under names of their own, the same files for each. Each
training goes from its file to the gate; nothing is deployed. All must come to the same model. Prints a Markdown table.
"""

from __future__ import annotations

import argparse
import shutil
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from benchmarks.dataset_bundle import ROOT, copies, names
from local.cli import down, up
from local.datasets import iris, landing
from local.pipeline import driver
from local.pipeline.attached import AttachedPlatform
from local.pipeline.reconfigured import reconfigured
from local.platform.home import Home

COUNT = 10
TIMEOUT = 1800.0
Result = dict[str, Any]


def configuration(folder: Path, count: int) -> Path:
    """Make a configuration with so many copies of the dataset and no others."""
    shutil.copytree(ROOT / "config", folder, ignore=shutil.ignore_patterns("models"))
    (folder / "models").mkdir()
    for name, text in copies(count, iris.DATASET).items():
        (folder / "models" / f"{name}.yaml").write_text(text, encoding="utf-8")
    return folder


def train(platform: AttachedPlatform, dataset: str) -> Result:
    """Train a dataset from its files to the question whether it may be deployed, and return what came of it.

    Raises:
        SystemExit: it did not come so far.
    """
    landing.put(iris.batch_tables(1), lambda table: f"{dataset}/{table}/part-1.parquet", platform.s3, platform.landing)
    run_id = driver.unique_run_id(f"bench-{dataset}")
    driver.trigger(platform, dataset, run_id, trials=2, ask_a_person=True)
    if not driver.is_asked(platform, dataset, run_id, TIMEOUT):
        raise SystemExit(f"{run_id} of {dataset} did not come to its approval: nothing to compare")
    run = driver.report(platform, dataset, run_id, "running")
    assert run.decision is not None
    assert run.selection is not None
    tried = [(trial["params"], trial["metrics"]) for trial in run.trials]
    return {"trials": tried, "value": run.decision["candidate_value"], "outcome": run.decision["outcome"]}


def at_once(platform: AttachedPlatform, datasets: Sequence[str], workers: int) -> tuple[float, list[Result]]:
    """Train datasets, so many at a time; return the seconds that it took and the results in order."""
    begun = time.monotonic()
    with ThreadPoolExecutor(workers) as pool:
        results = list(pool.map(lambda dataset: train(platform, dataset), datasets))
    return time.monotonic() - begun, results


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=COUNT, help="of datasets at once (default: %(default)s)")
    count: int = parser.parse_args().count
    # One warms the platform up; the others are trained in one way or the other.
    first, *all_names = names(2 * count + 1, iris.DATASET)
    with tempfile.TemporaryDirectory(prefix="mlp-bench-") as folder:
        home = Path(folder) / "home"
        up(home=home, fresh=True)
        try:
            platform = AttachedPlatform(Home(home))
            with reconfigured(platform, configuration(Path(folder) / "config", 2 * count + 1)):
                _wait_for_dags(platform, all_names)
                expected = train(platform, first)
                alone, one_by_one = at_once(platform, all_names[:count], 1)
                together, results = at_once(platform, all_names[count:], count)
        finally:
            down(home=home)
    different = sum(result != expected for result in [*one_by_one, *results])
    print("| datasets | one after another, s | at once, s | ratio | results that differ |")
    print("|---:|---:|---:|---:|---:|")
    print(f"| {count} | {alone:.0f} | {together:.0f} | {together / alone:.2f} | {different} of {2 * count} |")


def _wait_for_dags(platform: AttachedPlatform, datasets: Sequence[str]) -> None:
    deadline = time.monotonic() + 120
    while missing := {driver.dag_id("train", dataset) for dataset in datasets} - set(platform.airflow.dags()):
        if time.monotonic() > deadline:
            raise SystemExit(f"Airflow does not know {', '.join(sorted(missing))}")
        time.sleep(0.5)


if __name__ == "__main__":
    main()
