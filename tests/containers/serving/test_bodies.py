"""Every shape and type of body means the same, and nothing that is sent makes an error of the server's own."""

from __future__ import annotations

import io
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from helpers import FEATURES, ROW, as_instances, some_columns
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from starlette.testclient import TestClient

from modelformat import InputError, Predictor
from modelformat.one_row import OneRow
from serving import payloads
from serving.app import create_app
from serving.model import load
from serving.predict import FEW_ROWS
from serving.settings import Settings

NAMES = [feature.name for feature in FEATURES]
quick = settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@pytest.fixture(scope="module")
def client(xgboost_model: Path) -> TestClient:
    chosen = Settings(model_directory=xgboost_model, max_body_bytes=1_000_000, max_decoded_bytes=1_000_000)
    return TestClient(create_app(load(chosen), chosen))


def post(client: TestClient, body: Any, kind: str = payloads.JSON) -> Any:
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    return client.post("/invocations", content=content, headers={"content-type": kind})


def parquet(table: pa.Table, **options: Any) -> bytes:
    target = io.BytesIO()
    pq.write_table(table, target, **options)
    return target.getvalue()


def arrow(table: pa.Table, compression: str | None = None) -> bytes:
    target = io.BytesIO()
    with pa.ipc.new_stream(target, table.schema, options=pa.ipc.IpcWriteOptions(compression=compression)) as stream:
        stream.write_table(table, max_chunksize=300)
    return target.getvalue()


def as_table(columns: dict[str, Any]) -> pa.Table:
    return pa.table({name: pa.array(values, from_pandas=True) for name, values in columns.items()})


@pytest.mark.parametrize("rows", [1, 3, 1000])
def test_all_shapes_agree(rows: int, client: TestClient, xgboost_model: Path) -> None:
    columns = some_columns(rows)
    expected = Predictor.load(xgboost_model).predict(columns).tolist()
    instances = as_instances(columns)
    by_name = {name: [row[name] for row in instances] for name in reversed(NAMES)}
    split = {"columns": NAMES, "data": [[row[name] for name in NAMES] for row in instances]}
    table = as_table(columns)
    coded = table.set_column(1, "carrier", table.column("carrier").dictionary_encode())
    lines = "".join(json.dumps(row) + "\n" for row in instances).encode()
    bodies = [
        ({"instances": instances}, payloads.JSON),
        (split, payloads.JSON),
        ({"dataframe_split": split | {"index": list(range(rows))}}, payloads.JSON),
        ({"dataframe_records": instances}, payloads.JSON),
        ({"inputs": by_name}, payloads.JSON),
        ({"inputs": instances}, payloads.JSON),
        (lines, payloads.JSON_LINES),
        (b"\n" + lines, "application/x-ndjson; charset=utf-8"),
        (parquet(table), payloads.PARQUET),
        (parquet(table, row_group_size=100), "application/x-parquet"),
        (arrow(table), payloads.ARROW),
        (arrow(coded.select(list(reversed(NAMES)))), payloads.ARROW),
    ]
    for body, kind in bodies:
        answer = post(client, body, kind)
        assert answer.status_code == 200, answer.text
        assert answer.json()["predictions"] == expected


def test_numbers_of_other_widths_and_columns_of_nothing(client: TestClient) -> None:
    table = pa.table({"distance": pa.array([800], pa.int16()), "carrier": ["UA"], "wind": pa.nulls(1)})
    expected = post(client, {"instances": [ROW | {"wind": None}]}).json()["predictions"]
    assert post(client, parquet(table), payloads.PARQUET).json()["predictions"] == expected
    assert post(client, arrow(table), payloads.ARROW).json()["predictions"] == expected


@pytest.mark.parametrize(
    ("table", "message"),
    [
        (pa.table({"distance": [1.0], "carrier": ["UA"]}), "column 'wind': missing"),
        (pa.table({**{k: [v] for k, v in ROW.items()}, "x": [1]}), "column 'x': not a feature"),
        (pa.table({"distance": ["far"], "carrier": ["UA"], "wind": [1.0]}), "column 'distance': expected numbers"),
        (pa.table({"distance": [1.0], "carrier": [5], "wind": [1.0]}), "column 'carrier': expected text, got int64"),
        (pa.table({"distance": [1.0, math.inf], "carrier": ["UA"] * 2, "wind": [1.0] * 2}), "row 1, column 'distance'"),
        (pa.table({k: [v] for k, v in ROW.items()}).slice(0, 0), "at least one row"),
    ],
)
def test_bad_tables_are_named(table: pa.Table, message: str, client: TestClient) -> None:
    for body, kind in ((parquet(table), payloads.PARQUET), (arrow(table), payloads.ARROW)):
        answer = post(client, body, kind)
        assert answer.status_code == 400, answer.text
        assert message in answer.json()["error"]["message"]


@pytest.mark.parametrize("kind", [payloads.PARQUET, payloads.ARROW])
def test_a_small_body_that_stands_for_a_large_table_is_refused(kind: str, client: TestClient) -> None:
    rows = 300_000
    table = pa.table({"distance": np.zeros(rows), "carrier": ["UA"] * rows, "wind": np.zeros(rows)})
    # Columns of nothing take no bytes, whatever their length.
    body = parquet(table, compression="zstd") if kind == payloads.PARQUET else _one_batch_of_nothing()
    assert len(body) < 100_000
    answer = post(client, body, kind)
    assert answer.status_code == 413, answer.text
    assert "decoded" in answer.json()["error"]["message"]


def _one_batch_of_nothing() -> bytes:
    target = io.BytesIO()
    batch = pa.record_batch([pa.nulls(1 << 22)] * len(NAMES), names=NAMES)
    with pa.ipc.new_stream(target, batch.schema) as stream:
        stream.write_batch(batch)
    return target.getvalue()


def test_a_long_text_in_every_row_is_there_once(client: TestClient) -> None:
    rows = 20_000
    table = pa.table({"distance": np.zeros(rows), "carrier": ["x" * 20_000] * rows, "wind": np.zeros(rows)})
    body = parquet(table, compression="zstd")
    assert len(body) < 100_000
    assert len(post(client, body, payloads.PARQUET).json()["predictions"]) == rows


def test_a_compressed_stream_is_refused(client: TestClient) -> None:
    answer = post(client, arrow(as_table(some_columns(1000)), "zstd"), payloads.ARROW)
    assert answer.status_code == 400
    assert "compressed" in answer.json()["error"]["message"]


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ({"inputs": {"distance": [1], "carrier": ["UA"]}}, "column 'wind': missing"),
        ({"inputs": {"distance": 1, "carrier": ["UA"], "wind": [1]}}, "column 'distance': expected a list of values"),
        ({"inputs": {"distance": [1, 2], "carrier": ["UA"], "wind": [1]}}, "column 'carrier': 1 values where"),
        ({"inputs": {"distance": [], "carrier": [], "wind": []}}, "at least one row"),
        ({"inputs": 5}, "inputs: expected"),
        ({"dataframe_records": []}, "dataframe_records: expected a list with at least one row"),
        ({"dataframe_split": [1]}, "expected {"),
        ({"dataframe_split": {"columns": NAMES}}, "expected {"),
        ({"instances": [ROW], "params": {}}, "expected {"),
    ],
)
def test_bad_shapes_are_named(body: Any, message: str, client: TestClient) -> None:
    answer = post(client, body)
    assert answer.status_code == 400, answer.text
    assert message in answer.json()["error"]["message"]


def test_a_bad_line_is_named(client: TestClient) -> None:
    answer = post(client, json.dumps(ROW).encode() + b"\n{\n", payloads.JSON_LINES)
    assert (answer.status_code, answer.json()["error"]["message"]) == (400, "row 1: not valid JSON at character 1")
    assert post(client, b"\n\n", payloads.JSON_LINES).status_code == 400


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from([*NAMES, "data", "x"]), inner),
    max_leaves=8,
)
values = (
    st.none() | st.floats(width=64) | st.integers(-(10**40), 10**40) | st.text(max_size=4) | st.booleans() | json_values
)
rows = st.lists(st.fixed_dictionaries(dict.fromkeys(NAMES, values)) | json_values, max_size=6)
shapes = st.sampled_from(["instances", "dataframe_records", "inputs", "dataframe_split", "columns"])


@quick
@given(body=st.builds(lambda shape, content: {shape: content}, shapes, rows | json_values) | json_values)
def test_no_json_gives_an_error_of_the_server(client: TestClient, body: Any) -> None:
    answer = post(client, body)
    assert answer.status_code in (200, 400), answer.text


@quick
@given(
    body=st.binary(max_size=200),
    kind=st.sampled_from([payloads.JSON, payloads.JSON_LINES, payloads.CSV, payloads.PARQUET, payloads.ARROW]),
)
def test_no_bytes_give_an_error_of_the_server(client: TestClient, body: bytes, kind: str) -> None:
    assert post(client, body, kind).status_code == 400


@quick
@given(data=st.data(), kind=st.sampled_from([payloads.PARQUET, payloads.ARROW]))
def test_no_damaged_table_gives_an_error_of_the_server(client: TestClient, data: st.DataObject, kind: str) -> None:
    table = as_table(some_columns(20))
    body = bytearray(parquet(table) if kind == payloads.PARQUET else arrow(table))
    for _ in range(data.draw(st.integers(1, 4))):
        body[data.draw(st.integers(0, len(body) - 1))] = data.draw(st.integers(0, 255))
    body = body[: data.draw(st.integers(1, len(body)))] if data.draw(st.booleans()) else body
    assert post(client, bytes(body), kind).status_code in (200, 400, 413)


lines = st.text(alphabet=st.sampled_from('0123456789.-,+e \n\r"naNifAU_\x0b\u2028'), max_size=40)


@quick
@given(line=lines)
def test_the_fast_path_reads_csv_as_the_slow_one(client: TestClient, line: str) -> None:
    body = f"wind,carrier,distance\n{line}".encode()
    given = post(client, body, payloads.CSV)
    # Quotes around a name lead to the slow path, and change nothing.
    expected = post(client, b'"wind"' + body[4:], payloads.CSV)
    assert (given.status_code, given.content) == (expected.status_code, expected.content)


@quick
@given(names=st.permutations(NAMES) | st.lists(st.sampled_from([*NAMES, "other", 1, []]), max_size=4), data=st.data())
def test_the_fast_path_reads_a_table_as_the_slow_one(client: TestClient, names: list[Any], data: st.DataObject) -> None:
    size = data.draw(st.sampled_from([len(names), len(names), 2]))
    row = [data.draw(st.sampled_from([None, 5, 1.5, "AA", "other", True, [1]])) for _ in range(size)]
    given, expected = (
        post(client, {"dataframe_split": {"columns": names, "data": [row] * rows}}) for rows in (1, FEW_ROWS + 1)
    )
    assert given.status_code == expected.status_code
    if given.status_code == 200:
        assert given.json()["predictions"] * (FEW_ROWS + 1) == expected.json()["predictions"]
    else:
        assert given.content == expected.content


@pytest.mark.parametrize("rows", [1, FEW_ROWS])
def test_a_small_table_takes_the_fast_path(xgboost_model: Path, rows: int, monkeypatch: pytest.MonkeyPatch) -> None:
    options = Settings(model_directory=xgboost_model)
    client = TestClient(create_app(load(options), options))
    monkeypatch.setattr(payloads, "from_json", None)  # the slow path's
    values = {name: ROW[name] for name in reversed(NAMES)}
    body = {"dataframe_split": {"columns": [*values], "data": [[*values.values()]] * rows, "index": [*range(rows)]}}
    assert post(client, body).json()["predictions"] == post(client, {"instances": [ROW] * rows}).json()["predictions"]


@pytest.fixture(scope="module")
def predictors(saved_models: dict[tuple[str, str], Path], sklearn_model: Path) -> list[tuple[Predictor, OneRow]]:
    made = [Predictor.load(path, threads=1) for path in (*saved_models.values(), sklearn_model)]
    found = [(predictor, predictor.one_row()) for predictor in made]
    assert [p.manifest.engine for p, o in found if o is None] == [], "an engine lost its fast path"
    return [(predictor, one_row) for predictor, one_row in found if one_row is not None]


numbers = st.none() | st.floats(width=64) | st.integers(-(10**12), 10**12) | st.booleans()


@quick
@given(row=st.tuples(numbers, st.none() | st.sampled_from(["AA", "UA", "Ünïted ✈", "other", ""]), numbers))
def test_the_fast_path_predicts_as_the_slow_one(
    predictors: list[tuple[Predictor, OneRow]], row: tuple[Any, ...]
) -> None:
    for predictor, one_row in predictors:
        columns = {name: [value] for name, value in zip(NAMES, row, strict=True)}
        try:
            expected = predictor.predict(columns)[0]
        except InputError:
            assert one_row.predict(row) is None
            continue
        assert one_row.predict(row) == np.atleast_1d(expected).tolist()


@pytest.mark.parametrize("value", ["5", [1], {}, 1e42, math.inf, 10**400])
def test_one_row_leaves_what_is_wrong_to_the_others(predictors: list[tuple[Predictor, OneRow]], value: Any) -> None:
    for _, one_row in predictors:
        assert one_row.predict((value, "AA", 1.0)) is None
        if not isinstance(value, str):
            assert one_row.predict((1.0, value, 1.0)) is None
