"""Step monitor on the example data sets: classes (iris) and amounts (housing), a later batch as what is asked."""

from __future__ import annotations

import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import duckdb
import pytest
from captures import Live, release
from helpers import Columns, Run
from sklearn.metrics import f1_score, mean_absolute_error

from mlplatform.config.environment import Monitoring
from mlplatform.config.loading import load_model
from modelformat import Predictor
from trainer import reports, sql, tracking

ROOT = Path(__file__).parents[3]
DUMP = """
import sys
from pathlib import Path
from local.datasets import landing, load
for name in sys.argv[2:]:
    for batch in range(1, 3):
        for table, rows in load(name).batch_tables(batch).items():
            Path(sys.argv[1], f"{name}.{batch}.{table}").write_bytes(landing.parquet_bytes(rows))
"""
NAMES = ("iris", "housing")


@dataclass
class Released:
    """A data set whose model of the first batch is live, and the second batch to ask it."""

    run: Run
    predictor: Predictor
    rows: Columns
    target: list[Any]


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the first two batches land; their package is in the development environment only."""
    folder = tmp_path_factory.mktemp("datasets")
    python = ROOT / ".local/envs/dev/bin/python"
    subprocess.run([python, "-c", DUMP, folder, *NAMES], check=True, cwd=ROOT, env={"PYTHONPATH": str(ROOT)})
    return folder


@pytest.fixture(scope="module", params=NAMES)
def released(
    request: pytest.FixtureRequest, files: Path, mlflow_uri: str, tmp_path_factory: pytest.TempPathFactory
) -> Released:
    name = request.param
    model = load_model(name, ROOT).model_dump(mode="json")
    model["registered_model"] = f"{name}-watched"
    run = Run(f"watched-{name}", tracking_uri=mlflow_uri, model=model)
    tracking.connect(mlflow_uri).create_registered_model(model["registered_model"])
    (first,) = files.glob(f"{name}.1.*")
    run.land(first.suffix[1:], first.read_bytes())
    predictor = release(run, "1", tmp_path_factory.mktemp("models"), max_depth=3)
    (second,) = files.glob(f"{name}.2.*")
    with duckdb.connect() as connection:
        connection.execute(f"create view {second.suffix[1:]} as from {sql.files([second])}")
        found = connection.execute(model["query"])
        rows = dict(zip([column[0] for column in found.description], zip(*found.fetchall(), strict=True), strict=True))
    numbers = {f.name for f in predictor.manifest.features if f.kind == "number"}
    features = {
        name: [None if v is None else float(v) if name in numbers else v for v in rows[name]]
        for name in model["features"]
    }
    return Released(run, predictor, features, list(rows[model["target"]]))


@pytest.fixture
def live(released: Released) -> Live:
    return Live(released.run, {"1": released.predictor}, limits=Monitoring(minimum_rows=50, minimum_labels=30))


def label(live: Live, target: list[Any]) -> None:
    ids = [f"{live.name}-1-{index}" for index in range(len(target))]
    live.label({"inference_id": ids, live.run.model["target"]: target})


def test_a_later_batch_is_like_the_first_and_its_labels_tell_the_quality(live: Live, released: Released) -> None:
    live.ask(released.rows)
    label(live, released.target)
    result = live.monitor()
    assert result.verdict.outcome == "ok", result.verdict
    (version,) = result.versions
    assert set(version.features) == set(live.run.model["features"])
    assert version.quality is not None
    answers = released.predictor.predict(released.rows)
    if released.predictor.manifest.task == "multiclass":
        classes = released.predictor.manifest.classes or []
        answered = [classes[index] for index in answers.argmax(axis=1)]
        expected = f1_score(released.target, answered, average="macro")
        assert f"virginica {reports.percent(answered.count('virginica') / len(answered))}" in live.report()
    else:
        expected = mean_absolute_error(released.target, answers)
        assert f"{reports.decimal(float(answers.mean()))} on average" in live.report()
    assert version.quality.value == pytest.approx(expected)
    assert version.quality.rows == len(released.target)
    assert version.quality.interval is not None
    assert version.quality.interval.low < expected < version.quality.interval.high


def test_another_unit_is_found_and_the_features_that_stayed_are_not(live: Live, released: Released) -> None:
    name, factor = {"iris": ("petal_width", 1 / 2.54), "housing": ("living_area", 0.0929)}[live.run.model["name"]]
    live.ask({**released.rows, name: [None if value is None else value * factor for value in released.rows[name]]})
    result = live.monitor()
    assert result.verdict.outcome == "drifted"
    features = [reason for reason in result.verdict.reasons if "feature" in reason]
    assert [f"feature {name} has drifted" in reason for reason in features] == [True]


def test_answers_far_from_what_happened_are_degraded(live: Live, released: Released) -> None:
    classes = released.predictor.manifest.classes
    wrong = [2 * value for value in released.target]
    if classes:
        wrong = [classes[(classes.index(value) + 1) % len(classes)] for value in released.target]
    live.ask(released.rows)
    label(live, wrong)
    result = live.monitor()
    assert result.verdict.outcome == "degraded", result.verdict


def test_labels_that_are_none_of_the_task_are_counted(live: Live, released: Released) -> None:
    live.ask(released.rows)
    label(live, ["tulip", "", *map(str, released.target[2:])])
    result = live.monitor()
    assert (result.labels.unusable, result.labels.matched) == (2, len(released.target) - 2)
    assert result.verdict.outcome == "ok", result.verdict
