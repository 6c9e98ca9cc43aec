from __future__ import annotations

import math
from datetime import datetime
from typing import Any

import pyarrow as pa
import pytest
from helpers import Run, depots, parcels, parquet

from mlplatform.documents.inputs import InputObject
from mlplatform.storage import client


@pytest.fixture
def run(run: Run) -> Run:
    """A run without the check for drift, which needs MLflow; see `test_validate_drift`."""
    run.model["checks"] = {"drift": None}
    return run


def test_good_files_pass_with_their_numbers_of_rows(run: Run) -> None:
    run.land_good()
    result = run.done("validate")
    assert {file.table: file.rows for file in result.files} == {"depots": 3, "parcels": 600}
    assert [file.uri for file in result.files] == [source.uri for source in run.objects]
    assert result.warnings == []


def test_columns_that_are_not_configured_are_only_a_warning(run: Run) -> None:
    run.land("depots", parquet({**depots(), "colour": ["red", "red", "blue"]}))
    run.land("parcels", parquet(parcels()))
    (warning,) = run.done("validate").warnings
    assert "colour" in warning
    assert run.objects[0].uri in warning


def changed(column: str, **rows: Any) -> bytes:
    """Parcels with some values of a column replaced, by row number."""
    columns = parcels()
    for row, value in rows.items():
        columns[column][int(row[1:])] = value
    return parquet(columns)


def without(column: str) -> bytes:
    return parquet({name: values for name, values in parcels().items() if name != column})


TYPES = {
    "id": pa.int64(),
    "sent": pa.timestamp("us"),
    "depot": pa.string(),
    "weight": pa.float64(),
    "express": pa.bool_(),
    "delivered": pa.bool_(),
    "delay": pa.float64(),
}

BAD = {
    "missing column": (without("weight"), ["column weight: missing", "number"]),
    "missing column of a condition": (without("delivered"), ["column delivered: missing", "boolean"]),
    "text for numbers": (
        parquet({**parcels(), "weight": ["heavy"] * 600}),
        ["column weight: is varchar, expected number"],
    ),
    "numbers for text": (parquet({**parcels(), "depot": [1] * 600}), ["column depot: is bigint, expected string"]),
    "fractions for integers": (parquet({**parcels(), "id": [0.5] * 600}), ["column id: is double, expected integer"]),
    "text for times": (parquet({**parcels(), "sent": ["soon"] * 600}), ["column sent: is varchar, expected timestamp"]),
    "NaN target": (changed("delay", r3=math.nan, r4=math.nan), ["column delay: 2 rows without a number", "delivered"]),
    "null target": (parquet({**parcels(), "delay": [None] * 600}, {"delay": pa.float64()}), ["column delay:"]),
    "infinite": (changed("weight", r3=math.inf), ["column weight: 1 row infinite"]),
    "null key": (changed("id", r9=None), ["column id: 1 row null"]),
    "null time": (changed("sent", r9=None), ["column sent: 1 row null"]),
    "too low": (changed("weight", r3=-2.5), ["column weight: 1 row below 0", "-2.5"]),
    "too high": (changed("weight", r3=2000.0, r4=3000.0), ["column weight: 2 rows above 1000", "3000"]),
    "unknown category": (changed("depot", r3="east"), ["column depot: 1 row not one of north", "'east'"]),
    "repeated key": (changed("id", r9=3), ["column id: more than one row", "id=3"]),
    "zero rows": (parquet({name: [] for name in TYPES}, TYPES), ["zero rows, expected 50 or more"]),
    "too few rows": (parquet({name: v[:49] for name, v in parcels().items()}), ["only 49 rows, expected 50"]),
    "truncated": (parquet(parcels())[:-100], ["not a readable Parquet file"]),
    "cut in the middle": (parquet(parcels())[:2000], ["not a readable Parquet file"]),
    "empty file": (b"", ["not a readable Parquet file"]),
    "not Parquet": (b"id,sent\n1,2\n" * 100, ["not a readable Parquet file"]),
}


@pytest.mark.parametrize("case", BAD)
def test_a_bad_file_is_refused_by_name_column_and_remedy(
    run: Run, case: str, capsys: pytest.CaptureFixture[str]
) -> None:
    content, expected = BAD[case]
    run.land("depots", parquet(depots()))
    uri = run.land("parcels", content)
    failure = run.refused("validate")
    assert failure.kind == "bad-input"
    assert failure.subjects == [uri]
    assert all(line.startswith(uri) for line in failure.message.splitlines())
    for part in expected:
        assert part in failure.message
    assert capsys.readouterr().err.rstrip().endswith(failure.message.splitlines()[-1])


def test_damaged_pages_are_found_though_the_footer_is_whole(run: Run) -> None:
    content = bytearray(parquet(parcels()))
    content[40:4000] = bytes(3960)
    run.land("depots", parquet(depots()))
    uri = run.land("parcels", bytes(content))
    failure = run.refused("validate")
    assert failure.subjects == [uri]
    assert "not a readable Parquet file" in failure.message


def test_all_problems_of_all_files_are_reported_at_once(run: Run) -> None:
    first = run.land("depots", parquet({"depot": ["north", "north"], "staff": ["a", "b"]}))
    columns = {**parcels(), "weight": [-1.0] * 600, "depot": ["moon"] * 600}
    second = run.land("parcels", parquet(columns), "bad")
    run.land("parcels", parquet({**parcels(seed=2), "id": list(range(1000, 1600))}), "good")
    failure = run.refused("validate")
    assert failure.subjects == [first, second]
    assert len(failure.message.splitlines()) == 3
    assert "/tmp" not in failure.message


def test_a_key_repeated_across_files_is_the_new_files_fault(run: Run) -> None:
    run.land("depots", parquet(depots()))
    old = run.land("parcels", parquet(parcels()), "old", new=False)
    new = run.land("parcels", parquet(parcels(seed=2)), "new")
    failure = run.refused("validate")
    assert failure.subjects == [new]
    assert old in failure.message


def test_a_table_without_files_is_refused(run: Run) -> None:
    run.land("parcels", parquet(parcels()))
    failure = run.refused("validate")
    assert "table depots: no file has landed" in failure.message


def test_a_table_that_is_not_configured_is_refused(run: Run) -> None:
    run.land_good()
    uri = run.land("vans", parquet(depots()))
    assert run.refused("validate").subjects == [uri]


def test_the_pinned_version_is_read_not_the_latest(run: Run) -> None:
    run.land_good()
    pinned = run.objects[-1]
    client().put_object(Bucket=pinned.bucket, Key=pinned.key, Body=b"overwritten since")
    assert run.done("validate").files[-1].rows == 600


@pytest.mark.parametrize("version", [None, "00000000-0000-0000-0000-000000000000"])
def test_a_file_that_is_gone_is_refused(run: Run, version: str | None) -> None:
    run.land("depots", parquet(depots()))
    gone = InputObject(
        table="parcels", bucket="landing", key="nowhere.parquet", version_id=version, content_id="x", size=1, new=True
    )
    run.objects.append(gone)
    failure = run.refused("validate")
    assert failure.subjects == [gone.uri]
    assert "no longer there" in failure.message


def test_no_input_at_all_is_refused(run: Run) -> None:
    assert "names no file" in run.refused("validate").message


@pytest.mark.parametrize("condition", ["delivered and", "no_such_column > 3"])
def test_a_condition_that_is_not_sql_is_a_mistake_in_the_configuration(run: Run, condition: str) -> None:
    run.model["tables"]["parcels"]["columns"]["delay"]["required_when"] = condition
    run.land_good()
    failure = run.refused("validate")
    assert failure.kind == "bad-config"
    assert "required_when of column delay" in failure.message
    assert failure.subjects == []


def test_missing_numbers_may_be_nan_where_null_is_allowed(run: Run) -> None:
    run.land("depots", parquet(depots()))
    run.land("parcels", changed("weight", r3=math.nan))
    run.done("validate")


def test_times_with_a_zone_are_times(run: Run) -> None:
    run.land("depots", parquet(depots()))
    run.land("parcels", parquet(parcels(), {"sent": pa.timestamp("ms", tz="UTC")}))
    run.done("validate")
    assert run.done("prepare").test.end.date() == datetime(2024, 3, 12).date()
