from __future__ import annotations

from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any

import pytest

from mlplatform import storage
from mlplatform.config.loading import load_settings
from mlplatform.documents.paths import RunPaths
from mlplatform.documents.run import RunRecord, Turn
from mlplatform.ingest import claims, turns
from mlplatform.orchestration import callbacks, notifications
from mlplatform.people.messages import Message
from mlplatform.training import tracking

PATHS = RunPaths.of("data", "parcels", "key")
TRAIN = "train__parcels"
OWNER = f"{TRAIN}/run"


@pytest.fixture
def sent(monkeypatch: pytest.MonkeyPatch) -> list[Message]:
    messages: list[Message] = []
    monkeypatch.setattr(notifications, "send", lambda settings, message: messages.append(message))
    return messages


@pytest.fixture
def claimed(s3: Any, bundle: Any, fake_registry: Any) -> None:
    wanted = RunRecord(run_key="key", dataset="parcels", owner=OWNER, state="running", started_at=datetime.now(UTC))
    claims.claim(PATHS, "data", wanted, lambda owner: False)


def context(task: str, message: str, map_index: int = -1) -> dict[str, Any]:
    instance = SimpleNamespace(task_id=task, map_index=map_index, log_url=f"http://log/{task}", dag_id=TRAIN)
    return {"run_id": "run", "ti": instance, "exception": RuntimeError(message)}


def of_run(**facts: Any) -> dict[str, Any]:
    return {"run_id": "run", "dag": SimpleNamespace(dag_id=TRAIN), **facts}


@pytest.mark.usefixtures("claimed")
def test_a_failed_run_is_marked_and_told_with_the_task_at_fault(sent: list[Message]) -> None:
    callbacks.task_failed(context("training.train", "one trial broke", map_index=2))
    callbacks.task_failed(context("data.prepare", "disk full"))
    callbacks.run_failed(of_run(reason="task_failure", ti=SimpleNamespace(task_id="notify")))
    record = storage.read_document(PATHS.record, RunRecord)
    assert (record.state, record.failed_task, record.reasons) == ("failed", "data.prepare", ["disk full"])
    assert record.finished_at is not None
    assert [message.event for message in sent] == ["failed"]
    assert "disk full" in sent[0].text
    assert "http://log/data.prepare" in sent[0].text
    assert claims.failures(PATHS) == []


@pytest.mark.usefixtures("claimed")
def test_a_run_that_timed_out_without_a_failed_task_is_told_too(sent: list[Message]) -> None:
    callbacks.run_failed(of_run(reason="timed_out"))
    assert storage.read_document(PATHS.record, RunRecord).state == "failed"
    assert "timed_out" in sent[0].text


@pytest.mark.usefixtures("s3", "bundle")
def test_a_run_that_failed_before_it_claimed_anything_is_told(
    sent: list[Message], monkeypatch: pytest.MonkeyPatch
) -> None:
    callbacks.task_failed(context("ingest.wait_for_data", "no family"))
    callbacks.run_failed(of_run())
    assert sent[0].subject == "parcels: training failed"


@pytest.mark.usefixtures("claimed")
def test_somebody_else_s_run_is_not_marked(sent: list[Message]) -> None:
    taken = RunRecord(
        run_key="key", dataset="parcels", owner=f"{TRAIN}/heir", state="running", started_at=datetime.now(UTC)
    )
    claims.claim(PATHS, "data", taken, lambda owner: False)
    callbacks.run_failed(of_run(reason="timed_out"))
    assert storage.read_document(PATHS.record, RunRecord).state == "running"
    assert len(sent) == 1


@pytest.mark.usefixtures("claimed", "sent")
@pytest.mark.parametrize(("before", "after"), [("RUNNING", "FAILED"), ("FINISHED", "FINISHED")])
def test_the_search_of_a_failed_run_is_closed_unless_it_was_over(fake_registry: Any, before: str, after: str) -> None:
    tracking.open_search("http://mlflow.invalid", "parcels", "key", {}, {})
    (search,) = fake_registry.runs.values()
    search.info.status = before
    callbacks.task_failed(context("data.prepare", "disk full"))
    callbacks.run_failed(of_run())
    assert search.info.status == after
    assert search.tags.get("failure") == ("disk full" if after == "FAILED" else None)


@pytest.mark.usefixtures("claimed")
def test_people_are_told_even_if_the_tracking_server_is_away(
    sent: list[Message], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def away(uri: str) -> None:
        raise ConnectionError(uri)

    monkeypatch.setattr(tracking, "client", away)
    callbacks.run_failed(of_run(reason="timed_out"))
    assert [message.event for message in sent] == ["failed"]
    assert "the run itself is not affected" in caplog.text


@pytest.mark.usefixtures("claimed", "sent")
@pytest.mark.parametrize(("holder", "left"), [(OWNER, None), (f"{TRAIN}/heir", f"{TRAIN}/heir")])
def test_a_failed_run_gives_back_its_own_turn_and_no_other(holder: str, left: str | None) -> None:
    assert turns.take("data", "parcels", holder, lambda owner: True) is None
    callbacks.run_failed(of_run(reason="timed_out"))
    assert storage.read_document("s3://data/runs/_turns/parcels.json", Turn).owner == left


@pytest.mark.usefixtures("claimed")
def test_people_are_told_in_the_dataset_s_own_way(bundle: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[Any] = []
    monkeypatch.setattr(notifications, "send", lambda settings, message: told.append(settings.notifications))
    file = bundle / "config" / "models" / "parcels.yaml"
    file.write_text(file.read_text() + "settings: {notifications: {topic_events: [failed]}}\n")
    callbacks.run_failed(of_run(reason="timed_out"))
    file.write_text("broken since")
    callbacks.run_failed(of_run(reason="timed_out"))
    of_its_own, of_all = told
    assert of_its_own.topic_events == ["failed"]
    assert of_all == load_settings().notifications


def deployment_context(task: str, **facts: Any) -> dict[str, Any]:
    instance = SimpleNamespace(task_id=task, map_index=0, log_url=f"http://log/{task}", dag_id="deploy__parcels")
    dag = SimpleNamespace(dag_id="deploy__parcels")
    return {"run_id": "run", "ti": instance, "dag": dag, "exception": RuntimeError("no version is named"), **facts}


@pytest.mark.usefixtures("s3", "bundle")
@pytest.mark.parametrize(
    ("task", "told"),
    [("resolve_request", True), ("deployment.conclude", True), ("deployment.deploy", False), (None, True)],
)
def test_a_failed_deployment_is_told_once(sent: list[Message], task: str | None, told: bool) -> None:
    if task:
        callbacks.deployment_task_failed(deployment_context(task))
    callbacks.deployment_run_failed(deployment_context("x", reason="timed_out"))
    assert bool(sent) is told, "a failure within the deployment is told by a task of its own"
    if told:
        assert sent[0].subject.startswith("parcels: deploy__parcels failed")
        assert ("no version is named" if task else "timed_out") in sent[0].text


@pytest.mark.parametrize(
    "callback",
    [
        callbacks.task_failed,
        callbacks.run_failed,
        callbacks.deployment_task_failed,
        callbacks.deployment_run_failed,
    ],
)
def test_callbacks_never_raise(callback: Any, caplog: pytest.LogCaptureFixture) -> None:
    callback({})
    assert "the run itself is not affected" in caplog.text
