"""The verdict as a function of measurements, the window and its documents, and the right to ask for a retraining."""

from __future__ import annotations

import random
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from pydantic import ValidationError

from mlplatform import storage
from mlplatform.config.environment import Monitoring, Settings
from mlplatform.documents.decisions import AuditEntry
from mlplatform.documents.evaluation import Interval
from mlplatform.documents.monitoring import Drifted, LiveQuality, MonitoringVerdict, MonitorResult, WatchedVersion
from mlplatform.documents.run import RunConfig
from mlplatform.monitoring import drift, retraining, windows
from mlplatform.monitoring.verdict import chance_psi, judge, least_loss
from mlplatform.promotion import audit
from mlplatform.training.request import check_request
from tests.unit.mlplatform.story import PARAMS, Story

NOW = datetime(2026, 3, 1, 5, tzinfo=UTC)
LIMITS = Monitoring()
RUN = "monitor__parcels/a"


def moved(psi: float, bins: int = 5) -> Drifted:
    return Drifted(psi=psi, bins=bins, most="5 to 6", before=0.1, now=0.6, missing=0.0)


def quality(value: float, half: float, *, metric: str = "roc_auc", evaluated: float = 0.8, rows: int = 500) -> Any:
    interval = Interval(low=value - half, high=value + half, level=0.95, resamples=1000)
    before = Interval(low=evaluated - 0.01, high=evaluated + 0.01, level=0.95, resamples=1000)
    return LiveQuality(
        metric=metric, rows=rows, value=value, interval=interval, evaluated=evaluated, evaluated_interval=before
    )


def version(name: str = "1", rows: int = 5000, **measured: Any) -> WatchedVersion:
    usual = {"features": {"weight": moved(0.01), "depot": moved(0.02)}, "prediction": moved(0.01)}
    return WatchedVersion(
        model_version=name, requests=rows, rows=rows, reference_rows=5000, test_rows=5000, **{**usual, **measured}
    )


def test_no_version_is_too_few() -> None:
    assert judge([], LIMITS).outcome == "too-few"


@pytest.mark.parametrize(
    ("measured", "outcome", "reason"),
    [
        ({}, "ok", "0 labels"),
        ({"rows": 199, "prediction": moved(9)}, "too-few", "minimum_rows"),
        ({"rows": 0, "quality": quality(0.1, 0.01)}, "too-few", "not live any more"),
        ({"note": "no such version"}, "too-few", "no such version"),
        ({"features": {"weight": moved(0.3), "depot": moved(0.25)}}, "drifted", "feature weight has drifted: PSI 0.30"),
        ({"prediction": moved(0.3)}, "drifted", "the prediction has drifted"),
        ({"quality": quality(0.79, 0.02)}, "ok", None),
        ({"quality": quality(0.6, 0.02)}, "degraded", "roc_auc is 0.6"),
        ({"quality": quality(0.6, 0.02, rows=99)}, "ok", "minimum_labels"),
        ({"quality": quality(0.7, 0.05)}, "ok", None),  # within what chance explains
        ({"quality": quality(0.6, 0.02), "prediction": moved(0.3)}, "degraded", "the prediction has drifted"),
        ({"rows": 150, "quality": quality(0.6, 0.02)}, "degraded", "minimum_rows"),
        ({"quality": quality(20, 1, metric="rmse", evaluated=15)}, "degraded", "rmse is 20"),
        ({"quality": quality(10, 1, metric="rmse", evaluated=15)}, "ok", None),
    ],
)
def test_the_verdict_on_a_version(measured: dict[str, Any], outcome: str, reason: str | None) -> None:
    verdict = judge([version(**measured)], LIMITS)
    assert (verdict.outcome, verdict.versions) == (outcome, {"1": outcome})
    assert reason is None or any(reason in one for one in verdict.reasons), verdict.reasons


def test_the_worst_of_several_versions_counts_and_each_is_named() -> None:
    verdict = judge([version("1"), version("2", prediction=moved(1)), version("3", rows=5)], LIMITS)
    assert verdict.outcome == "drifted"
    assert verdict.versions == {"1": "ok", "2": "drifted", "3": "too-few"}
    assert all(reason.startswith(("version 1: ", "version 2: ", "version 3: ")) for reason in verdict.reasons)


def test_a_psi_that_chance_explains_is_no_drift() -> None:
    few = {"rows": 200, "reference_rows": 60, "prediction": moved(0.01)}
    verdict = judge([version().model_copy(update={**few, "features": {"a": moved(0.4, bins=15)}})], LIMITS)
    assert verdict.outcome == "ok"
    many = version().model_copy(update={"features": {"a": moved(0.4, bins=15)}})
    assert judge([many], LIMITS).outcome == "drifted"


def test_chance_exceeds_the_bound_as_often_as_it_says() -> None:
    draw = random.Random(7)
    bound = chance_psi(6, 400, 250, 0.05)

    def rows(count: int) -> list[int]:
        found = [0] * 6
        for _ in range(count):
            found[draw.randrange(6)] += 1
        return found

    above = sum(drift.population_stability_index(rows(400), rows(250)) > bound for _ in range(1500))
    assert 0.03 < above / 1500 < 0.07


def test_nothing_can_move_in_one_bin_or_without_rows() -> None:
    assert chance_psi(1, 10, 10, 0.01) == chance_psi(5, 0, 10, 0.01) == 0.0


def test_without_a_value_or_an_interval_no_loss_is_known() -> None:
    assert least_loss(quality(0.6, 0.1).model_copy(update={"interval": None})) is None
    assert least_loss(quality(0.6, 0.1).model_copy(update={"evaluated": None})) is None


def test_labels_are_looked_at_for_as_long_as_requests_at_least() -> None:
    with pytest.raises(ValidationError, match="label_hours"):
        Monitoring(window_hours=48, label_hours=24)


# --- The window ---------------------------------------------------------------------------------


@pytest.fixture
def story(settings: Settings, s3: Any, fake_registry: Any, make_trained: Any) -> Story:
    """Version 1 is the champion; captured requests take their time to arrive."""
    settings = settings.model_copy(update={"monitoring": Monitoring(settle_minutes=15)})
    story = Story(settings, s3, fake_registry, make_trained)
    story.promoted("a")
    fake_registry.aliases["champion"] = "1"
    return story


def test_the_window_of_a_run_is_the_same_on_every_try(story: Story) -> None:
    first = windows.prepare(story.settings, "parcels", NOW, RUN)
    assert first is not None
    content = storage.read_bytes(first["config"])
    assert windows.prepare(story.settings, "parcels", NOW, RUN) == first
    assert storage.read_bytes(first["config"]) == content
    assert windows.prepare(story.settings, "parcels", NOW, "monitor__parcels/b") != first
    watch = storage.read_document(first["config"], RunConfig).monitoring
    assert watch is not None
    assert watch.end == NOW - timedelta(minutes=story.settings.monitoring.settle_minutes)
    assert (watch.end - watch.start, watch.end - watch.labels_start) == (timedelta(hours=24), timedelta(hours=168))
    assert watch.capture_uri == first["input"] == f"s3://data/capture/{watch.endpoint_name}/{watch.endpoint_name}"
    assert watch.labels_uri == "s3://landing/labels/parcels"
    assert watch.unnamed_version == "1"


def test_answers_without_a_version_are_nobodys_after_a_deployment(story: Story) -> None:
    entry = AuditEntry(
        kind="deployed",
        at=NOW - timedelta(hours=30),
        dataset="parcels",
        registered_model="parcels",
        model_version="1",
        model_digest="d",
        evaluation_digest="e",
        by="jane",
        reason="approved",
        dag_run="deploy__parcels/x",
    )
    audit.append(story.settings, entry)
    found = windows.prepare(story.settings, "parcels", NOW, RUN)
    assert found is not None
    watch = storage.read_document(found["config"], RunConfig).monitoring
    assert watch is not None
    assert watch.unnamed_version is None


def test_without_a_champion_there_is_nothing_to_watch(story: Story, fake_registry: Any) -> None:
    fake_registry.aliases.clear()
    assert windows.prepare(story.settings, "parcels", NOW, RUN) is None


@pytest.mark.parametrize(("outcome", "told"), [("ok", False), ("too-few", False), ("drifted", True)])
def test_people_are_told_of_alarms_only(story: Story, outcome: Any, told: bool) -> None:
    result = MonitorResult(
        run_key="k",
        started_at=NOW,
        finished_at=NOW,
        endpoint_name="parcels",
        start=NOW - timedelta(hours=24),
        labels_start=NOW - timedelta(hours=48),
        end=NOW,
        requests=3,
        rows=300,
        malformed=0,
        versions=[],
        verdict=MonitoringVerdict(outcome=outcome, reasons=["version 1: feature weight has drifted"]),
        report_uri="s3://data/monitoring/parcels/w/report.html",
    )
    storage.write_document("s3://data/monitoring/parcels/w/result.json", result)
    verdict, message = windows.conclude(story.settings, "parcels", "s3://data/monitoring/parcels/w")
    assert verdict == result.verdict
    assert (message is not None) == told
    if message is not None:
        assert "feature weight has drifted" in message.text
        assert message.event == "monitoring"


# --- Retraining ---------------------------------------------------------------------------------


def test_the_family_that_is_live_is_trained_again(
    settings: Settings, s3: Any, fake_registry: Any, make_trained: Any
) -> None:
    story = Story(settings, s3, fake_registry, make_trained)
    assert settings.training.family != "linear"
    story.land("jan")
    paths = story.resolve("a", family="linear").paths
    story.validate(paths)
    story.train(paths, 0.8)
    fake_registry.aliases["champion"] = story.evaluate(paths, 0.8).candidate_version
    window = windows.prepare(settings, "parcels", NOW, RUN)
    assert window is not None
    wanted = retraining.parameters(window["config"])
    assert wanted == {"family": "linear", "wait_for_new_data": False}
    assert check_request(settings, {**PARAMS, **wanted}).family.name == "linear"


DRIFTED = MonitoringVerdict(outcome="drifted", reasons=["version 1: feature weight has drifted"])


def claim(
    settings: Settings, run: str = RUN, *, at: datetime = NOW, verdict: MonitoringVerdict = DRIFTED
) -> str | None:
    wanted = settings.model_copy(update={"monitoring": Monitoring(action="retrain", cool_down_hours=72)})
    return retraining.claim(wanted, "parcels", verdict, run, at)


def test_an_alarm_is_all_unless_the_settings_say_more(settings: Settings, s3: Any) -> None:
    assert "alarm only" in (retraining.claim(settings, "parcels", DRIFTED, RUN, NOW) or "")


@pytest.mark.parametrize("outcome", ["ok", "too-few"])
def test_nothing_is_retrained_without_an_alarm(settings: Settings, s3: Any, outcome: Any) -> None:
    assert outcome in (claim(settings, verdict=MonitoringVerdict(outcome=outcome, reasons=[])) or "")
    assert claim(settings) is None, "and it does not begin a cool-down"


def test_one_retraining_in_a_cool_down_and_the_same_run_has_it_again(settings: Settings, s3: Any) -> None:
    assert claim(settings) is None
    assert claim(settings) is None  # the task is tried again
    assert "2026-03-01 05:00" in (claim(settings, "b", at=NOW + timedelta(hours=71)) or "")
    assert claim(settings, "b", at=NOW + timedelta(hours=72)) is None
    assert claim(settings, "c", at=NOW + timedelta(hours=73)) is not None


def test_of_two_that_try_at_once_one_has_it(settings: Settings, s3: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    assert claim(settings) is None
    read, later = storage.read_stored, NOW + timedelta(hours=100)

    def overtaken(uri: str, kind: Any) -> Any:
        found = read(uri, kind)
        monkeypatch.setattr(storage, "read_stored", read)
        assert claim(settings, "other", at=later) is None
        return found

    monkeypatch.setattr(storage, "read_stored", overtaken)
    assert "another run" in (claim(settings, "b", at=later) or "")
