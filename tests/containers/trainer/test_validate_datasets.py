"""The example data sets pass their own validation, batch after batch, and can be prepared."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
from helpers import Run

from mlplatform.config.loading import load_model
from mlplatform.storage import read_bytes
from trainer import tracking

ROOT = Path(__file__).parents[3]
DUMP = """
import sys
from pathlib import Path
from local.datasets import landing, load
for name in sys.argv[2:]:
    dataset = load(name)
    for batch in range(1, 3):
        for table, rows in dataset.batch_tables(batch).items():
            Path(sys.argv[1], f"{name}.{batch}.{table}").write_bytes(landing.parquet_bytes(rows))
"""
NAMES = ("housing", "iris", "titanic")


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the first two batches land; their package is in the development environment only."""
    folder = tmp_path_factory.mktemp("datasets")
    python = ROOT / ".local/envs/dev/bin/python"
    subprocess.run([python, "-c", DUMP, folder, *NAMES], check=True, cwd=ROOT, env={"PYTHONPATH": str(ROOT)})
    return folder


def land(run: Run, files: Path, name: str, batch: int, new: bool = True) -> None:
    for path in sorted(files.glob(f"{name}.{batch}.*")):
        run.land(path.suffix[1:], path.read_bytes(), f"batch-{batch}", new)


@pytest.mark.parametrize("name", NAMES)
def test_a_batch_after_the_other_is_valid(tracked: Run, files: Path, name: str) -> None:
    registered = tracked.model["registered_model"]
    tracked.model = {**load_model(name, ROOT).model_dump(mode="json"), "registered_model": registered}
    land(tracked, files, name, 1)
    assert tracked.done("validate").warnings == []

    client = tracking.connect(tracked.tracking_uri)
    client.create_registered_model(registered)
    made = client.create_run(client.create_experiment(registered)).info
    tags = {"run_prefix": tracked.prefix}
    version = client.create_model_version(registered, f"{made.artifact_uri}/model", made.run_id, tags=tags)
    client.set_registered_model_alias(registered, "champion", version.version)

    second = Run(f"{tracked.name}-second", tracking_uri=tracked.tracking_uri, model=tracked.model)
    land(second, files, name, 1, new=False)
    land(second, files, name, 2)
    assert second.done("validate").warnings == []
    page = read_bytes(f"{second.prefix}/validate/report.html").decode()
    assert ("Drift (PSI)" in page) == (name != "iris")  # 75 flowers are too few


@pytest.mark.parametrize("name", NAMES)
def test_a_first_batch_can_be_split(run: Run, files: Path, name: str) -> None:
    run.model = load_model(name, ROOT).model_dump(mode="json")
    land(run, files, name, 1)
    result = run.done("prepare")
    total = result.train.rows + result.validation.rows + result.test.rows
    assert result.dropped_rows == 0
    assert result.train.rows > 0.4 * total
    assert min(result.validation.rows, result.test.rows) > 0.1 * total
