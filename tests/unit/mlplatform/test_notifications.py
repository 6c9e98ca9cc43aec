from __future__ import annotations

import json
from typing import Any

import boto3
import pytest

from mlplatform import notifications
from mlplatform.config import Notifications, Settings


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
    message = notifications.rejected("parcels", "7", ["roc_auc is 0.5", "worse"], ["http://mlflow/7", "Report: r"])
    assert notifications.send(with_topic(settings, topic), message)
    (received,) = read()
    assert received["Subject"] == "[local] parcels: version 7 was rejected"
    assert "- roc_auc is 0.5\n- worse\nhttp://mlflow/7\nReport: r" in received["Message"]
    assert received["MessageAttributes"]["event"]["Value"] == "rejected"


def test_a_long_subject_with_odd_characters_is_made_to_fit(settings: Settings, inbox: Any) -> None:
    topic, read = inbox
    long = notifications.Message(event="failed", subject="Zürich " * 40, lines=["x"])
    assert notifications.send(with_topic(settings, topic), long)
    (received,) = read()
    assert len(received["Subject"]) == 99
    assert received["Subject"].isascii()


def test_without_a_topic_the_message_is_only_logged(settings: Settings, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level("INFO"):
        assert not notifications.send(with_topic(settings, None), notifications.nothing_to_do("parcels", "done before"))
    assert "done before" in caplog.text


def test_a_dead_notifier_fails_nothing(
    settings: Settings, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "testing")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "testing")
    settings = with_topic(settings, "arn:aws:sns:us-east-1:123456789012:gone")
    assert not notifications.send(settings, notifications.nothing_to_do("parcels", "x"))
    assert "could not be sent" in caplog.text


def test_a_failure_names_run_task_reason_and_log() -> None:
    message = notifications.failed("parcels", "manual__1", "data.validate", "column x is missing", "http://log")
    assert message.subject == "parcels: training failed in data.validate"
    assert message.lines[0].startswith("The run manual__1 of train_model failed in data.validate.")
    assert message.lines[1:] == ["column x is missing", "Log: http://log"]
