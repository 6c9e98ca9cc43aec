from __future__ import annotations

import json
import socket
import time
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

import boto3
import pytest

from mlplatform.config.environment import Email, Notifications, Settings, Slack
from mlplatform.orchestration import notifications
from mlplatform.people import messages
from mlplatform.people.messages import Message


def with_topic(settings: Settings, arn: str | None) -> Settings:
    return settings.model_copy(update={"notifications": Notifications(topic_arn=arn)})


@pytest.fixture
def inbox(s3: Any) -> tuple[str, Any]:
    topic = boto3.client("sns", region_name="us-east-1").create_topic(Name="t")["TopicArn"]
    sqs = boto3.client("sqs", region_name="us-east-1")
    queue = sqs.create_queue(QueueName="q")["QueueUrl"]
    boto3.client("sns", region_name="us-east-1").subscribe(
        TopicArn=topic, Protocol="sqs", Endpoint="arn:aws:sqs:us-east-1:123456789012:q"
    )

    def read() -> list[dict[str, Any]]:
        return [json.loads(m["Body"]) for m in sqs.receive_message(QueueUrl=queue).get("Messages", [])]

    return topic, read


def test_a_rejection_is_told_with_its_reasons(settings: Settings, inbox: Any) -> None:
    topic, read = inbox
    message = messages.rejected("parcels", "7", ["roc_auc is 0.5", "worse"], ["http://mlflow/7", "Report: r"])
    assert notifications.send(with_topic(settings, topic), message)
    (received,) = read()
    assert received["Subject"] == "[local] parcels: version 7 was rejected"
    assert "- roc_auc is 0.5\n- worse\nhttp://mlflow/7\nReport: r" in received["Message"]
    assert received["MessageAttributes"]["event"]["Value"] == "rejected"


def test_a_long_subject_with_odd_characters_is_made_to_fit(settings: Settings, inbox: Any) -> None:
    topic, read = inbox
    long = Message(event="failed", subject="Zürich " * 40, lines=["x"])
    assert notifications.send(with_topic(settings, topic), long)
    (received,) = read()
    assert len(received["Subject"]) == 99
    assert received["Subject"].isascii()


def test_without_a_topic_the_message_is_only_logged(settings: Settings, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level("INFO"):
        assert not notifications.send(with_topic(settings, None), messages.nothing_to_do("parcels", "done before"))
    assert "done before" in caplog.text


def test_a_dead_notifier_fails_nothing(
    settings: Settings, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "testing")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "testing")
    settings = with_topic(settings, "arn:aws:sns:us-east-1:123456789012:gone")
    assert not notifications.send(settings, messages.nothing_to_do("parcels", "x"))
    assert "could not be sent" in caplog.text


def test_a_notifier_that_hangs_is_given_up(
    settings: Settings, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A server that takes connections and never answers."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{server.getsockname()[1]}")
        monkeypatch.setenv("AWS_ACCESS_KEY_ID", "testing")
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "testing")
        told = Notifications(topic_arn="arn:aws:sns:us-east-1:123456789012:slow", timeout_seconds=0.3)
        hanging = settings.model_copy(update={"notifications": told})
        started = time.monotonic()
        assert not notifications.send(hanging, messages.nothing_to_do("parcels", "x"))
        assert time.monotonic() - started < 3, "far less than the library would wait"
    assert "no answer in 0.3 s" in caplog.text


def ways(monkeypatch: pytest.MonkeyPatch, broken: Mapping[str, BaseException] = MappingProxyType({})) -> list[str]:
    taken: list[str] = []

    def way(name: str) -> Callable[..., None]:
        def take(*args: object) -> None:
            taken.append(name)
            if name in broken:
                raise broken[name]

        return take

    for kind in notifications.CHANNELS:
        monkeypatch.setattr(kind, "send", way(kind.name))
    return taken


def everywhere(settings: Settings) -> Settings:
    told = Notifications(
        topic_arn="arn",
        topic_events=["failed", "deployed"],
        slack=Slack(connection="s", events=["failed", "approval-wanted"]),
        email=Email(connection="m", recipients=["a@example.org"], events=["failed"]),
    )
    return settings.model_copy(update={"notifications": told})


def test_each_kind_of_event_goes_where_it_is_wanted(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    taken = ways(monkeypatch)
    settings = everywhere(settings)
    assert notifications.send(settings, messages.failed("p", "r", None, "x", None, "train__p"))
    assert sorted(taken) == ["SNS", "Slack", "e-mail"]
    taken.clear()
    assert notifications.send(settings, messages.approval_wanted("p", "1", [], 20, []))
    assert taken == ["Slack"]
    assert not notifications.send(settings, messages.nothing_to_do("p", "x"))


@pytest.mark.parametrize("error", [ConnectionError("away"), SystemExit(1), ModuleNotFoundError("no provider")])
def test_one_dead_way_does_not_keep_the_others_from_it(
    settings: Settings, monkeypatch: pytest.MonkeyPatch, error: BaseException
) -> None:
    taken = ways(monkeypatch, {"SNS": error, "e-mail": error})
    assert notifications.send(everywhere(settings), messages.failed("p", "r", None, "x", None, "train__p"))
    assert sorted(taken) == ["SNS", "Slack", "e-mail"]


def test_a_failure_names_run_task_reason_and_log() -> None:
    message = messages.failed(
        "parcels", "manual__1", "data.validate", "column x is missing", "http://log", "train__parcels"
    )
    assert message.subject == "parcels: training failed in data.validate"
    assert message.lines[0].startswith("The run manual__1 of train__parcels failed in data.validate.")
    assert message.lines[1:] == ["column x is missing", "Log: http://log"]
