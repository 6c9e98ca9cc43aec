"""The monitoring report as a person reads it: what moved most first, drawn, in words, and what to do next."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest
from helpers import MODEL
from pages import Page
from references import predicted, reference, simulated, watched

from mlplatform.config.dataset import ModelConfig
from mlplatform.config.environment import Monitoring
from mlplatform.documents.evaluation import Interval
from mlplatform.documents.monitoring import LabelCounts, LiveQuality, MonitorResult, WatchedVersion
from mlplatform.monitoring.verdict import judge
from trainer import reports
from trainer.monitoring.tally import Tally
from trainer.reports import monitoring

END = datetime(2026, 5, 4, 12, 30, tzinfo=UTC)
LIMITS = Monitoring()


def window(
    *versions: WatchedVersion, tallies: dict[str, Tally] | None = None, **facts: Any
) -> tuple[MonitorResult, str]:
    result = MonitorResult(
        run_key="key",
        started_at=END,
        finished_at=END,
        endpoint_name="parcels",
        start=END - timedelta(hours=24),
        labels_start=END - timedelta(hours=72),
        end=END,
        requests=sum(version.requests for version in versions),
        rows=sum(version.rows for version in versions),
        versions=list(versions),
        verdict=judge(versions, LIMITS),
        report_uri="s3://data/report.html",
        **{"malformed": 0, **facts},
    )
    return result, monitoring.page(ModelConfig.model_validate(MODEL), result, LIMITS, tallies or {})


def tally(task: Any = "binary", shift: float = 0.0, **change: Any) -> Tally:
    draw = np.random.default_rng(1)
    made = Tally(reference(simulated(draw, 600), predicted(draw, 120, task), task))
    made.add("primary", simulated(draw, 400, **change), predicted(draw, 400, task, shift))
    return made


def headings(content: str) -> list[str]:
    return [re.sub(r"\s+", " ", found) for found in re.findall(r"<h3>(.*?)</h3>", content, re.DOTALL)]


@pytest.mark.parametrize("task", ["binary", "multiclass", "regression"])
def test_what_moved_most_comes_first_and_is_drawn(task: str) -> None:
    one = tally(task, heavier=3.0, express=0.3)
    result, content = window(watched(one), tallies={"1": one})
    page = Page(content)
    assert result.verdict.outcome == "drifted"
    assert "What the model is asked or answers has drifted" in page.text
    psi = {name: drifted.psi for name, drifted in result.versions[0].features.items()}
    names = [row[0].strip() for row in page.cells if len(row) == 7][1:]
    assert [name for name in names if name in psi] == sorted(psi, key=lambda name: -psi[name])
    drawn = [name for name in headings(content) if name in psi]
    assert drawn == [name for name in names if name in psi and psi[name] >= 0.1][:3]
    assert headings(content)[0] == "How far everything has moved"
    assert headings(content)[-1] == "The prediction"
    drawings = re.findall(r"<svg .*?</svg>", content, re.DOTALL)
    assert len(drawings) == len(page.named("figure")) == len(drawn) + 2
    for drawing in drawings:
        root = ElementTree.fromstring(drawing)
        assert (root.get("aria-label") or "").startswith(tuple(headings(content)))
        assert len(root.findall(".//text")) > 3
    most = result.versions[0].features[drawn[0]]
    words = (
        f"Moved most has {reports.label(most.most)}: {reports.percent(most.before)} before, "
        f"{reports.percent(most.now)} now."
    )
    assert words in page.text
    assert content == window(watched(one), tallies={"1": one})[1], "the same numbers give the same bytes"


def test_shares_are_of_all_rows_and_agree_with_the_result() -> None:
    one = tally(gaps=0.5)
    for name, drifted in one.features().items():
        shares = one.shares(name)
        assert sum(shares.before) == pytest.approx(1)
        assert sum(shares.now) == pytest.approx(1)
        place = shares.names.index(drifted.most)
        assert (shares.before[place], shares.now[place]) == pytest.approx((drifted.before, drifted.now))


@pytest.mark.parametrize(
    ("kind", "words", "absent"),
    [
        ("ok", ["Nothing."], ["rollback DAG"]),
        ("drifted", ["field renamed", "Land labels"], ["rollback DAG"]),
        ("degraded", ["rollback DAG", "land new data"], ["Land labels", "Nothing."]),
        ("few", ["Wait for more requests"], ["rollback DAG", "captures"]),
        ("none", ["asked at all"], ["Wait for more requests"]),
    ],
)
def test_it_says_what_to_do_next(kind: str, words: list[str], absent: list[str]) -> None:
    one = tally(heavier=3.0 if kind == "drifted" else 1.0)
    quality = LiveQuality(
        metric="roc_auc",
        rows=500,
        value=0.6,
        interval=Interval(low=0.55, high=0.65, level=0.95, resamples=1000),
        evaluated=0.9,
        evaluated_interval=Interval(low=0.88, high=0.92, level=0.95, resamples=1000),
    )
    version = watched(one, quality if kind == "degraded" else None)
    if kind == "few":
        version = version.model_copy(update={"rows": 20})
    result, content = window(*([] if kind == "none" else [version]), tallies={"1": one})
    assert result.verdict.outcome == {"few": "too-few", "none": "too-few"}.get(kind, kind)
    said = " ".join(monitoring.actions(result))
    assert [word for word in words if word not in said] == []
    assert [word for word in absent if word in said] == []
    text = Page(content).text
    assert all(action in text for action in monitoring.actions(result))


def test_versions_are_side_by_side_with_their_variants_and_quality() -> None:
    one, other = tally("regression"), tally("regression", shift=2.0)
    other.variants.clear()
    other.variants.update({"challenger": 300, "primary": 100})
    interval = Interval(low=9.5, high=11.5, level=0.95, resamples=1000)
    quality = LiveQuality(metric="mae", rows=150, value=10.5, interval=interval, evaluated=9.0)
    second = watched(other, quality).model_copy(update={"model_version": "2"})
    gone = WatchedVersion(model_version="3", requests=2, rows=2, note="there is no such version")
    _, content = window(watched(one), second, gone, tallies={"1": one, "2": other})
    page = Page(content)
    assert page.row("1")[2:4] == ["primary (400)", f"{reports.decimal(one.mean)} on average"]
    assert page.row("2")[1:] == [
        "drifted",
        "challenger (300), primary (100)",
        f"{reports.decimal(other.mean)} on average",
        "10.500",
        "9.5000 to 11.500",
        "150",
        "9.0000",
    ]
    assert page.row("3")[2:4] == [reports.NOTHING, reports.NOTHING]
    assert "Not compared: there is no such version" in page.text


def test_what_was_left_out_is_told_and_text_from_requests_stays_text() -> None:
    evil = "<script>alert(1)</script>"
    labels = LabelCounts(files=1, refused_files=[f"s3://landing/labels/{evil}: no column"])
    _, content = window(malformed=3, malformed_examples=[f"s3://data/x.jsonl line 3: {evil}"], labels=labels)
    page = Page(content)
    assert not page.named("script")
    assert "3 captured records could not be read" in page.text
    assert "x.jsonl line 3" in page.text
    assert "label files that were refused" in page.text
    assert not page.named("figure")
