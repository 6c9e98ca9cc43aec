"""Each expectation of step validate: where it holds, where it does not, as a failure and as a warning."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from helpers import Columns, Run, depots, parcels, parquet
from pydantic import ValidationError

from mlplatform.config.dataset import Column, Table
from mlplatform.storage import read_bytes, read_document
from trainer.validation.document import Finding, ValidationDocument


@pytest.fixture
def run(run: Run) -> Run:
    """A run without the check for drift, which needs MLflow; see `test_validate_drift`."""
    run.model["checks"] = {"drift": None}
    return run


def table(run: Run) -> dict[str, Any]:
    found: dict[str, Any] = run.model["tables"]["parcels"]
    return found


def land(run: Run, columns: Columns | None = None, **changes: list[Any]) -> str:
    """Land the depots and parcels with some columns replaced; return the parcels' address."""
    run.land("depots", parquet(depots()))
    return run.land("parcels", parquet({**(columns or parcels()), **changes}))


def findings(run: Run) -> list[Finding]:
    return document(run).findings


def document(run: Run) -> ValidationDocument:
    return read_document(f"{run.prefix}/validate/validate.json", ValidationDocument)


def weights(share_missing: float) -> list[float | None]:
    return [None if row < share_missing * 600 else 1.0 for row in range(600)]


# Name: what to configure of table parcels, columns that hold it, columns that do not, how a message tells it.
Case = tuple[dict[str, Any], Columns, Columns, str, str]
CASES: dict[str, Case] = {
    "nulls": ({}, {}, {"express": [None, None, *[True] * 598]}, "nulls", "column express: 2 rows null"),
    "share of nulls": (
        {"weight": {"maximum_null_share": 0.25}},
        {"weight": weights(0.25)},
        {"weight": weights(0.255)},
        "nulls",
        "column weight: 153 rows (25.5%) without a number, more than 25.0%",
    ),
    "minimum": ({}, {"weight": [0.0] * 600}, {"weight": [-0.5] + [1.0] * 599}, "range", "1 row below 0"),
    "maximum": ({}, {"weight": [1000.0] * 600}, {"weight": [1e3 + 1e-9] * 600}, "range", "600 rows above 1000"),
    "categories": ({}, {}, {"depot": ["north"] * 599 + ["North"]}, "categories", "1 row not one of north, south"),
    "pattern": (
        {"depot": {"pattern": "[a-z]{4,5}", "allowed": None}},
        {"depot": ["north"] * 599 + ["west"]},
        {"depot": ["north"] * 598 + ["norths", "a north"]},
        "pattern",
        "2 rows not as pattern [a-z]{4,5} (such as 'a north')",
    ),
    "finite": ({}, {}, {"weight": [float("-inf")] + [1.0] * 599}, "finite", "1 row infinite"),
    "condition": (
        {},
        {},
        {"delay": [None] * 10 + [1.0, 99.0] * 295, "delivered": [True] * 600},
        "nulls",
        "where delivered",
    ),
}


def configure(run: Run, changes: dict[str, Any], severity: str) -> None:
    for column, change in changes.items():
        table(run)["columns"][column].update(change)
    for column in table(run)["columns"].values():
        column["severity"] = severity


@pytest.mark.parametrize("case", CASES)
def test_a_value_that_is_as_expected_passes(run: Run, case: str) -> None:
    changes, good, _, _, _ = CASES[case]
    configure(run, changes, "fail")
    land(run, **good)
    assert run.done("validate").warnings == []


@pytest.mark.parametrize("case", CASES)
def test_a_value_that_is_not_fails_the_run(run: Run, case: str) -> None:
    changes, _, bad, expectation, message = CASES[case]
    configure(run, changes, "fail")
    uri = land(run, **bad)
    failure = run.refused("validate")
    assert failure.subjects == [uri]
    assert message in failure.message
    assert [finding.expectation for finding in findings(run)] == [expectation]


@pytest.mark.parametrize("case", CASES)
def test_a_value_that_is_not_is_a_warning_where_the_configuration_says_so(run: Run, case: str) -> None:
    changes, _, bad, _, message = CASES[case]
    configure(run, changes, "warn")
    uri = land(run, **bad)
    warnings = run.done("validate").warnings
    assert any(message in warning and warning.startswith(uri) for warning in warnings)
    assert document(run).passed


def test_warnings_and_failures_of_all_files_are_told_together(run: Run) -> None:
    table(run)["columns"]["weight"]["severity"] = "warn"
    first = run.land("depots", parquet({"depot": ["north", None], "staff": [1, 2]}))
    second = run.land("parcels", parquet({**parcels(), "weight": [-1.0] * 600}), "light")
    third = run.land("parcels", parquet({**parcels(), "id": list(range(1000, 1600)), "depot": ["moon"] * 600}), "moon")
    failure = run.refused("validate")
    assert failure.subjects == [first, third]
    assert len(failure.message.splitlines()) == 2
    assert [(finding.severity, finding.uris) for finding in findings(run)] == [
        ("fail", [first]),
        ("warn", [second]),
        ("fail", [third]),
    ]


def test_structure_always_fails(run: Run) -> None:
    configure(run, {}, "warn")
    table(run)["severity"] = "warn"
    land(run, weight=["heavy"] * 600)
    assert "expected number" in run.refused("validate").message


def test_examples_tell_the_row_and_its_key(run: Run) -> None:
    weight = [1.0] * 600
    weight[7] = weight[8] = weight[595] = -3.0
    land(run, weight=weight, id=list(range(100, 700)))
    run.refused("validate")
    (finding,) = findings(run)
    assert finding.rows == 3
    assert finding.example_columns == ["row", "id", "weight"]
    assert finding.example_rows == [["8", "107", "-3.0"], ["9", "108", "-3.0"], ["596", "695", "-3.0"]]


def test_of_many_examples_the_first_are_shown(run: Run) -> None:
    land(run, weight=[-1.0] * 600)
    run.refused("validate")
    (finding,) = findings(run)
    assert finding.rows == 600
    assert [row[0] for row in finding.example_rows] == ["1", "2", "3", "4", "5"]


@pytest.mark.parametrize("severity", ["warn", "fail"])
@pytest.mark.parametrize(
    ("bounds", "message"),
    [
        ({"minimum_rows": 601}, "only 600 rows, expected 601"),
        ({"maximum_rows": 599}, "600 rows, expected 599 or fewer"),
    ],
)
def test_the_number_of_rows(run: Run, bounds: dict[str, int], message: str, severity: str) -> None:
    table(run).update(bounds, severity=severity)
    land(run)
    if severity == "warn":
        assert message in run.done("validate").warnings[0]
    else:
        assert message in run.refused("validate").message


def test_as_many_rows_as_allowed_are_allowed(run: Run) -> None:
    table(run).update(minimum_rows=600, maximum_rows=600)
    land(run)
    assert run.done("validate").warnings == []


@pytest.mark.parametrize("severity", ["warn", "fail"])
def test_a_repeated_key(run: Run, severity: str) -> None:
    table(run)["severity"] = severity
    uri = land(run, id=[0, 0, 0, 7, 7, *range(5, 600)])
    if severity == "warn":
        (message,) = run.done("validate").warnings
    else:
        failure = run.refused("validate")
        assert failure.subjects == [uri]
        message = failure.message
    assert "more than one row of table parcels has id=0, and 1 other values" in message
    (finding,) = findings(run)
    assert finding.rows == 6  # 7 is there once more further down
    assert finding.example_rows == [["0"], ["7"]]


def test_all_new_files_with_a_repeated_key_are_blamed_and_accepted_ones_are_not(run: Run) -> None:
    run.land("depots", parquet(depots()))
    run.land("parcels", parquet(parcels()), "old", new=False)
    many = [
        run.land("parcels", parquet({**parcels(), "id": list(range(start, start + 600))}), f"new{start}")
        for start in (599, 1198, 5000)
    ]
    assert run.refused("validate").subjects == many[:2]


def test_nulls_of_a_key_do_not_collide(run: Run) -> None:
    table(run)["columns"]["id"]["nullable"] = True
    land(run, id=[None, None, *range(598)])
    assert run.done("validate").warnings == []


def sent(newest: timedelta, zone: Any = None) -> dict[str, Any]:
    """Times up to so long ago."""
    last = datetime.now(zone or UTC) - newest
    times = [last - timedelta(minutes=minute) for minute in range(600)]
    return {"sent": times if zone else [time.replace(tzinfo=None) for time in times]}


@pytest.mark.parametrize("severity", ["warn", "fail"])
@pytest.mark.parametrize("zone", [None, UTC])
def test_freshness(run: Run, severity: str, zone: Any) -> None:
    table(run)["freshness"] = {"column": "sent", "maximum_age_hours": 2, "severity": severity}
    uri = land(run, **sent(timedelta(hours=2, minutes=30), zone))
    if severity == "warn":
        (message,) = run.done("validate").warnings
    else:
        failure = run.refused("validate")
        assert failure.subjects == [uri]
        message = failure.message
    assert "2.5 h old, expected 2 h or less" in message
    assert uri in message


def test_a_fresh_table_passes_though_it_has_old_files_too(run: Run) -> None:
    table(run)["freshness"] = {"column": "sent", "maximum_age_hours": 2}
    run.land("parcels", parquet({**parcels(), **sent(timedelta(days=300))}), "old", new=False)
    land(run, id=list(range(1000, 1600)), **sent(timedelta(minutes=90)))
    assert run.done("validate").warnings == []


def test_an_accepted_file_is_not_blamed_for_its_age(run: Run) -> None:
    table(run)["freshness"] = {"column": "sent", "maximum_age_hours": 2}
    run.land("depots", parquet(depots()))
    run.land("parcels", parquet({**parcels(), **sent(timedelta(days=3))}), new=False)
    failure = run.refused("validate")
    assert failure.subjects == []
    assert failure.message.startswith("table parcels: column sent: the newest row is of")


def test_a_table_without_any_time_is_not_fresh(run: Run) -> None:
    table(run)["freshness"] = {"column": "sent", "maximum_age_hours": 2}
    table(run)["columns"]["sent"]["nullable"] = True
    run.land("depots", parquet(depots()))
    run.land("parcels", parquet({**parcels(), "sent": [None] * 600}, {"sent": pa.timestamp("us")}))
    assert "has no time" in run.refused("validate").message


def late(share: float) -> list[float]:
    return [99.0 if row < share * 600 else 0.0 for row in range(600)]


@pytest.mark.parametrize("severity", ["warn", "fail"])
def test_label_balance(run: Run, severity: str) -> None:
    run.model["checks"]["label_balance"] = {"minimum_share": 0.1, "severity": severity}
    uri = land(run, delivered=[True] * 600, delay=late(0.09))
    if severity == "warn":
        (message,) = run.done("validate").warnings
    else:
        failure = run.refused("validate")
        assert failure.subjects == [uri]
        message = failure.message
    assert "class 1 has 54 of 600 examples (9.00%), less than 10.00%" in message


def test_classes_that_are_balanced_enough(run: Run) -> None:
    run.model["checks"]["label_balance"] = {"minimum_share": 0.1}
    land(run, delivered=[True] * 600, delay=late(0.1))
    assert run.done("validate").warnings == []
    found = document(run).balance
    assert [(one.name, one.rows) for one in found.classes] == [("1", 60), ("0", 540)]


def test_one_class_only_is_out_of_balance(run: Run) -> None:
    land(run, delivered=[True] * 600, delay=late(0))
    assert "all 600 examples are of class 0" in run.done("validate").warnings[0]


def test_no_example_at_all_is_out_of_balance(run: Run) -> None:
    land(run, delivered=[False] * 600)
    assert "makes no example" in run.done("validate").warnings[0]


def test_several_classes_are_counted_one_by_one(run: Run) -> None:
    run.use_task("multiclass")
    run.model["checks"]["label_balance"] = {"minimum_share": 0.2}
    land(run, delivered=[True] * 600, delay=[[0.0, 15.0, 99.0][min(row // 250, 2)] for row in range(600)])
    (warning,) = run.done("validate").warnings
    assert "class very late has 100 of 600" in warning
    assert document(run).balance.number_of_classes == 3


def test_a_regression_has_no_balance(run: Run) -> None:
    run.use_task("regression")
    land(run, delay=[0.0] * 600)
    assert run.done("validate").warnings == []
    assert document(run).balance.note == "a regression has no classes"


@pytest.mark.parametrize("query", ["select nonsense from parcels", "selec", "select 1 as late from vans"])
def test_a_query_that_does_not_run_is_said_and_left_to_prepare(run: Run, query: str) -> None:
    run.model["query"] = query
    land(run)
    (warning,) = run.done("validate").warnings
    assert "label balance is not measured: the query does not run" in warning


def test_balance_can_be_switched_off(run: Run) -> None:
    run.model["checks"]["label_balance"] = None
    land(run, delivered=[False] * 600)
    assert run.done("validate").warnings == []


def test_a_pattern_that_is_none_is_a_mistake_in_the_configuration(run: Run) -> None:
    table(run)["columns"]["depot"]["pattern"] = "(north"
    land(run)
    failure = run.refused("validate")
    assert failure.kind == "bad-config"
    assert "pattern of column depot" in failure.message


WRONG: list[tuple[type[Column | Table], dict[str, Any], str]] = [
    (Column, {"type": "string", "maximum_null_share": 0.1}, "nullable: true"),
    (Column, {"type": "integer", "pattern": "[0-9]+"}, "not for type|pattern is for texts"),
    (Table, {"columns": {"a": {"type": "string"}}, "unique_key": ["b"]}, "'b' is not one of"),
    (Table, {"columns": {"a": {"type": "string"}}, "minimum_rows": 9, "maximum_rows": 8}, "below minimum_rows"),
    (
        Table,
        {"columns": {"a": {"type": "string"}}, "freshness": {"column": "a", "maximum_age_hours": 1}},
        "not a timestamp column",
    ),
]


@pytest.mark.parametrize(("schema", "content", "message"), WRONG)
def test_a_configuration_that_makes_no_sense_is_refused(
    schema: type[Column | Table], content: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValidationError, match=message):
        schema.model_validate(content)


def test_a_profile_is_written_of_each_table(run: Run) -> None:
    from trainer.validation.drift import PROFILES

    columns = parcels()
    land(run, columns)
    result = run.done("validate")
    found = PROFILES.validate_json(read_bytes(result.profile_uri))
    assert list(found) == ["parcels", "depots"]
    profile = found["parcels"]
    assert profile.rows == 600
    weight = profile.columns["weight"]
    assert weight.kind == "number"
    there = np.array([value for value in columns["weight"] if value is not None])
    assert weight.missing == 600 - len(there)
    assert (weight.minimum, weight.maximum) == (there.min(), there.max())
    assert weight.mean == pytest.approx(there.mean())
    assert weight.deviation == pytest.approx(there.std())
    assert weight.histogram == np.histogram(there, bins=20, range=(there.min(), there.max()))[0].tolist()
    depot = profile.columns["depot"]
    assert depot.kind == "category"
    assert depot.counts == {name: columns["depot"].count(name) for name in ("north", "south", "west")}
    assert profile.columns["express"].kind == "category"
    sent_at = profile.columns["sent"]
    assert sent_at.kind == "number"
    assert sent_at.minimum == datetime(2024, 3, 1, tzinfo=UTC).timestamp()


def test_a_profile_of_very_many_values_lists_the_most_frequent_ones(run: Run) -> None:
    from trainer.validation.drift import PROFILES

    run.model["tables"]["parcels"]["columns"]["depot"].pop("allowed")
    names = [f"rare {row}" for row in range(400)] + ["often"] * 150 + ["less often"] * 50
    land(run, depot=names)
    found = PROFILES.validate_json(read_bytes(run.done("validate").profile_uri))["parcels"].columns["depot"]
    assert found.kind == "category"
    assert len(found.counts) <= 200
    assert (found.counts["often"], found.counts["less often"]) == (150, 50)
    assert document(run).tables["parcels"].columns["depot"].distinct > 350


@pytest.mark.parametrize(
    "weight",
    [[None] * 600, [5.0] * 600, [float("nan")] * 600, [0.0, 1e300] * 300, [0.0, 5e-324] * 300, [-1e-9, 1e9] * 300],
    ids=["none", "constant", "NaN", "huge", "tiny", "wide"],
)
def test_extreme_columns_have_a_profile(run: Run, weight: list[float | None]) -> None:
    table(run)["columns"]["weight"] = {"type": "number", "nullable": True}
    run.land("depots", parquet(depots()))
    run.land("parcels", parquet({**parcels(), "weight": weight}, {"weight": pa.float64()}))
    run.done("validate")
    from trainer.validation.drift import PROFILES

    profiles = PROFILES.validate_json(read_bytes(f"{run.prefix}/validate/profile.json"))
    found = profiles["parcels"].columns["weight"]
    assert found.kind == "number"
    assert sum(found.histogram) == 600 - found.missing
