"""The application: SageMaker's contract, every answer and every refusal."""

from __future__ import annotations

import json
import threading
from pathlib import Path
from typing import Any

import pytest
from helpers import ROW, as_instances, some_columns
from starlette.testclient import TestClient

from modelformat import Predictor
from serving import payloads
from serving.app import create_app
from serving.model import load
from serving.settings import Settings, SettingsError

CSV = {"content-type": "text/csv"}
JSON = {"content-type": "application/json"}


@pytest.fixture(scope="module")
def client(xgboost_model: Path) -> TestClient:
    settings = Settings(model_directory=xgboost_model, model_version="7", max_body_bytes=1_000_000)
    return TestClient(create_app(load(settings), settings))


@pytest.fixture(scope="module")
def predictor(xgboost_model: Path) -> Predictor:
    return Predictor.load(xgboost_model)


def post(client: TestClient, body: Any, headers: dict[str, str] = JSON) -> Any:
    content = body if isinstance(body, str | bytes) else json.dumps(body)
    return client.post("/invocations", content=content, headers=headers)


def error(response: Any, status: int, code: str) -> str:
    assert response.status_code == status, response.text
    assert response.headers["content-type"] == "application/json"
    content = response.json()
    assert content.keys() == {"error"}
    assert content["error"]["code"] == code
    message: str = content["error"]["message"]
    assert "Traceback" not in message
    return message


def test_ping(client: TestClient) -> None:
    assert client.get("/ping").status_code == 200


def test_json_instances(client: TestClient, predictor: Predictor) -> None:
    answer = post(client, {"instances": [ROW]})
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "application/json"
    expected = predictor.predict({name: [value] for name, value in ROW.items()}).tolist()
    assert answer.json() == {"predictions": expected, "model": {"version": "7", "digest": predictor.digest}}


def test_all_shapes_and_sizes_agree(client: TestClient, predictor: Predictor) -> None:
    columns = some_columns(3000, seed=3)
    expected = predictor.predict(columns).tolist()
    instances = as_instances(columns)
    names = list(reversed(columns))
    data = [[row[name] for name in names] for row in instances]
    text = "\n".join([",".join(names), *(",".join("" if v is None else str(v) for v in row) for row in data)])
    assert post(client, {"instances": instances}).json()["predictions"] == expected
    assert post(client, {"columns": names, "data": data}).json()["predictions"] == expected
    assert post(client, {"columns": names, "data": data, "index": [5] * 3000}).json()["predictions"] == expected
    assert post(client, text, CSV).json()["predictions"] == expected
    singles = [post(client, {"instances": [row]}).json()["predictions"][0] for row in instances[:50]]
    assert singles == expected[:50]


def test_missing_values_in_every_form(client: TestClient, predictor: Predictor) -> None:
    expected = predictor.predict({"distance": [None], "carrier": [None], "wind": [None]}).tolist()
    null = {"distance": None, "carrier": None, "wind": None}
    assert post(client, {"instances": [null]}).json()["predictions"] == expected
    assert post(client, "distance,carrier,wind\n,,\n", CSV).json()["predictions"] == expected
    assert post(client, "distance,carrier,wind\nNaN,,nan\n", CSV).json()["predictions"] == expected


def test_unicode_and_unseen_categories(client: TestClient, predictor: Predictor) -> None:
    def one(carrier: str | None) -> list[float]:
        answer: list[float] = post(client, {"instances": [ROW | {"carrier": carrier}]}).json()["predictions"]
        return answer

    assert one("Ünïted ✈") == predictor.predict({"distance": [800.0], "carrier": ["Ünïted ✈"], "wind": [3.5]}).tolist()
    assert one("未知の会社 🛩️") == one(None)
    text = "\ufeffdistance,carrier,wind\r\n800.0,Ünïted ✈,3.5\r\n"
    assert post(client, text.encode(), CSV).json()["predictions"] == one("Ünïted ✈")
    assert post(client, '"distance",carrier,wind\n800.0,"Ünïted ✈",3.5\n', CSV).json()["predictions"] == one("Ünïted ✈")


@pytest.mark.parametrize("engine", ["xgboost", "lightgbm"])
def test_several_classes(engine: str, saved_models: dict[tuple[str, str], Path]) -> None:
    settings = Settings(model_directory=saved_models[engine, "multiclass"], model_version="7")
    client = TestClient(create_app(load(settings), settings))
    expected = Predictor.load(settings.model_directory).predict({name: [value] * 2 for name, value in ROW.items()})
    answer = post(client, {"instances": [ROW, ROW]}).json()
    assert answer["predictions"] == expected.tolist()
    assert answer["classes"] == ["early", "late", "lost"]
    assert answer["model"]["version"] == "7"
    text = post(client, {"instances": [ROW, ROW]}, JSON | {"accept": "text/csv"}).text
    assert [[float(value) for value in line.split(",")] for line in text.splitlines()] == expected.tolist()


@pytest.mark.parametrize("engine", ["xgboost", "lightgbm"])
def test_a_number(engine: str, saved_models: dict[tuple[str, str], Path]) -> None:
    settings = Settings(model_directory=saved_models[engine, "regression"])
    client = TestClient(create_app(load(settings), settings))
    (expected,) = Predictor.load(settings.model_directory).predict({name: [value] for name, value in ROW.items()})
    answer = post(client, {"instances": [ROW]}).json()
    assert answer.keys() == {"predictions", "model"}
    assert answer["predictions"] == [expected]
    assert abs(expected) > 1
    text = post(client, {"instances": [ROW]}, JSON | {"accept": "text/csv"}).text
    assert float(text) == expected


def test_csv_answer(client: TestClient, predictor: Predictor) -> None:
    answer = post(client, {"instances": [ROW, ROW]}, JSON | {"accept": "text/csv"})
    assert answer.headers["content-type"].startswith("text/csv")
    expected = predictor.predict({name: [value] for name, value in ROW.items()})[0]
    assert [float(line) for line in answer.text.splitlines()] == [expected, expected]


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ("", "not valid JSON at character 0"),
        ('{"instances": [', "not valid JSON"),
        ('{"instances": [{"distance": NaN}]}', "a missing value is null in JSON"),
        (b'{"instances": "\xff"}', "not valid JSON"),
        ("[1]", "expected {"),
        ("{}", "expected {"),
        ({"instances": [ROW], "columns": []}, "expected {"),
        ({"instances": []}, "at least one row"),
        ({"instances": {"distance": 1}}, "instances: expected a list"),
        ({"instances": [ROW, 5]}, "row 1: expected an object with the features by name, got int 5"),
        ({"instances": [ROW, {"distance": 1.0, "carrier": "AA"}]}, "row 1, column 'wind': missing"),
        ({"instances": [ROW, ROW | {"wnd": 1}]}, "row 1, column 'wnd': not a feature"),
        (
            {"instances": [ROW, ROW | {"wind": "3.5"}]},
            "row 1, column 'wind': expected a number or null, got text '3.5'",
        ),
        ({"instances": [ROW | {"wind": [1]}]}, "row 0, column 'wind': expected a number or null, got a list"),
        ({"instances": [ROW | {"carrier": 5}]}, "row 0, column 'carrier': expected text or null, got int 5"),
        ({"instances": [ROW | {"carrier": ["AA"]}]}, "row 0, column 'carrier': expected text or null, got a list"),
        ({"instances": [ROW | {"wind": 1e39}]}, "row 0, column 'wind': not a finite number"),
        ({"columns": ["distance", "carrier"], "data": [[1, "AA"]]}, "column 'wind': missing"),
        ({"columns": ["distance", "carrier", "wind", "x"], "data": [[1, "AA", 1, 1]]}, "column 'x': not a feature"),
        ({"columns": ["distance", "carrier", "wind", "wind"], "data": [[1, "AA", 1, 1]]}, "column 'wind': there twice"),
        (
            {"columns": ["distance", "carrier", "wind"], "data": [[1, "AA", 1], [1, "AA"]]},
            "row 1: 2 values for 3 columns",
        ),
        ({"columns": ["distance", "carrier", "wind"], "data": [{}]}, "row 0: expected a list of values"),
        ({"columns": ["distance", "carrier", "wind"], "data": []}, "at least one row"),
        ({"columns": [["distance"]], "data": [[1]]}, "columns: expected a list of feature names"),
        ({"columns": ["distance", "carrier", "wind"], "data": [[1, "AA", {}]]}, "row 0, column 'wind'"),
    ],
)
def test_bad_json_is_named(client: TestClient, body: Any, message: str) -> None:
    assert message in error(post(client, body), 400, "bad-input")


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ("", "the body is empty"),
        ("distance,carrier,wind\n", "at least one row below the header"),
        ("800.0,UA,3.5\n", "column 'distance': missing"),
        ("distance,carrier,wind\n1,AA,2\n1,AA\n", "row 1: 2 values for 3 columns"),
        (
            "distance,carrier,wind\n1,AA,2\n1,AA,late\n",
            "row 1, column 'wind': expected a number or nothing, got text 'late'",
        ),
        ("distance,carrier,wind\n1,AA,inf\n", "row 0, column 'wind': not a finite number"),
        ('distance,carrier,wind\n1,"AA,2\n', "not valid CSV"),
        (b"distance,carrier,wind\n1,\xff,2\n", "not valid UTF-8 at byte 24"),
    ],
)
def test_bad_csv_is_named(client: TestClient, body: Any, message: str) -> None:
    assert message in error(post(client, body, CSV), 400, "bad-input")


def test_long_values_are_not_repeated_whole(client: TestClient) -> None:
    assert len(error(post(client, {"instances": [ROW | {"wind": "x" * 10_000}]}), 400, "bad-input")) < 200


@pytest.mark.parametrize(
    "kind", ["application/octet-stream", "text/plain", "application/json; charset=latin-1", "multipart"]
)
def test_content_types_that_are_not_supported(client: TestClient, kind: str) -> None:
    error(post(client, {"instances": [ROW]}, {"content-type": kind}), 415, "unsupported-media-type")


@pytest.mark.parametrize("kind", ["application/json; charset=utf-8", "APPLICATION/JSON", None])
def test_content_types_that_are(client: TestClient, kind: str | None) -> None:
    headers = {"content-type": kind} if kind else {}
    assert post(client, {"instances": [ROW]}, headers).status_code == 200


@pytest.mark.parametrize(
    ("accept", "expected"),
    [
        (None, payloads.JSON),
        ("*/*", payloads.JSON),
        ("text/*", payloads.CSV),
        ("text/csv;q=0.4, application/json;q=0.9", payloads.JSON),
        ("image/png, text/csv", payloads.CSV),
        ("application/json;q=0, text/csv;q=0.1", payloads.CSV),
    ],
)
def test_accept(accept: str | None, expected: str) -> None:
    assert payloads.answer_type(accept) == expected


@pytest.mark.parametrize("accept", ["image/png", "application/json;q=0", "text/csv;q=x"])
def test_an_answer_nobody_accepts(client: TestClient, accept: str) -> None:
    error(post(client, {"instances": [ROW]}, JSON | {"accept": accept}), 406, "not-acceptable")


def test_too_large_with_and_without_a_declared_length(client: TestClient) -> None:
    body = b"x" * 1_000_001
    assert "1000000" in error(post(client, body), 413, "too-large")
    chunked = client.post("/invocations", content=iter([body[:500_000], body[500_000:]]), headers=JSON)
    error(chunked, 413, "too-large")


def test_no_model_yet(tmp_path: Path) -> None:
    for directory in (tmp_path, tmp_path / "missing"):
        settings = Settings(model_directory=directory)
        client = TestClient(create_app(load(settings), settings))
        assert client.get("/ping").status_code == 200
        answer = post(client, {"instances": [ROW]})
        assert error(answer, 503, "no-model") == "no model deployed yet"
        assert answer.headers["retry-after"] == "1"


def test_broken_model(xgboost_model: Path) -> None:
    client = TestClient(create_app(None, Settings(), broken="model.ubj: not an XGBoost model"))
    assert "not an XGBoost model" in error(client.get("/ping"), 500, "model-broken")
    error(post(client, {"instances": [ROW]}), 503, "model-broken")


def test_saturated(xgboost_model: Path) -> None:
    settings = Settings(model_directory=xgboost_model, max_in_flight=0)
    client = TestClient(create_app(load(settings), settings))
    error(post(client, {"instances": [ROW]}), 503, "saturated")
    assert client.get("/ping").status_code == 200


@pytest.mark.parametrize(("spare_core", "rows", "in_thread"), [
    (False, 1, False), (False, 1_000, False), (False, 8_000, True),
    (True, 1, False), (True, 1_000, True), (True, 8_000, True),
])  # fmt: skip
def test_large_bodies_go_to_a_thread_earlier_where_it_has_a_core(
    spare_core: bool, rows: int, in_thread: bool, xgboost_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = Settings(model_directory=xgboost_model, spare_core=spare_core)
    threads: list[str] = []
    render = payloads.render

    def note(*arguments: Any) -> bytes:
        threads.append(threading.current_thread().name)
        return render(*arguments)

    monkeypatch.setattr(payloads, "render", note)
    answer = post(TestClient(create_app(load(settings), settings)), {"instances": as_instances(some_columns(rows))})
    assert len(answer.json()["predictions"]) == rows
    assert [name.startswith("predict") for name in threads] == [in_thread]


def test_wrong_path_and_method(client: TestClient) -> None:
    error(client.get("/nothing"), 404, "not-found")
    answer = client.get("/invocations")
    error(answer, 405, "method-not-allowed")
    assert answer.headers["allow"] == "POST"


def test_an_unexpected_error_tells_nothing(
    xgboost_model: Path, monkeypatch: pytest.MonkeyPatch, capfdbinary: pytest.CaptureFixture[bytes]
) -> None:
    settings = Settings(model_directory=xgboost_model)
    client = TestClient(create_app(load(settings), settings), raise_server_exceptions=False)

    def fail(*_: Any) -> Any:
        raise RuntimeError("secret 4711")

    monkeypatch.setattr(payloads, "render", fail)
    assert "4711" not in error(post(client, {"instances": [ROW]}), 500, "internal")
    assert b"4711" not in capfdbinary.readouterr().out


def test_log_lines_have_an_id_and_no_payload(client: TestClient, capfdbinary: pytest.CaptureFixture[bytes]) -> None:
    secret = "Customer 4711"
    first = client.post(
        "/invocations",
        json={"instances": [ROW | {"carrier": secret}]},
        headers={"X-Amzn-SageMaker-Inference-Id": "call-1"},
    )
    second = post(client, {"instances": [ROW | {"wind": secret}]})
    client.get("/ping")
    output = capfdbinary.readouterr().out
    assert secret.encode() not in output
    lines = [json.loads(line) for line in output.splitlines()]
    assert [line["status"] for line in lines] == [200, 400]  # a healthy /ping is not logged
    assert lines[0] | {"ms": 0, "time": ""} == {
        "time": "",
        "event": "request",
        "method": "POST",
        "path": "/invocations",
        "status": 200,
        "ms": 0,
        "request_id": "call-1",
        "rows": 1,
    }
    assert lines[1]["code"] == "bad-input"
    assert first.headers["x-request-id"] == "call-1"
    assert second.headers["x-request-id"] == lines[1]["request_id"]
    assert len(lines[1]["request_id"]) == 32


def test_settings() -> None:
    settings = Settings.from_environment({"SAGEMAKER_BIND_TO_PORT": "9000", "SM_MODEL_DIR": "/m", "MODEL_VERSION": ""})
    assert (settings.host, settings.port, settings.model_directory) == ("127.0.0.1", 9000, Path("/m"))
    assert settings.model_version is None
    for wrong in ("http", "-1", "70000", "²"):
        with pytest.raises(SettingsError, match="SAGEMAKER_BIND_TO_PORT"):
            Settings.from_environment({"SAGEMAKER_BIND_TO_PORT": wrong})
