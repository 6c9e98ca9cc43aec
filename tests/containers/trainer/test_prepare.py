from __future__ import annotations

import io
from collections.abc import Sequence
from datetime import date, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from helpers import TASKS, Run, depots, parcels, parquet, profile

from mlplatform.config.environment import Preparation, Spark
from mlplatform.documents.inputs import InputManifest, InputObject
from mlplatform.documents.results import PrepareResult, Split
from mlplatform.errors import NonRetryableError
from mlplatform.storage import client, read_bytes
from trainer import data, inputs, prepare, sql
from trainer.preparation import duck

PARTS = ("train", "validation", "test")
RANDOM = {"kind": "random", "key": ["id"], "seed": 1, "validation_share": 0.2, "test_share": 0.2}
GROUP = {"kind": "group", "column": "sender", "seed": 1, "validation_share": 0.2, "test_share": 0.2}


def read(split: Split | Sequence[str]) -> Any:
    uris = split.uris if isinstance(split, Split) else split
    return pa.concat_tables([pq.read_table(io.BytesIO(read_bytes(uri))) for uri in uris])


def parts(result: PrepareResult) -> dict[str, Split]:
    return {name: getattr(result, name) for name in PARTS}


def content(result: PrepareResult) -> list[bytes]:
    uris = [*(uri for split in parts(result).values() for uri in split.uris), result.profile_uri]
    return [read_bytes(uri) for uri in uris]


def land(run: Run, columns: dict[str, Any]) -> None:
    run.land("depots", parquet(depots()))
    run.land("parcels", parquet(columns))


def use_groups(run: Run) -> None:
    """Split by sender, of whom there are some 40."""
    run.model["query"] = run.model["query"].replace("select p.id,", "select p.id, p.id // 7 % 40 as sender,")
    run.model["split"] = GROUP


def test_whole_days_go_to_train_validation_and_test_in_order(run: Run) -> None:
    run.land_good()
    result = run.done("prepare")
    days = {}
    for name, split in parts(result).items():
        table = read(split)
        assert table.num_rows == split.rows
        assert pc.mean(table["late"]).as_py() == pytest.approx(split.target_mean)
        assert split.class_shares == {"0": pytest.approx(1 - split.target_mean), "1": split.target_mean}
        assert pc.min_max(table["sent"]).as_py() == {"min": split.start, "max": split.end}
        assert table["sent"].to_pylist() == sorted(table["sent"].to_pylist())
        days[name] = sorted({time.date() for time in table["sent"].to_pylist()})
    assert days["train"] == [date(2024, 3, day) for day in range(1, 7)]
    assert days["validation"] == [date(2024, 3, day) for day in range(7, 10)]
    assert days["test"] == [date(2024, 3, day) for day in range(10, 13)]
    delivered = sum(parcels()["delivered"])
    assert result.train.rows + result.validation.rows + result.test.rows == delivered
    assert (result.engine, result.dropped_rows) == ("duckdb", 0)


def test_days_are_those_of_utc_whatever_the_time_zone_of_the_machine(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """30 minutes apart across the nights in which Europe changes its clocks."""
    monkeypatch.setenv("TZ", "Europe/Berlin")
    columns = parcels(days=40, per_day=48)
    columns["sent"] = [datetime(2024, 3, 1) + timedelta(minutes=30 * row) for row in range(len(columns["id"]))]
    run.land("depots", parquet(depots()))
    run.land("parcels", parquet(columns, {"sent": pa.timestamp("us", "America/New_York")}))
    run.model["query"] = run.model["query"].replace(" where p.delivered", "")
    run.model["query"] = run.model["query"].replace("(p.delay > 15)::integer", "(p.weight > 15)::integer")
    run.model["features"].pop("weight")
    run.model["split"].update(validation_days=9, test_days=5)
    result = run.done("prepare")
    assert result.validation.start == datetime(2024, 3, 27)
    assert result.test.start == datetime(2024, 4, 5)
    assert result.test.end == datetime(2024, 4, 9, 23, 30)
    assert len({time for part in parts(result).values() for time in read(part)["sent"].to_pylist()}) == sum(
        part.rows for part in parts(result).values()
    )


@pytest.mark.parametrize("split", ["random", "group"])
def test_each_key_is_in_one_part_and_stays_there_when_data_is_added(run: Run, split: str) -> None:
    use_groups(run)
    key = "sender"
    if split == "random":
        run.model["split"], key = RANDOM, "id"

    def assignment(days: int, output: str) -> dict[Any, str]:
        run.objects.clear()
        land(run, parcels(days=days))
        result = run.done("prepare", output)
        placed: dict[Any, str] = {}
        for part, found in parts(result).items():
            assert (found.start, found.end) == (None, None)
            for value in read(found)[key].to_pylist():
                assert placed.setdefault(value, part) == part
        return placed

    before, after = assignment(8, "before"), assignment(16, "after")
    common = before.keys() & after.keys()
    assert len(common) > 0.8 * len(before)
    assert {key: before[key] for key in common} == {key: after[key] for key in common}
    shares = {part: list(after.values()).count(part) / len(after) for part in PARTS}
    slack = 0.05 if split == "random" else 0.15
    assert shares == {"train": pytest.approx(0.6, abs=slack), **dict.fromkeys(PARTS[1:], pytest.approx(0.2, abs=slack))}


def test_another_seed_draws_other_rows(run: Run) -> None:
    run.land_good()
    run.model["split"] = RANDOM
    one = set(read(run.done("prepare", "one").test)["id"].to_pylist())
    run.model["split"] = {**RANDOM, "seed": 2}
    two = set(read(run.done("prepare", "two").test)["id"].to_pylist())
    assert 0 < len(one & two) < len(one) / 2


def test_rows_without_a_key_are_dropped_and_counted(run: Run) -> None:
    columns = parcels()
    columns["id"] = [None if row % 10 == 0 else row for row in columns["id"]]
    land(run, columns)
    run.model["split"] = RANDOM
    result = run.done("prepare")
    assert result.dropped_rows == sum(columns["delivered"][::10])


def test_rows_that_are_there_twice_stay_twice(run: Run) -> None:
    land(run, {name: values * 2 for name, values in parcels().items()})
    result = run.done("prepare")
    assert sum(split.rows for split in parts(result).values()) == 2 * sum(parcels()["delivered"])


def test_features_target_and_references_have_plain_types(run: Run) -> None:
    run.land_good()
    schema = read(run.done("prepare").train).schema
    types = {field.name: str(field.type) for field in schema}
    assert types == {
        "id": "int64",
        "sent": "timestamp[us]",
        "depot": "string",
        "weight": "double",
        "load": "double",
        "express": "double",
        "delay": "double",
        "late": "double",
    }


def test_infinite_results_of_the_query_become_missing(run: Run) -> None:
    run.land_good()
    table = read(run.done("prepare").train)
    north = table.filter(pc.equal(table["depot"], "north"))  # weight / 0
    assert north["load"].null_count == north.num_rows > 0


@pytest.mark.parametrize("split", ["time", "random", "group"])
def test_the_same_rows_give_the_same_bytes_in_whatever_order_and_files_they_land(run: Run, split: str) -> None:
    if split != "time":
        use_groups(run)
    if split == "random":
        run.model["split"] = RANDOM
    run.land_good()
    first, again = run.done("prepare", "one"), run.done("prepare", "two")
    assert content(first) == content(again)
    run.objects.clear()
    backwards = {name: values[::-1] for name, values in parcels().items()}
    run.land("parcels", parquet({name: values[:200] for name, values in backwards.items()}), "x")
    run.land("parcels", parquet({name: values[200:] for name, values in backwards.items()}), "y")
    run.land("depots", parquet(depots()))
    assert content(run.done("prepare", "three")) == content(first)


def test_rows_without_target_are_dropped_and_counted(run: Run) -> None:
    run.model["query"] = run.model["query"].replace(" where p.delivered", "")
    run.land_good()
    result = run.done("prepare")
    assert result.dropped_rows == parcels()["delivered"].count(False)


@pytest.mark.parametrize("task", TASKS)
def test_what_is_prepared_is_what_is_loaded_and_profiled(run: Run, tmp_path: Path, task: str) -> None:
    run.use_task(task)
    run.land_good()
    result = run.done("prepare")
    described = data.read_profile(result)
    classes = {"binary": ["0", "1"], "multiclass": ["late", "on time", "very late"], "regression": None}[task]
    assert described.classes == classes
    kinds: dict[str, data.Kind] = {name: feature["type"] for name, feature in run.model["features"].items()}
    for name, split in parts(result).items():
        loaded = data.load(data.fetch(split, tmp_path / name), kinds, "late", classes)
        assert loaded.rows == split.rows
        table = read(split)
        if task == "multiclass":
            assert [described.classes[int(position)] for position in loaded.target] == table["late"].to_pylist()
            assert split.target_mean is None
        else:
            assert loaded.target.tolist() == table["late"].to_pylist()
            assert split.target_mean == pytest.approx(loaded.target.mean())
        if split.class_shares is not None:
            assert sum(split.class_shares.values()) == pytest.approx(1)
            assert list(split.class_shares) == classes
        else:
            assert task == "regression"
        if name == "train":
            assert_same_profile(described, profile(loaded, kinds, classes))


def assert_same_profile(one: Any, other: Any) -> None:
    assert (one.rows, one.classes, list(one.columns)) == (other.rows, other.classes, list(other.columns))
    for name, column in one.columns.items():
        expected = other.columns[name].model_dump()
        for key, value in column.model_dump().items():
            close = isinstance(value, float)
            assert value == (pytest.approx(expected[key], rel=1e-12) if close else expected[key]), (name, key)


def test_the_moments_of_many_row_groups_are_those_of_all_rows(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Large numbers of little spread: the textbook formula would lose all digits."""
    columns = parcels(days=12, per_day=13_000)
    run.model["split"].update(validation_days=1, test_days=1)
    columns["weight"] = [value and 1e9 + value for value in columns["weight"]]
    land(run, columns)
    result = run.done("prepare")
    assert pq.ParquetFile(io.BytesIO(read_bytes(result.train.uris[0]))).num_row_groups > 1
    kinds: dict[str, data.Kind] = {name: feature["type"] for name, feature in run.model["features"].items()}
    loaded = data.load(data.fetch(result.train, tmp_path), kinds, "late", ["0", "1"])
    described = data.read_profile(result)
    weight = described.columns["weight"]
    expected = profile(loaded, kinds).columns["weight"]
    assert weight.mean == pytest.approx(expected.mean, rel=1e-13)
    assert weight.deviation == pytest.approx(expected.deviation, rel=1e-7)
    # The sorted rows spill, and more threads write and read the row groups.
    monkeypatch.setenv("TRAINER_MEMORY_MIB", "512")
    monkeypatch.setenv("TRAINER_THREADS", "5")
    assert content(run.done("prepare", "again")) == content(result)


def test_a_split_of_several_files_is_one_dataset(run: Run, tmp_path: Path) -> None:
    run.land_good()
    result = run.done("prepare")
    kinds: dict[str, data.Kind] = {"weight": "number", "depot": "category"}
    both = result.train.model_copy(update={"uris": [*result.train.uris, *result.validation.uris]})
    paths = data.fetch(both, tmp_path)
    assert len(set(paths)) == 2
    loaded = data.load(paths, kinds, "late")
    first = data.load(paths[:1], kinds, "late")
    assert loaded.rows == result.train.rows + result.validation.rows
    assert loaded.columns["depot"][: first.rows].tolist() == first.columns["depot"].tolist()
    assert np.array_equal(loaded.columns["weight"][: first.rows], first.columns["weight"], equal_nan=True)


def test_a_class_that_a_model_does_not_know_is_refused(run: Run, tmp_path: Path) -> None:
    run.use_task("multiclass")
    run.land_good()
    paths = data.fetch(run.done("prepare").test, tmp_path)
    with pytest.raises(NonRetryableError, match="'very late', which the model does not know"):
        data.load(paths, {"weight": "number"}, "late", ["late", "on time"])


QUERY_MISTAKES = [
    (("p.depot, ", ""), "has no column depot"),
    (("(p.delay > 15)::integer as late", "1 as other"), "has no column late"),
    (("from parcels p", "from vans p"), "vans"),
    (("select p.id", "selec p.id"), "syntax error"),
    (("(p.delay > 15)::integer as late", "p.delay as late"), "neither 0 nor 1"),
    (("p.weight,", "'heavy' as weight,"), "heavy"),
    (("p.sent,", "p.id as sent,"), "not a time"),
    (("p.depot,", "p.weight as depot,"), "no one textual form"),
    (("p.id,", "p.id, p.id as __part,"), "may be called __part"),
    (("p.id,", "p.id, p.id as RowId,"), "may be called RowId"),
]


@pytest.mark.parametrize(("change", "expected"), QUERY_MISTAKES)
def test_a_wrong_query_is_a_mistake_in_the_configuration(run: Run, change: tuple[str, str], expected: str) -> None:
    assert change[0] in run.model["query"]
    run.model["query"] = run.model["query"].replace(*change, 1)
    run.land_good()
    failure = run.refused("prepare")
    assert failure.kind == "bad-config"
    assert "query" in failure.message or "target" in failure.message
    assert expected in failure.message


@pytest.mark.parametrize(
    ("task", "column", "feature"),
    [
        ("binary", "(p.delay > 15)::integer as copied", "number"),
        ("binary", "(p.delay <= 15)::integer as copied", "number"),
        ("binary", "case when p.delay > 15 then 'yes' else 'no' end as copied", "category"),
        ("multiclass", "case when p.delay > 20 then 3 when p.delay > 10 then 1 else 2 end as copied", "number"),
        ("multiclass", "case when p.delay > 20 then 'c' when p.delay > 10 then 'a' else 'b' end as copied", "category"),
        ("regression", "p.delay as copied", "number"),
    ],
)
def test_a_feature_that_is_the_target_is_refused(run: Run, task: str, column: str, feature: str) -> None:
    run.use_task(task)
    run.model["query"] = run.model["query"].replace("select p.id,", f"select p.id, {column},")
    run.model["features"]["copied"] = {"type": feature}
    run.land_good()
    failure = run.refused("prepare")
    assert failure.kind == "bad-config"
    assert "features.copied: tells late on each of" in failure.message


def test_a_feature_that_is_the_target_but_for_one_row_is_none_of_our_business(run: Run) -> None:
    copied = "(p.delay > 15 or p.id = (select min(id) from parcels where delay <= 15))::integer as copied"
    run.model["query"] = run.model["query"].replace("select p.id,", f"select p.id, {copied},")
    run.model["features"]["copied"] = {"type": "number"}
    run.land_good()
    run.done("prepare")


def test_a_feature_that_is_the_target_but_for_the_last_row_is_none_of_our_business(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Some rows do not rule it out; all do."""
    monkeypatch.setattr(duck, "SAMPLE", 1)
    copied = "(p.delay > 15 or p.id = (select max(id) from parcels where delay <= 15))::integer as copied"
    run.model["query"] = run.model["query"].replace("select p.id,", f"select p.id, {copied},")
    run.model["features"]["copied"] = {"type": "number"}
    run.land_good()
    run.done("prepare", "one")
    run.model["query"] = run.model["query"].replace(copied, "(p.delay > 15)::integer as copied")
    assert "features.copied: tells late on each of" in run.refused("prepare").message


def test_too_few_days_are_refused(run: Run) -> None:
    land(run, parcels(days=6))
    assert "split train: no rows" in run.refused("prepare").message


def test_too_few_groups_are_refused(run: Run) -> None:
    run.model["split"] = {**GROUP, "column": "depot"}
    run.model["features"].pop("depot")
    land(run, {**parcels(), "depot": ["north"] * 600})
    message = run.refused("prepare").message
    assert "no rows; too few different groups to draw from by depot" in message


def test_no_example_is_refused(run: Run) -> None:
    land(run, {**parcels(), "delivered": [False] * 600})
    assert "no example" in run.refused("prepare").message


def test_no_example_with_a_target_is_refused(run: Run) -> None:
    columns = parcels()
    run.land("depots", parquet(depots()))
    run.land("parcels", parquet({**columns, "delay": [None] * 600}, {"delay": pa.float64()}))
    message = run.refused("prepare").message
    assert f"of {sum(columns['delivered'])} rows {sum(columns['delivered'])} have no late" in message


@pytest.mark.parametrize("task", TASKS)
def test_a_split_with_nothing_to_measure_is_refused(run: Run, task: str) -> None:
    run.use_task(task)
    columns = parcels()
    columns["delay"] = [delay and (99.0 if row >= 450 else delay) for row, delay in enumerate(columns["delay"])]
    land(run, columns)
    assert "split test: all" in run.refused("prepare").message


def test_a_class_that_is_not_in_the_train_split_is_refused(run: Run) -> None:
    run.use_task("multiclass")
    run.model["query"] = run.model["query"].replace("else 'on time'", "when p.id > 500 then 'early' else 'on time'")
    run.land_good()
    assert "split test: late = 'early' is not in the train split" in run.refused("prepare").message


def test_as_many_classes_as_rows_are_refused(run: Run) -> None:
    run.use_task("multiclass")
    query = run.model["query"].replace("'very late'", "p.id").replace("'late'", "-p.id").replace("'on time'", "p.id")
    run.model["query"] = query
    land(run, parcels(per_day=400))
    assert "more than 1000 classes" in run.refused("prepare").message


def test_numbers_too_large_to_standardise_are_refused(run: Run) -> None:
    run.model["query"] = run.model["query"].replace("p.weight,", "p.weight * 1e200 as weight,")
    run.land_good()
    assert "scale them in the query" in run.refused("prepare").message


def test_a_file_that_is_gone_is_refused_by_name(run: Run) -> None:
    run.land_good()
    gone = run.objects[0]
    client().delete_object(Bucket=gone.bucket, Key=gone.key, VersionId=gone.version_id)
    failure = run.refused("prepare")
    assert failure.subjects == [gone.uri]
    assert "no longer there" in failure.message


def test_a_table_may_be_called_as_a_part(run: Run) -> None:
    run.model["tables"]["train"] = run.model["tables"].pop("parcels")
    run.model["query"] = run.model["query"].replace("from parcels", "from train") + " -- of all depots"
    run.land("depots", parquet(depots()))
    run.land("train", parquet(parcels()))
    run.done("prepare")


def test_duckdb_keeps_within_the_steps_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRAINER_MEMORY_MIB", "2048")
    with sql.connect(tmp_path) as connection:
        settings = dict(
            connection.execute(
                "select name, value from duckdb_settings() where name in ('memory_limit', 'temp_directory', 'TimeZone')"
            ).fetchall()
        )
    assert settings == {"memory_limit": "1.0 GiB", "temp_directory": str(tmp_path), "TimeZone": "UTC"}


def test_more_rows_than_fit_in_memory_are_prepared(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """3.2 million rows of 12 columns are 307 MB, with a limit of 256 MiB."""
    monkeypatch.setenv("TRAINER_MEMORY_MIB", "512")
    monkeypatch.setenv("TRAINER_THREADS", "2")
    numbers = {f"n{index:02d}": {"type": "number"} for index in range(10)}
    run = Run("large")
    run.model.update(features=dict(list(numbers.items())[:2]), references=[], split={**RANDOM, "key": ["id"]})
    run.model["tables"] = {"parcels": {"trigger": True, "columns": {"id": {"type": "integer"}}}}
    run.model["query"] = "select * from parcels"
    source = tmp_path / "in.parquet"
    with sql.connect(tmp_path) as connection:
        values = ", ".join(f"hash(i * 31 + {index}) / 1e19 as {name}" for index, name in enumerate(numbers))
        connection.execute(
            f"copy (select i as id, (hash(i) % 5 = 0)::integer as late, {values} from range(3200000) t(i)) "
            f"to {sql.literal(str(source))} (format parquet)"
        )
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    _, answers = duck.prepare(run.config().model, {"parcels": [source]}, scratch)
    assert answers["facts"][0]["valid"] == 3_200_000
    assert not (scratch / "prepared.duckdb").exists()


SMALL, LARGE = 2**20, 60 * 2**30
APPLICATION = Spark(application_id="00f1", execution_role_arn="arn:aws:iam::123456789012:role/spark")


@pytest.mark.parametrize(
    ("size", "preparation", "engine"),
    [
        (SMALL, Preparation(), "duckdb"),
        (LARGE, Preparation(), "duckdb"),  # there is no Spark
        (SMALL, Preparation(spark=APPLICATION), "duckdb"),
        (LARGE, Preparation(spark=APPLICATION), "spark"),
        (LARGE, Preparation(spark=APPLICATION, spark_above_gib=61), "duckdb"),
        (LARGE, Preparation(spark=APPLICATION, engine="duckdb"), "duckdb"),
        (SMALL, Preparation(spark=APPLICATION, engine="spark"), "spark"),
    ],
)
def test_the_engine_follows_configuration_and_size(size: int, preparation: Preparation, engine: str) -> None:
    source = InputObject(table="t", bucket="b", key="k", version_id=None, content_id="c", size=size, new=True)
    assert prepare.choose_engine(preparation, InputManifest(objects=[source])) == engine


def test_spark_without_spark_is_refused(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    run.preparation = Preparation(engine="spark")
    run.land_good()
    assert "preparation.engine: is spark, but preparation.spark names no" in run.refused("prepare").message


def test_a_footer_is_enough_to_know_the_columns(run: Run, tmp_path: Path) -> None:
    run.land_good()
    whole = inputs.download_all(InputManifest(objects=run.objects), tmp_path)
    for index, source in enumerate(run.objects):
        footer = inputs.download_footer(source, tmp_path / "..", index)
        with sql.connect(tmp_path) as connection:
            (original,) = whole[source.table]
            assert duck.types(connection, sql.files([footer])) == duck.types(connection, sql.files([original]))


@pytest.mark.parametrize("damage", [b"", b"PAR1PAR1", b"PAR1\xff\xff\xff\x7fPAR1", b"no parquet at all"])
def test_a_file_without_a_footer_is_refused(run: Run, tmp_path: Path, damage: bytes) -> None:
    uri = run.land("parcels", damage)
    with pytest.raises(NonRetryableError, match="not a readable Parquet file") as refused:
        inputs.download_footer(run.objects[0], tmp_path, 0)
    assert refused.value.subjects == [uri]
