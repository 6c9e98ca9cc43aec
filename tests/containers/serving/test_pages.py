"""What the server says of itself: metrics, the description of the API, the page for people."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from helpers import ROW
from openapi_spec_validator import validate
from prometheus_client.parser import text_string_to_metric_families
from starlette.testclient import TestClient

from serving import metrics
from serving.app import create_app
from serving.metrics import Metrics, Table
from serving.model import load
from serving.settings import Settings, SettingsError, usable_cores


def samples(text: str) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
    """Return the values by name and labels, read by Prometheus's own parser."""
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def test_metrics_are_the_sum_of_all_workers() -> None:
    table = Table(2)
    one, two = Metrics(table, 0), Metrics(table, 1)
    for worker, code, seconds, rows in ((one, "ok", 0.003, 5), (two, "ok", 20.0, 1), (two, "bad-input", 0.001, 0)):
        worker.begin()
        worker.end(code, seconds, rows)
    one.begin()
    two.wait(1)
    found = samples(metrics.render(table, {"version": 'a"\\\n'}).decode())
    assert found["serving_requests_total", (("code", "ok"), ("status", "200"))] == 2
    assert found["serving_requests_total", (("code", "bad-input"), ("status", "400"))] == 1
    buckets = {dict(labels)["le"]: value for (name, labels), value in found.items() if name.endswith("_bucket")}
    assert (buckets["0.0005"], buckets["0.001"], buckets["0.005"], buckets["10.0"], buckets["+Inf"]) == (0, 1, 2, 2, 3)
    assert found["serving_request_seconds_count", ()] == 3
    assert found["serving_request_seconds_sum", ()] == pytest.approx(20.004)
    assert found["serving_rows_total", ()] == 6
    assert found["serving_in_flight", ()] == 1
    assert found["serving_waiting", ()] == 1
    assert found["serving_model_info", (("version", 'a"\\\n'),)] == 1
    assert Metrics(table, 0).table is table
    again = samples(metrics.render(table, {}).decode())
    assert again["serving_in_flight", ()] == 0, "what a dead worker had in progress is gone"
    assert again["serving_rows_total", ()] == 6, "and what it had counted is not"


@pytest.mark.skipif(not Path("/proc/self/smaps_rollup").exists(), reason="this system does not tell")
def test_memory_is_proportional() -> None:
    own = metrics.proportional_bytes(os.getpid())
    assert own is not None
    assert 1e6 < own < 1e10
    assert metrics.proportional_bytes(2**22 + 1) is None


def test_metrics_of_requests(xgboost_model: Path) -> None:
    settings = Settings(model_directory=xgboost_model, model_version="7")
    client = TestClient(create_app(load(settings), settings))
    client.post("/invocations", json={"instances": [ROW] * 3})
    client.post("/invocations", json={"instances": [{}]})
    client.get("/nothing")
    client.get("/ping")
    found = samples(client.get("/metrics").text)
    assert found["serving_rows_total", ()] == 3
    requests = {
        dict(labels)["code"]: v for (name, labels), v in found.items() if name == "serving_requests_total" and v
    }
    assert requests == {"ok": 1, "bad-input": 1, "not-found": 1}
    (info,) = [dict(labels) for name, labels in found if name == "serving_model_info"]
    assert (info["version"], info["engine"], info["task"]) == ("7", "xgboost", "binary")


@pytest.mark.parametrize("task", ["binary", "multiclass", "regression"])
def test_the_description_is_the_model_s(task: str, saved_models: dict[tuple[str, str], Path]) -> None:
    settings = Settings(model_directory=saved_models["lightgbm", task])
    client = TestClient(create_app(load(settings), settings))
    described = client.get("/openapi.json").json()
    validate(described)
    row = described["components"]["schemas"]["Row"]
    assert row["required"] == ["distance", "carrier", "wind"]
    assert row["properties"]["wind"]["type"] == ["number", "null"]
    assert "Ünïted ✈" in row["properties"]["carrier"]["description"]
    classes = described["components"]["schemas"]["Answer"]["properties"].get("classes", {}).get("const")
    assert classes == (["early", "late", "lost"] if task == "multiclass" else None)
    content = described["paths"]["/invocations"]["post"]["requestBody"]["content"]
    for example in content["application/json"]["examples"].values():
        assert client.post("/invocations", json=example["value"]).status_code == 200
    for kind in ("text/csv", "application/jsonlines"):
        answer = client.post("/invocations", content=content[kind]["example"], headers={"content-type": kind})
        assert answer.status_code == 200, answer.text
    page = client.get("/docs")
    assert "carrier" in page.text
    assert "http:" not in page.text.replace("http://127", "")
    assert "<script" not in page.text
    assert "default-src 'none'" in page.headers["content-security-policy"]


def test_without_a_model(tmp_path: Path) -> None:
    settings = Settings(model_directory=tmp_path)
    client = TestClient(create_app(None, settings))
    validate(client.get("/openapi.json").json())
    assert client.get("/docs").status_code == 200
    assert samples(client.get("/metrics").text)["serving_workers", ()] == 1
    assert client.post("/metrics").headers["allow"] == "GET"
    assert json.loads(client.post("/metrics").content)["error"]["code"] == "method-not-allowed"


@pytest.mark.parametrize(
    ("text", "cores"), [("max 100000", None), ("150000 100000", 2), ("10000 100000", 1), ("?", None)]
)
def test_workers_are_as_many_as_cores(
    text: str, cores: int | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(8)))
    (tmp_path / "cpu.max").write_text(text + "\n")
    assert usable_cores(tmp_path / "cpu.max") == (cores or 8)
    with pytest.raises(SettingsError, match="SERVING_WORKERS"):
        Settings.from_environment({"SERVING_WORKERS": "0"})


@pytest.mark.parametrize(("workers", "threads", "spare"), [(2, 1, False), (1, 1, True), (1, 2, False), (3, 1, False)])
def test_a_core_is_spare_where_predictions_take_fewer(
    workers: int, threads: int, spare: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("serving.settings.usable_cores", lambda: 2)
    environment = {"SERVING_WORKERS": str(workers), "SERVING_THREADS": str(threads)}
    assert Settings.from_environment(environment).spare_core == spare
    assert not Settings.from_environment({}).spare_core
