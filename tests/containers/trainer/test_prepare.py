from __future__ import annotations

import io
from datetime import date
from typing import Any

import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from helpers import Run, depots, parcels, parquet

from mlplatform import storage


def read(uri: str) -> Any:
    return pq.read_table(io.BytesIO(storage.read_bytes(uri)))


def test_whole_days_go_to_train_validation_and_test_in_order(run: Run) -> None:
    run.land_good()
    result = run.done("prepare")
    days = {}
    for name in ("train", "validation", "test"):
        split = getattr(result, name)
        table = read(split.uri)
        assert table.num_rows == split.rows
        assert pc.mean(table["late"]).as_py() == pytest.approx(split.positive_share)
        assert pc.min_max(table["sent"]).as_py() == {"min": split.start, "max": split.end}
        days[name] = sorted({time.date() for time in table["sent"].to_pylist()})
    assert days["train"] == [date(2024, 3, day) for day in range(1, 7)]
    assert days["validation"] == [date(2024, 3, day) for day in range(7, 10)]
    assert days["test"] == [date(2024, 3, day) for day in range(10, 13)]
    delivered = sum(parcels()["delivered"])
    assert result.train.rows + result.validation.rows + result.test.rows == delivered


def test_features_target_and_references_have_plain_types(run: Run) -> None:
    run.land_good()
    schema = read(run.done("prepare").train.uri).schema
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
    table = read(run.done("prepare").train.uri)
    north = table.filter(pc.equal(table["depot"], "north"))  # weight / 0
    assert north["load"].null_count == north.num_rows > 0


def test_the_same_input_gives_the_same_bytes(run: Run) -> None:
    run.land_good()
    first, second = run.done("prepare", "one"), run.done("prepare", "two")
    for name in ("train", "validation", "test"):
        one, two = (storage.read_bytes(getattr(result, name).uri) for result in (first, second))
        assert one == two


def test_the_order_of_landed_rows_does_not_matter(run: Run) -> None:
    run.land("depots", parquet(depots()))
    run.land("parcels", parquet(parcels()))
    first = run.done("prepare", "one")
    run.objects.clear()
    backwards = {name: values[::-1] for name, values in parcels().items()}
    run.land("parcels", parquet({name: values[:200] for name, values in backwards.items()}), "x")
    run.land("parcels", parquet({name: values[200:] for name, values in backwards.items()}), "y")
    run.land("depots", parquet(depots()))
    second = run.done("prepare", "two")
    assert read(first.test.uri) == read(second.test.uri)


def test_rows_without_target_are_dropped_and_counted(run: Run) -> None:
    run.model["query"] = run.model["query"].replace(" where p.delivered", "")
    run.land_good()
    result = run.done("prepare")
    assert result.dropped_rows == parcels()["delivered"].count(False)


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (("p.depot, ", ""), "has no column depot"),
        (("(p.delay > 15)::integer as late", "1 as other"), "has no column late"),
        (("from parcels p", "from vans p"), "vans"),
        (("select p.id", "selec p.id"), "syntax error"),
        (("(p.delay > 15)::integer as late", "p.delay as late"), "neither 0 nor 1"),
        (("p.weight,", "'heavy' as weight,"), "heavy"),
    ],
)
def test_a_wrong_query_is_a_mistake_in_the_configuration(run: Run, change: tuple[str, str], expected: str) -> None:
    run.model["query"] = run.model["query"].replace(*change, 1)
    run.land_good()
    failure = run.refused("prepare")
    assert failure.kind == "bad-config"
    assert "query" in failure.message or "target" in failure.message
    assert expected in failure.message


def test_too_few_days_are_refused(run: Run) -> None:
    run.land("depots", parquet(depots()))
    run.land("parcels", parquet(parcels(days=6)))
    assert "split train: no rows" in run.refused("prepare").message


def test_no_example_is_refused(run: Run) -> None:
    run.land("depots", parquet(depots()))
    run.land("parcels", parquet({**parcels(), "delivered": [False] * 600}))
    assert "no example" in run.refused("prepare").message


def test_a_split_of_one_class_is_refused(run: Run) -> None:
    columns = parcels()
    columns["delay"] = [delay and (99.0 if row >= 450 else delay) for row, delay in enumerate(columns["delay"])]
    run.land("depots", parquet(depots()))
    run.land("parcels", parquet(columns))
    assert "split test: all" in run.refused("prepare").message
