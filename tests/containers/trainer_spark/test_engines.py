"""Both engines carry out one plan; here they are held against each other on data with everything that differs."""

from __future__ import annotations

import io
import itertools
import math
import re
from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from helpers import Run, depots, parcels, parquet
from pyspark.sql import SparkSession

from mlplatform.config.environment import Preparation
from mlplatform.config.loading import load_model
from mlplatform.documents.profiles import DataProfile
from mlplatform.documents.results import PrepareResult
from mlplatform.storage import read_bytes, read_document
from trainer.preparation import distributed, spark_job
from trainer.preparation.plan import PARTS

ROOT = Path(__file__).parents[3]
HOURS = 24 * 40
CARRIERS = ["UA", "Ünïted ✈", "日本", "", "a'b\"c`d\\e", "B6", None]

TEMPERATURES = [None, math.nan, math.inf, -math.inf, -0.0, 55.04]


def flights(rows: int = 6000) -> dict[str, bytes]:
    """The three tables of `config/models/flights.yaml`: nulls, NaN, infinity, texts of all kinds, nanoseconds."""
    draw = np.random.default_rng(3)
    start = datetime(2024, 2, 20)
    hour = draw.integers(0, HOURS, rows)
    times = [start + timedelta(hours=int(value)) for value in hour]
    minute = draw.integers(0, 60, rows)
    flew = draw.random(rows) > 0.03
    origin = draw.choice(["EWR", "JFK", "LGA"], rows)
    delay = draw.normal(5, 25, rows) + 10 * (origin == "LGA")
    tables = {
        "flights": {
            "year": [time.year for time in times],
            "month": [time.month for time in times],
            "day": [time.day for time in times],
            "sched_dep_time": [time.hour * 100 + int(own) for time, own in zip(times, minute, strict=True)],
            "sched_arr_time": draw.integers(0, 2400, rows).tolist(),
            "arr_delay": [round(float(value), 1) if there else None for value, there in zip(delay, flew, strict=True)],
            "carrier": [CARRIERS[index] for index in draw.integers(0, len(CARRIERS), rows)],
            "flight": draw.integers(1, 9000, rows).tolist(),
            "tailnum": [f"N{number}" if number else None for number in draw.integers(0, 60, rows)],
            "origin": origin.tolist(),
            "dest": draw.choice(["LAX", "SFO", "ORD"], rows).tolist(),
            "air_time": [100.0 if there else None for there in flew],
            "distance": [1e300 if value == 0 else float(value) for value in draw.integers(0, 2000, rows)],
            "time_hour": times,
        },
        "weather": {
            "origin": [name for name in ("EWR", "JFK", "LGA") for _ in range(HOURS)],
            "time_hour": [start + timedelta(hours=value) for _ in range(3) for value in range(HOURS)],
            "temp": [TEMPERATURES[index] for index in draw.integers(0, len(TEMPERATURES), 3 * HOURS)],
            **{
                name: draw.normal(50, 10, 3 * HOURS).tolist()
                for name in ("dewp", "humid", "wind_dir", "wind_speed", "precip", "pressure", "visib")
            },
            "wind_gust": [None] * (3 * HOURS),
        },
        "planes": {
            "tailnum": [f"N{number}" for number in range(1, 50)],
            "year": [None if number % 7 == 0 else 1980 + number % 30 for number in range(1, 50)],
            "manufacturer": ["BOEING", "AIRBUS"] * 24 + [None],
            "seats": list(range(1, 50)),
            "engines": [2] * 49,
        },
    }
    tables["flights"]["distance"] = [value if value < 1e299 else None for value in tables["flights"]["distance"]]
    types = {"wind_gust": pa.float64()}
    return {name: parquet(columns, types) for name, columns in tables.items()}


@pytest.fixture(scope="module")
def session(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SparkSession]:
    """One Spark for all jobs of these tests: most of a small one's time is Spark's start."""
    folder = tmp_path_factory.mktemp("spark")
    builder = SparkSession.builder.master("local[2]").config("spark.ui.enabled", "false")
    builder = builder.config("spark.driver.host", "127.0.0.1").config("spark.local.dir", str(folder))
    builder = builder.config("spark.sql.warehouse.dir", str(folder / "warehouse"))
    spark = builder.config("spark.sql.shuffle.partitions", "2").getOrCreate()
    yield spark
    spark.stop()


@pytest.fixture
def one_spark(session: SparkSession, monkeypatch: pytest.MonkeyPatch) -> None:
    def in_this_session(job: Path, output: Path, scratch: Path) -> None:
        spark_job.run(session, job.as_uri(), output.as_uri())

    monkeypatch.setattr(distributed, "run_locally", in_this_session)
    monkeypatch.setattr(spark_job, "ROWS_PER_FILE", 1000)  # several files a part


@pytest.fixture(scope="module")
def landed() -> dict[str, bytes]:
    return flights()


def land(run: Run, tables: dict[str, bytes]) -> None:
    """The flights in two files of different types, times in nanoseconds in the second."""
    run.land("weather", tables["weather"])
    run.land("planes", tables["planes"])
    both = pq.read_table(io.BytesIO(tables["flights"]))
    second = both.slice(2500)
    index = second.schema.get_field_index("time_hour")
    for name, part in {"a": both.slice(0, 2500), "b": second}.items():
        buffer = io.BytesIO()
        if name == "b":
            part = part.set_column(index, "time_hour", part["time_hour"].cast(pa.timestamp("ns")))
            day = part.schema.get_field_index("day")
            part = part.set_column(day, "day", part["day"].cast(pa.int32()))
        pq.write_table(part, buffer)
        run.land("flights", buffer.getvalue(), name)


def by_engine(run: Run) -> dict[str, PrepareResult]:
    results = {}
    for engine in ("duckdb", "spark"):
        run.preparation = Preparation(engine=engine)  # type: ignore[arg-type]
        results[engine] = run.done("prepare", engine)
        assert results[engine].engine == engine
    return results


def rows(result: PrepareResult, part: str) -> list[str]:
    """All rows of a part, as texts in one order. Texts tell NaN and null, 0.0 and -0.0, integer and float apart."""
    tables = [pq.read_table(io.BytesIO(read_bytes(uri))) for uri in getattr(result, part).uris]
    table = pa.concat_tables(tables)
    return sorted(str(row) for row in table.to_pylist())


def assert_same(results: dict[str, PrepareResult]) -> None:
    one, other = results["duckdb"], results["spark"]
    assert one.dropped_rows == other.dropped_rows
    for part in PARTS:
        first, second = getattr(one, part), getattr(other, part)
        assert rows(one, part) == rows(other, part)
        assert (first.rows, first.class_shares, first.start, first.end) == (
            second.rows,
            second.class_shares,
            second.start,
            second.end,
        )
        if first.target_mean is None:
            assert second.target_mean is None
        else:
            assert first.target_mean == pytest.approx(second.target_mean, rel=1e-12)
    profiles = [read_document(result.profile_uri, DataProfile) for result in (one, other)]
    assert profiles[0].classes == profiles[1].classes
    assert list(profiles[0].columns) == list(profiles[1].columns)
    for name, column in profiles[0].columns.items():
        for key, value in column.model_dump().items():
            theirs = getattr(profiles[1].columns[name], key)
            if key in ("mean", "deviation"):
                assert value == pytest.approx(theirs, rel=1e-9), (name, key)
            else:
                assert value == theirs, (name, key)


SPLITS: dict[str, dict[str, Any]] = {
    "time": {},
    "random": {"split": {"kind": "random", "key": ["scheduled", "flight", "tailnum"], "seed": 5}, "task": "multiclass"},
    "group": {"split": {"kind": "group", "column": "tailnum", "seed": 5}, "task": "regression"},
}


@pytest.mark.usefixtures("one_spark")
@pytest.mark.parametrize("kind", SPLITS)
def test_both_engines_prepare_the_same_flights(run: Run, landed: dict[str, bytes], kind: str) -> None:
    run.model = load_model("flights", ROOT).model_dump(mode="json")
    run.model.update({key: value for key, value in SPLITS[kind].items() if key == "split"})
    task = SPLITS[kind].get("task", "binary")
    if task == "multiclass":
        classes = "case when f.arr_delay > 30 then 'spät' when f.arr_delay > 0 then 'ok' else 'früh' end as late"
        run.model["query"] = run.model["query"].replace("(f.arr_delay > 15)::integer as late", classes)
        run.model.update(task=task, metric="log_loss", slices=[])
    if task == "regression":
        run.model["query"] = run.model["query"].replace("(f.arr_delay > 15)::integer", "f.arr_delay / 3")
        run.model.update(task=task, metric="rmse", slices=[])
    land(run, landed)
    results = by_engine(run)
    if kind != "time":
        assert results["spark"].dropped_rows > 50  # without a tail number
    profile = read_document(results["spark"].profile_uri, DataProfile)
    assert set(CARRIERS) - {None} == set(profile.columns["carrier"].counts)  # type: ignore[union-attr]
    assert profile.columns["wind_gust"].missing == profile.rows
    assert_same(results)


EXPRESSIONS = [
    *("i // 3", "i % 3", "i // zero", "i % zero", "i / zero", "i / 7", "x / 7", "-7 // 2"),
    *("x::integer", "(x * 3)::bigint", "big::bigint", "(x > 0)::integer", "i::varchar", "t::varchar", "d::varchar"),
    *("t::date", "try_cast(s as double)", "abs(x)", "ceil(x)", "floor(x)", "sqrt(abs(x))", "cbrt(x)", "exp(x / 100)"),
    *("ln(abs(x) + 1)", "sign(x)", "x ** 2", "pow(x, 3)", "x % 2", "sin(x)", "cos(x)", "tan(x)", "atan2(x, 2.0)"),
    *("greatest(i, 3)", "least(x, 0.5)", "coalesce(x, -1)", "nullif(i, 3)", "lower(s)", "upper(s)", "length(s)"),
    *("substring(s, 2, 3)", "s || '-' || i::varchar", "concat_ws('-', s, i::varchar)", "starts_with(s, 'a')"),
    *("s like '%b%'", "s ilike '%B%'", "md5(s)", "case when x is null then 'none' else s end", "s in ('abc', 'é')"),
    *("year(t)", "month(t)", "day(t)", "hour(t)", "minute(t)", "quarter(t)", "dayofyear(t)", "extract(week from t)"),
    *("extract(doy from t)", "extract(hour from t)", "dayname(t)", "monthname(t)", "make_date(2024, 2, 28) + 1"),
    *("make_timestamp(2024, 3, 31, 2, 30, 1.5)", "date_trunc('day', t)", "date_trunc('month', t)", "epoch_us(t)"),
    *("date_trunc('week', t)", "t + interval 1 day", "t - interval 90 minute", "t::date - 40", "t between z and t"),
    *("count(*) over (partition by s)", "sum(i) over (order by k rows 2 preceding)", "avg(x) over (partition by i)"),
    *("row_number() over (order by x, k)", "rank() over (order by i)", "dense_rank() over (order by i desc)"),
    *("lag(i) over (order by k)", "lead(i, 2) over (order by k)", "first_value(k) over (partition by s order by x, k)"),
    *("min(i) over (partition by s)", "max(s) over (partition by i)", "stddev_pop(i) over (partition by s)"),
    *("count(*) over (order by t range between interval 3 hours preceding and current row)", "not (x > 0) or i = 1"),
    "(select max(i) from parcels p2 where p2.s = p.s)",
]


@pytest.mark.usefixtures("one_spark")
def test_each_expression_that_is_let_through_means_the_same_in_both(run: Run) -> None:
    """One query with all of them; a column each. A difference names the expression."""
    draw = np.random.default_rng(4)
    count = 400
    texts = ["abc", "é", "ÄÖ日本✈", "", " b ", "12.5", None, "a%b_"]
    columns: dict[str, list[Any]] = {
        "k": list(range(count)),
        "i": [None if value == 9 else int(value) for value in draw.integers(-9, 10, count)],
        "zero": [0] * count,
        "big": [2**53 + 1 + 2 * row for row in range(count)],
        "x": [[None, -2.5, 2.5, 0.5, 1.5, 3.49, 0.0, -0.5, float(v)][v % 9] for v in draw.integers(-40, 40, count)],
        "s": [texts[value] for value in draw.integers(0, len(texts), count)],
        "t": [datetime(2024, 3, 29, 22, 59, 59, 123456) + timedelta(minutes=17 * row) for row in range(count)],
        "z": [datetime(2024, 3, 30)] * count,
        "d": [(datetime(2024, 2, 28) + timedelta(days=row % 5)).date() for row in range(count)],
    }
    names = [f"e{index:03d}" for index in range(len(EXPRESSIONS))]
    select = ", ".join(f"{text} as {name}" for name, text in zip(names, EXPRESSIONS, strict=True))
    run.model.update(
        tables={"parcels": {"trigger": True, "columns": {"k": {"type": "integer"}}}},
        query=f"select k, k % 2 as late, k % 3 as feature, {select} from parcels p",
        features={"feature": {"type": "number"}},
        references=["k"],
        split={"kind": "random", "key": ["k"]},
    )
    run.land("parcels", parquet(columns))
    results = by_engine(run)
    tables = {}
    for engine, result in results.items():
        uris = list(itertools.chain.from_iterable(getattr(result, part).uris for part in PARTS))
        read = [pq.read_table(io.BytesIO(read_bytes(uri))) for uri in uris]
        tables[engine] = pa.concat_tables(read).sort_by("k")
    different = {}
    for name, text in zip(names, EXPRESSIONS, strict=True):
        one, other = (tables[engine][name].to_pylist() for engine in ("duckdb", "spark"))
        pairs = [(a, b) for a, b in zip(one, other, strict=True) if not same(a, b)]
        if pairs:
            different[text] = pairs[:3]
    assert different == {}


def same(one: Any, other: Any) -> bool:
    if isinstance(one, float) and isinstance(other, float):
        return one == pytest.approx(other, rel=1e-12, nan_ok=True)
    return type(one) is type(other) and one == other


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (("p.weight,", "isodow(p.sent) as weight,"), "isodow|day_?of_?week"),
        (("p.weight,", "round(p.weight, 1) as weight,"), "function round"),
        (("p.weight,", "random() as weight,"), "is not known to mean the same"),
        ((" where p.delivered", " where p.delivered limit 400"), "limit"),
        (("p.weight,", "p.weight // 2.5 as weight,"), "// by a fraction"),
        (("select p.id", "select distinct on (p.id) p.id"), "distinct on"),
        (("p.weight,", "p.weight / isodow(p.sent) as weight,"), "isodow|day_?of_?week"),
    ],
)
def test_what_may_mean_something_else_in_spark_is_refused_before_it_starts(
    run: Run, monkeypatch: pytest.MonkeyPatch, change: tuple[str, str], expected: str
) -> None:
    monkeypatch.setattr(distributed, "run_locally", lambda *arguments: pytest.fail("Spark was started"))
    assert change[0] in run.model["query"]
    run.model["query"] = run.model["query"].replace(*change, 1)
    run.preparation = Preparation(engine="spark")
    run.land_good()
    failure = run.refused("prepare")
    assert failure.kind == "bad-config"
    assert "config/models/parcels.yaml: query" in failure.message
    assert re.search(expected, failure.message), failure.message


@pytest.mark.usefixtures("one_spark")
def test_what_spark_finds_wrong_with_the_values_is_refused(run: Run) -> None:
    run.model["query"] = run.model["query"].replace("p.weight,", "p.depot as weight,")
    run.preparation = Preparation(engine="spark")
    run.land("depots", parquet(depots()))
    run.land("parcels", parquet(parcels()))
    failure = run.refused("prepare")
    assert failure.kind == "bad-config"
    assert "CAST_INVALID_INPUT" in failure.message


def test_spark_as_a_process_of_its_own(run: Run) -> None:
    """As the step starts it where only PySpark is there."""
    run.preparation = Preparation(engine="spark")
    run.land_good()
    assert run.done("prepare").train.rows > 0


def test_a_job_that_dies_may_be_tried_again(run: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    script = tmp_path / "spark_job.py"
    script.write_text("raise SystemExit('the executor was lost')")
    monkeypatch.setattr(distributed, "SCRIPT", script)
    run.preparation = Preparation(engine="spark")
    run.land_good()
    with pytest.raises(distributed.emr.JobFailed, match="the executor was lost"):
        run.step("prepare")
