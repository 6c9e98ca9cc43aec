"""The flights of January as they land: what `config/models/flights.yaml` makes of them."""

from __future__ import annotations

import io
import subprocess
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from helpers import Run

from mlplatform.config.loading import load_model
from mlplatform.documents.run import Trial
from mlplatform.storage import read_bytes

ROOT = Path(__file__).parents[3]
MODEL = load_model("flights", ROOT)
AFTERWARDS = ["dep_time", "dep_delay", "arr_time", "arr_delay", "air_time"]
"""What is only known once a flight has left."""

DUMP = """
import sys
from pathlib import Path
from local.datasets import flights
for table, rows in flights.month_tables(1).items():
    Path(sys.argv[1], table + ".parquet").write_bytes(flights.parquet_bytes(rows))
"""


@pytest.fixture(scope="module")
def january(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    folder = tmp_path_factory.mktemp("january")
    python = ROOT / ".local/envs/dev/bin/python"
    subprocess.run([python, "-c", DUMP, folder], check=True, cwd=ROOT, env={"PYTHONPATH": str(ROOT)})
    return {path.stem: path.read_bytes() for path in folder.glob("*.parquet")}


@pytest.fixture
def flights(run: Run) -> Run:
    run.model = MODEL.model_dump(mode="json")
    return run


def land(run: Run, tables: dict[str, bytes]) -> None:
    for table in ("planes", "weather", "flights"):
        run.land(table, tables[table])


def test_january_is_valid_without_a_warning(flights: Run, january: dict[str, bytes], mlflow_uri: str) -> None:
    flights.tracking_uri = mlflow_uri  # asked for the champion, whose training data drift is measured against
    land(flights, january)
    result = flights.done("validate")
    assert {file.table: file.rows for file in result.files} == {"planes": 3322, "weather": 2226, "flights": 27004}
    assert result.warnings == []


def test_january_is_split_by_day(flights: Run, january: dict[str, bytes]) -> None:
    land(flights, january)
    result = flights.done("prepare")
    assert [(split.start.day, split.end.day) for split in (result.train, result.validation, result.test)] == [
        (1, 17),
        (18, 24),
        (25, 31),
    ]
    assert result.train.rows + result.validation.rows + result.test.rows == 26398  # cancelled and diverted are left out
    assert result.dropped_rows == 0
    assert all(0.15 < split.target_mean < 0.35 for split in (result.train, result.validation, result.test))


def test_no_feature_knows_what_happened_after_departure(flights: Run, january: dict[str, bytes]) -> None:
    """Scramble everything only known afterwards (for the flights that flew): all features must stay the same."""
    assert not set(AFTERWARDS) & set(MODEL.features)
    table = pq.read_table(io.BytesIO(january["flights"]))
    flew = pc.is_valid(table["air_time"])
    scrambled = table
    for number, column in enumerate(AFTERWARDS):
        noise = pa.array([(row * 7919 + number * 31) % 600 + 1 for row in range(table.num_rows)], pa.int64())
        values = pc.if_else(flew, noise, table[column])
        scrambled = scrambled.set_column(scrambled.schema.get_field_index(column), column, values)
    assert scrambled["arr_delay"] != table["arr_delay"]
    buffer = io.BytesIO()
    pq.write_table(scrambled, buffer)

    features = []
    for name, content in (("as it was", january["flights"]), ("scrambled", buffer.getvalue())):
        flights.objects.clear()
        land(flights, {**january, "flights": content})
        result = flights.done("prepare", name)
        key = [(column, "ascending") for column in ("scheduled", "flight", "carrier", "origin", "dest")]
        parts = [
            pq.read_table(io.BytesIO(read_bytes(uri))).sort_by(key)
            for split in (result.train, result.validation, result.test)
            for uri in split.uris
        ]
        features.append(pa.concat_tables(parts).select([*MODEL.features, "scheduled", "flight"]))
    assert features[0].num_rows == 26398
    assert features[0].equals(features[1])


def test_the_weather_is_that_of_the_hour_before_the_scheduled_departure(
    flights: Run, january: dict[str, bytes]
) -> None:
    land(flights, january)
    test = pq.read_table(io.BytesIO(read_bytes(flights.done("prepare").test.uris[0])))
    weather = pq.read_table(io.BytesIO(january["weather"])).to_pylist()
    seen = {(row["origin"], row["day"], row["hour"]): row for row in weather}
    rows = [row for row in test.to_pylist() if row["scheduled"].hour > 0 and row["temperature"] is not None][::97]
    assert len(rows) > 30
    for row in rows:
        before = seen[row["origin"], row["scheduled"].day, row["scheduled"].hour - 1]
        assert (row["temperature"], row["pressure"]) == (before["temp"], before["pressure"])


BAD = {
    "missing column": (lambda table: table.drop_columns(["sched_dep_time"]), ["sched_dep_time: missing"]),
    "wrong type": (
        lambda table: table.set_column(15, "distance", pc.cast(table["distance"], pa.string())),
        ["distance: is varchar, expected number"],
    ),
    "NaN target": (
        lambda table: table.set_column(
            8, "arr_delay", pc.if_else(pc.equal(table["flight"], 1545), float("nan"), table["arr_delay"])
        ),
        ["arr_delay:", "without a number where air_time is not null"],
    ),
    "zero rows": (lambda table: table.slice(0, 0), ["zero rows, expected 1000"]),
    "null key": (
        lambda table: table.set_column(
            10, "flight", pc.if_else(pc.equal(table["flight"], 1545), pa.scalar(None, pa.int64()), table["flight"])
        ),
        ["flight:", "null"],
    ),
}


@pytest.mark.parametrize("case", BAD)
def test_a_bad_month_is_refused(flights: Run, january: dict[str, bytes], case: str) -> None:
    change, expected = BAD[case]
    buffer = io.BytesIO()
    pq.write_table(change(pq.read_table(io.BytesIO(january["flights"]))), buffer)  # type: ignore[no-untyped-call]
    land(flights, {**january, "flights": buffer.getvalue()})
    failure = flights.refused("validate")
    assert failure.subjects == [flights.objects[-1].uri]
    for part in expected:
        assert part in failure.message


def test_a_truncated_month_is_refused(flights: Run, january: dict[str, bytes]) -> None:
    land(flights, {**january, "flights": january["flights"][:-1]})
    failure = flights.refused("validate")
    assert failure.subjects == [flights.objects[-1].uri]
    assert "not a readable Parquet file" in failure.message


@pytest.mark.parametrize("family", ["xgboost", "sklearn"])
def test_both_families_learn_something_about_january(
    flights: Run, january: dict[str, bytes], family: str, mlflow_uri: str
) -> None:
    flights.tracking_uri = mlflow_uri
    flights.family = family
    flights.trials = [Trial(index=0, params={"learning_rate": 0.1})]
    land(flights, january)
    flights.done("prepare")
    (trial,) = flights.done("train").trials
    assert trial.metrics["roc_auc"] > 0.62
