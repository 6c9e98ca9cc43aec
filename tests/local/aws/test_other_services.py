"""STS, SNS, SQS and Secrets Manager, and the server's own pages."""

from __future__ import annotations

import json
import threading
import time
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import ClientError


def test_identity(aws: Any) -> None:
    assert aws.client("sts").get_caller_identity()["Account"] == "123456789012"


def test_sns_delivers_to_a_subscribed_queue(aws: Any, stage: Any) -> None:
    sns, sqs = aws.client("sns"), aws.client("sqs")
    topic = sns.create_topic(Name=f"topic-{stage.tag}")["TopicArn"]
    queue = sqs.create_queue(QueueName=f"queue-{stage.tag}")["QueueUrl"]
    arn = sqs.get_queue_attributes(QueueUrl=queue, AttributeNames=["QueueArn"])["Attributes"]["QueueArn"]
    sns.subscribe(TopicArn=topic, Protocol="sqs", Endpoint=arn)
    sns.publish(TopicArn=topic, Subject="deployed", Message="flights 3")
    message = sqs.receive_message(QueueUrl=queue, WaitTimeSeconds=5)["Messages"][0]
    body = json.loads(message["Body"])
    assert (body["Subject"], body["Message"], body["TopicArn"]) == ("deployed", "flights 3", topic)
    sqs.delete_message(QueueUrl=queue, ReceiptHandle=message["ReceiptHandle"])


def test_a_long_poll_keeps_nobody_from_sending(aws: Any, stage: Any) -> None:
    sqs = aws.client("sqs")
    queue = sqs.create_queue(QueueName=f"queue-{stage.tag}")["QueueUrl"]
    sender = threading.Timer(0.3, lambda: sqs.send_message(QueueUrl=queue, MessageBody="hello"))
    sender.start()
    began = time.monotonic()
    messages = sqs.receive_message(QueueUrl=queue, WaitTimeSeconds=10)["Messages"]
    sender.join()
    assert [m["Body"] for m in messages] == ["hello"]
    assert time.monotonic() - began < 5


def test_secrets(aws: Any, stage: Any) -> None:
    secrets = aws.client("secretsmanager")
    secrets.create_secret(Name=stage.tag, SecretString="s3cret")
    assert secrets.get_secret_value(SecretId=stage.tag)["SecretString"] == "s3cret"
    with pytest.raises(ClientError, match="ResourceNotFoundException"):
        secrets.get_secret_value(SecretId="none")


def test_health_names_the_services(aws: Any) -> None:
    health = aws.http.get("/_local/health").json()
    assert health["status"] == "ok"
    assert {"s3", "sqs", "sns", "sts", "sagemaker"} <= set(health["services"])


@pytest.mark.parametrize(
    ("body", "named"),
    [
        ({"kind": "no-such-fault"}, "kind"),
        ({"kind": "update-fails", "times": 0}, "times"),
        ({"kind": "update-fails", "endpont": "x"}, "endpont"),
        ({}, "kind"),
    ],
)
def test_a_bad_fault_is_refused_by_name(aws: Any, body: dict[str, Any], named: str) -> None:
    answer = aws.http.post("/_local/faults", json=body)
    assert answer.status_code == 400
    assert named in answer.json()["message"]


def test_access_log_has_a_line_per_request(aws: Any) -> None:
    aws.http.get("/_local/health?marker=4711")
    time.sleep(0.1)
    lines = [line for line in (aws.state_dir / "access.log").read_text().splitlines() if "4711" in line]
    assert len(lines) == 1
    assert " GET /_local/health?marker=4711 200 " in lines[0]
    assert "4711" not in (aws.state_dir / "server.log").read_text()


def test_model_data_can_be_in_another_s3(stage: Any, start_aws: Any, tmp_path: Path) -> None:
    other = start_aws(tmp_path, "--s3-endpoint", stage.aws.url)
    other.upload = stage.upload  # models are made here, their data is there
    endpoint = other.endpoint(other.config(other.model({"answer.txt": '"from elsewhere"'})))
    assert other.settle(endpoint)["EndpointStatus"] == "InService"
