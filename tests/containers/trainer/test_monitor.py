"""Step monitor on captures as SageMaker writes them, answered by a real model, with MLflow and S3 as servers."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import boto3
import numpy as np
import pytest
from captures import END, Live, line, release
from helpers import MODEL, Columns, Run, parcels
from pages import Page

from mlplatform.storage import read_bytes, try_read_bytes, write_bytes
from modelformat import Predictor
from trainer import reports, tracking
from trainer.monitoring import telemetry


def features(count: int, seed: int, change: Callable[[Columns], None] | None = None) -> tuple[Columns, list[int]]:
    """Return features and targets of parcels like those that the model was trained on."""
    made = parcels(days=1, per_day=count * 2, seed=seed)
    staff = {"north": 3, "south": 5, "west": 9}
    kept = [i for i, there in enumerate(made["delivered"]) if there][:count]
    weight = [made["weight"][i] for i in kept]
    depot = [made["depot"][i] for i in kept]
    rows: Columns = {
        "weight": weight,
        "load": [
            None if w is None or staff[d] == 3 else w / (staff[d] - 3) for w, d in zip(weight, depot, strict=True)
        ],
        "express": [int(made["express"][i]) for i in kept],
        "depot": depot,
    }
    if change:
        change(rows)
    return rows, [int(made["delay"][i] > 15) for i in kept]


@pytest.fixture(scope="module")
def trained(s3: str, mlflow_uri: str, tmp_path_factory: pytest.TempPathFactory) -> tuple[Run, dict[str, Predictor]]:
    """Two versions, of two runs on the same data."""
    name, folder = "parcels-watched", tmp_path_factory.mktemp("models")
    tracking.connect(mlflow_uri).create_registered_model(name)
    predictors = {}
    for version, depth in (("1", 3), ("2", 2)):
        run = Run(f"watched-{version}", tracking_uri=mlflow_uri)
        run.model["name"] = run.model["registered_model"] = name
        run.land_good()
        predictors[version] = release(run, version, folder, max_depth=depth)
    return run, predictors


@pytest.fixture
def live(trained: tuple[Run, dict[str, Predictor]]) -> Live:
    return Live(*trained)


def test_without_requests_there_is_nothing_to_judge(live: Live) -> None:
    result = live.monitor()
    assert (result.verdict.outcome, result.requests, result.versions) == ("too-few", 0, [])
    assert "Too few requests" in read_bytes(result.report_uri).decode()


def test_few_requests_are_not_judged_whatever_they_say(live: Live) -> None:
    rows, _ = features(40, 2, lambda rows: rows.update(weight=[900.0] * 40))
    live.ask(rows)
    result = live.monitor()
    assert (result.verdict.outcome, result.rows) == ("too-few", 40)
    assert result.versions[0].features["weight"].psi > 1


def test_rows_like_those_of_training_have_not_drifted(live: Live) -> None:
    live.ask(features(300, 2)[0])
    result = live.monitor()
    assert result.verdict.outcome == "ok", result.verdict
    (version,) = result.versions
    assert (version.model_version, version.requests, version.rows) == ("1", 300, 300)
    assert set(version.features) == set(MODEL["features"])
    assert version.quality is None
    # What was seen is logged at the run of the version, and for alarms.
    client = tracking.connect(live.run.tracking_uri)
    run_id = client.get_model_version("parcels-watched", "1").run_id
    assert f"{END:%Y%m%dT%H%M%SZ}.html" in str([item.path for item in client.list_artifacts(run_id, "monitoring")])
    assert "monitoring/MaximumFeaturePSI" in client.get_run(run_id).data.metrics
    found = boto3.client("cloudwatch").list_metrics(Namespace="MLPlatform/Monitoring")["Metrics"]
    assert {"MaximumFeaturePSI", "Drifted", "Requests"} <= {metric["MetricName"] for metric in found}


def test_a_second_run_finds_its_result_and_does_nothing(live: Live) -> None:
    live.ask(features(210, 2)[0])
    first = live.monitor()
    live.ask(features(210, 3)[0], ids="later")
    assert live.monitor() == first


def test_a_run_that_was_interrupted_leaves_no_result_and_the_next_one_makes_it(
    live: Live, monkeypatch: pytest.MonkeyPatch
) -> None:
    live.ask(features(210, 2)[0])

    def fail(*_: Any) -> None:
        raise ConnectionError("CloudWatch is gone")

    with monkeypatch.context() as patch:
        patch.setattr(telemetry, "publish", fail)
        with pytest.raises(ConnectionError):
            live.step()
    assert try_read_bytes(f"{live.output}/result.json") is None
    result = live.monitor()
    # What was measured twice is there once.
    client = tracking.connect(live.run.tracking_uri)
    run_id = client.get_model_version("parcels-watched", "1").run_id
    history = client.get_metric_history(run_id, "monitoring/PredictionPSI")
    assert result.versions[0].prediction is not None
    assert [one.value for one in history].count(result.versions[0].prediction.psi) == 1


def test_one_feature_that_moves_is_named_and_the_others_are_not(live: Live) -> None:
    def heavier(rows: Columns) -> None:
        rows["express"] = [1] * len(rows["express"])

    live.ask(features(300, 2, heavier)[0])
    result = live.monitor()
    assert result.verdict.outcome == "drifted"
    assert [reason for reason in result.verdict.reasons if "feature" in reason and "express" not in reason] == []
    assert any("feature express" in reason for reason in result.verdict.reasons)


def test_predictions_drift_by_what_the_model_answered_on_its_test_split(live: Live) -> None:
    rows, _ = features(300, 2)
    requests = [{name: [rows[name][i]] for name in rows} for i in range(300)]
    at = END - timedelta(hours=2)
    live.capture_lines([line(request, [0.97], "1", at, None) for request in requests], at)
    result = live.monitor()
    assert result.verdict.outcome == "drifted"
    assert [reason.split(": ")[1] for reason in result.verdict.reasons if "PSI" in reason] == [
        "the prediction has drifted"
    ]


def test_new_and_missing_categories_are_shares(live: Live) -> None:
    def other(rows: Columns) -> None:
        rows["depot"] = ["east" if i % 4 == 0 else None if i % 4 == 1 else d for i, d in enumerate(rows["depot"])]

    live.ask(features(300, 2, other)[0])
    depot = live.monitor().versions[0].features["depot"]
    assert (depot.unknown, depot.missing) == (0.25, 0.25)


@pytest.mark.parametrize(("wrong", "outcome"), [(False, "ok"), (True, "degraded")])
def test_labels_that_land_later_tell_the_quality(live: Live, wrong: bool, outcome: str) -> None:
    rows, late = features(400, 2)
    live.ask(rows, at=END - timedelta(hours=48))  # before the window of drift, within that of labels
    live.ask(features(210, 5)[0], ids="now")
    answers = [1 - value for value in late] if wrong else late
    live.label({"inference_id": [f"{live.name}-1-{i}" for i in range(400)], "late": answers})
    result = live.monitor()
    assert (result.labels.matched, result.rows) == (400, 210)
    quality = result.versions[0].quality
    assert quality is not None
    assert quality.rows == 400
    assert quality.interval is not None
    assert quality.interval.low < quality.value < quality.interval.high
    assert result.verdict.outcome == outcome, result.verdict


def test_labels_partial_duplicated_contradictory_and_unknown(live: Live) -> None:
    rows, late = features(220, 2)
    live.ask(rows)
    live.ask(rows, at=END - timedelta(minutes=30))  # each request tried again with the same id
    known = [f"{live.name}-1-{i}" for i in range(120)]
    live.label({"inference_id": known, "late": late[:120]}, "a")
    live.label({"inference_id": known[:10], "late": late[:10]}, "b")
    live.label({"inference_id": known[10:13], "late": [1 - value for value in late[10:13]]}, "c")
    live.label({"inference_id": ["never-asked", None], "late": [1, 0]}, "d")
    live.label({"id": ["x"], "late": [1]}, "e")
    write_bytes(f"s3://landing/labels/{live.name}/f.parquet", b"no parquet")
    counts = live.monitor().labels
    assert (counts.matched, counts.duplicated, counts.contradictory) == (117, 10, 3)
    assert (counts.unknown, counts.unusable, counts.files, len(counts.refused_files)) == (1, 1, 6, 2)


def test_bodies_of_every_kind_with_several_rows_and_a_row_in_the_labels(live: Live) -> None:
    live.unnamed = "1"
    rows, late = features(240, 2)
    answers = live.predictors["1"].predict(rows).tolist()
    at = END - timedelta(hours=3)
    lines = []
    kinds = ("json", "base64", "csv", "parquet")
    for index, kind in enumerate(kinds):
        part = {name: values[index * 60 : index * 60 + 60] for name, values in rows.items()}
        lines.append(line(part, answers[index * 60 : index * 60 + 60], "1", at, f"{live.name}-{kind}", kind))
    live.capture_lines(lines, at)
    ids = [f"{live.name}-{kind}" for kind in kinds for _ in range(60)]
    live.label({"inference_id": ids, "row": [*range(60)] * 4, "late": late})
    result = live.monitor()
    assert (result.requests, result.rows, result.malformed, result.labels.matched) == (4, 240, 0, 240)
    alike = Live(live.run, live.predictors)
    alike.ask(rows)
    (one,), (other,) = result.versions, alike.monitor().versions
    assert (one.features, one.prediction) == (other.features, other.prediction), "the same rows, whatever the format"
    assert result.verdict.outcome == "ok", result.verdict


def test_malformed_captures_are_counted_and_never_fatal(live: Live) -> None:
    rows, _ = features(210, 2)
    live.ask(rows)
    at = END - timedelta(hours=1)
    one = {name: values[:1] for name, values in rows.items()}
    good = json.loads(line(one, [0.5], "1", at, None))
    encoded = json.loads(line(one, [0.5], "1", at, None, "base64"))
    encoded["captureData"]["endpointInput"]["data"] = "%%%"
    parquet = json.loads(line(one, [0.5], "1", at, None, "parquet"))
    parquet["captureData"]["endpointInput"]["data"] = base64.b64encode(b"PAR1 cut short").decode()
    halved = {**good, "captureData": {"endpointInput": good["captureData"]["endpointInput"]}}
    bad = [
        *(b"{", b"null", b"[]", b'"text"', b"\xff\xfe"),
        json.dumps(encoded).encode(),
        json.dumps(parquet).encode(),
        json.dumps(halved).encode(),
        line({"weight": [1.0]}, [0.5], "1", at, None),  # lacks features
        line(one, [0.5, 0.6], "1", at, None),  # more answers than rows
        line(one, [[0.1, 0.9]], "1", at, None),  # an answer of another task
        line(one, ["high"], "1", at, None),
    ]
    live.capture_lines(bad, at)
    live.capture_lines([line(one, [0.5], None, at, None)], at)
    result = live.monitor()
    assert (result.malformed, result.unattributed, result.rows) == (len(bad), 1, 210)
    assert len(result.malformed_examples) == 10
    assert all(f"s3://data/capture/{live.name}/primary/" in example for example in result.malformed_examples)
    assert "line 1: is not a captured request" in result.malformed_examples[0]
    assert result.verdict.outcome == "ok"
    assert "captured records could not be read" in live.report()


def test_two_versions_are_told_apart_and_an_unknown_one_is_not_compared(live: Live) -> None:
    def express(rows: Columns) -> None:
        rows["express"] = [1] * len(rows["express"])

    live.ask(features(250, 2)[0], "1")
    live.ask(features(250, 3, express)[0], "2")
    one = {name: values[:1] for name, values in features(1, 2)[0].items()}
    live.capture_lines([line(one, [0.5], "77", END - timedelta(hours=1), None)])
    result = live.monitor()
    assert result.verdict.versions == {"1": "ok", "2": "drifted", "77": "too-few"}
    assert result.verdict.outcome == "drifted"
    assert np.isclose(sum(version.rows for version in result.versions), 501)


def test_two_variants_are_compared_with_each_other(live: Live) -> None:
    rows, late = features(500, 2)
    first, second = ({name: values[part] for name, values in rows.items()} for part in (slice(300), slice(300, 500)))
    live.ask(first, "1", variant="primary")
    live.ask(second, "2", variant="challenger")
    ids = [*(f"{live.name}-1-{i}" for i in range(300)), *(f"{live.name}-2-{i}" for i in range(200))]
    live.label({"inference_id": ids, "late": [*late[:300], *(1 - value for value in late[300:])]})
    cloudwatch = boto3.client("cloudwatch")
    for variant, counted in (("primary", (300, 6, 3)), ("challenger", (200, 0, 0))):
        dimensions = [{"Name": "EndpointName", "Value": live.name}, {"Name": "VariantName", "Value": variant}]
        names = ("Invocations", "Invocation4XXErrors", "Invocation5XXErrors")
        data = [
            {"MetricName": name, "Dimensions": dimensions, "Timestamp": END - timedelta(hours=1), "Value": value}
            for name, value in zip(names, counted, strict=True)
        ]
        cloudwatch.put_metric_data(Namespace="AWS/SageMaker", MetricData=data)
    result = live.monitor()
    assert result.verdict.versions == {"1": "ok", "2": "degraded"}, result.verdict
    assert {version.model_version: version.rows for version in result.versions} == {"1": 300, "2": 200}
    assert {variant: one.error_free_share for variant, one in result.errors.items()} == {
        "primary": 0.97,
        "challenger": 1,
    }
    page = Page(live.report())
    for version, variant, part in (("1", "primary (300)", first), ("2", "challenger (200)", second)):
        cells = page.row(version)
        mean = float(live.predictors[version].predict(part).mean())
        assert cells[2:4] == [variant, f"{reports.decimal(mean)} on average"]


def test_requests_beyond_the_window_are_left_out(live: Live) -> None:
    rows, _ = features(5, 2)
    for at in (END - timedelta(hours=24), END - timedelta(hours=25), END):
        live.ask(rows, at=at, ids=f"{at:%d%H}")
    assert live.monitor().rows == 5


def test_the_bins_are_those_of_the_profile() -> None:
    from mlplatform.documents.profiles import CategoryProfile, NumberProfile
    from mlplatform.monitoring.drift import bins_of
    from trainer.monitoring.tally import count

    numbers = NumberProfile(missing=0, mean=5, deviation=1, minimum=0, maximum=10, histogram=[1] * 20)
    found = count([0, 10, -5, 99, None, "x", "2.5", float("nan")], bins_of(numbers, 20)).tolist()
    assert (found[0], found[5], found[19], found[20], sum(found)) == (2, 1, 2, 3, 8)
    constant = NumberProfile(missing=0, mean=3, deviation=0, minimum=3, maximum=3, histogram=[0] * 19 + [9])
    assert count([2, 3, 3, 4, None], bins_of(constant, 9)).tolist() == [1, 2, 1, 1]
    texts = CategoryProfile(missing=1, counts={"a": 5, "b": 3})
    assert count(["a", "b", "c", None], bins_of(texts, 9)).tolist() == [1, 1, 1, 1]


def test_the_step_needs_a_window(run: Run, tmp_path: Path) -> None:
    assert "monitoring" in run.refused("monitor").message
