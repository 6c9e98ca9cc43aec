"""Data capture: objects in S3 as the real service writes them."""

from __future__ import annotations

import base64
import json
import re
import time
import uuid
from pathlib import Path
from typing import Any

import pytest

from local.aws.sagemaker.capture import Captured, Message, record

BOTH = [{"CaptureMode": "Input"}, {"CaptureMode": "Output"}]
HEADERS = {"CsvContentTypes": ["text/csv"], "JsonContentTypes": ["application/json"]}
KEY = re.compile(r"[^/]+/variant-0/\d{4}/\d\d/\d\d/\d\d/\d\d-\d\d-\d{3}-[0-9a-f-]{36}\.jsonl")


def capturing(stage: Any, prefix: str = "capture/x", **changes: Any) -> str:
    """Create an endpoint that captures everything under a prefix, and return its name."""
    capture = {
        "InitialSamplingPercentage": 100,
        "DestinationS3Uri": f"s3://{stage.bucket}/{prefix}",
        "CaptureOptions": BOTH,
        "CaptureContentTypeHeader": HEADERS,
        **changes,
    }
    variant = {
        "VariantName": "variant-0",
        "ModelName": stage.model({"answer.txt": "yes"}),
        "InstanceType": "ml.m5.large",
        "InitialInstanceCount": 1,
    }
    name = f"capture-{uuid.uuid4().hex[:8]}"
    stage.sm.create_endpoint_config(EndpointConfigName=name, ProductionVariants=[variant], DataCaptureConfig=capture)
    endpoint: str = stage.endpoint(name)
    return endpoint


def captured(stage: Any, prefix: str, count: int, seconds: float = 10.0) -> tuple[list[str], list[dict[str, Any]]]:
    """Wait for that many records and return the keys under the prefix and all records."""
    deadline = time.monotonic() + seconds
    while True:
        found = stage.s3.list_objects_v2(Bucket=stage.bucket, Prefix=prefix).get("Contents", [])
        keys = [item["Key"] for item in found]
        lines = [
            line
            for key in keys
            for line in stage.s3.get_object(Bucket=stage.bucket, Key=key)["Body"].read().decode().splitlines()
        ]
        if len(lines) >= count or time.monotonic() > deadline:
            return keys, [json.loads(line) for line in lines]
        time.sleep(0.1)


def test_a_request_and_its_answer_are_written(stage: Any) -> None:
    key = "arn:aws:kms:us-east-1:123456789012:key/1234abcd-12ab-34cd-56ef-1234567890ab"
    endpoint = capturing(stage, "/deep/er/", KmsKeyId=key)
    stage.invoke(endpoint, b'{"a": 1}', InferenceId="id-1", CustomAttributes="c=1")
    stage.invoke(endpoint, b"1,2\n", ContentType="text/csv")
    stage.aws.fault("invoke-5xx", endpoint)
    with pytest.raises(stage.runtime.exceptions.ModelError):
        stage.invoke(endpoint, b"lost")
    keys, records = captured(stage, "deep/er/", 2)
    assert all(KEY.fullmatch(key.removeprefix("deep/er/")) for key in keys), keys
    assert keys[0].startswith(f"deep/er/{endpoint}/variant-0/")
    first, second = sorted(records, key=lambda line: line["captureData"]["endpointInput"]["encoding"], reverse=True)
    answer = {"answer": "yes", "headers": ["application/json", ""]}
    assert first["eventVersion"] == "0"
    assert first["captureData"]["endpointInput"] == {
        "observedContentType": "application/json",
        "mode": "INPUT",
        "data": '{"a": 1}',
        "encoding": "JSON",
    }
    assert first["captureData"]["endpointOutput"]["mode"] == "OUTPUT"
    assert json.loads(first["captureData"]["endpointOutput"]["data"]) == answer
    assert first["eventMetadata"]["inferenceId"] == "id-1"
    assert first["eventMetadata"]["customAttributes"] == ["c=1"]
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", first["eventMetadata"]["inferenceTime"])
    assert uuid.UUID(first["eventMetadata"]["eventId"])
    assert second["captureData"]["endpointInput"]["data"] == "1,2\n"
    assert second["captureData"]["endpointInput"]["encoding"] == "CSV"
    assert "inferenceId" not in second["eventMetadata"]
    assert stage.s3.head_object(Bucket=stage.bucket, Key=keys[0])["SSEKMSKeyId"] == key
    shown = stage.sm.describe_endpoint(EndpointName=endpoint)["DataCaptureConfig"]
    assert (shown["EnableCapture"], shown["CaptureStatus"], shown["CurrentSamplingPercentage"]) == (
        True,
        "Started",
        100,
    )


def test_what_is_not_asked_for_is_not_captured(stage: Any) -> None:
    for prefix, changes in (("off", {"EnableCapture": False}), ("none", {"InitialSamplingPercentage": 0})):
        endpoint = capturing(stage, prefix, **changes)
        stage.invoke(endpoint)
        shown = stage.sm.describe_endpoint(EndpointName=endpoint)["DataCaptureConfig"]["CaptureStatus"]
        assert shown == ("Stopped" if prefix == "off" else "Started")
    time.sleep(1.2)  # longer than this server waits with a file
    assert captured(stage, "off", 1, 0)[1] == []
    assert captured(stage, "none", 1, 0)[1] == []


def test_half_of_the_requests_are_captured(stage: Any) -> None:
    endpoint = capturing(stage, "half", InitialSamplingPercentage=50)
    for _ in range(80):
        stage.invoke(endpoint)
    time.sleep(1.2)
    keys, records = captured(stage, "half", 1)
    assert 18 <= len(records) <= 62  # 40 expected, sigma 4.5
    assert len(keys) < 10


def test_a_bucket_that_is_gone_costs_records_and_no_answers(stage: Any) -> None:
    endpoint = capturing(stage, "x", DestinationS3Uri="s3://no-such-bucket-here/x")
    for _ in range(5):
        began = time.monotonic()
        assert stage.invoke(endpoint)["answer"] == "yes"
        assert time.monotonic() - began < 2
    time.sleep(1.2)
    assert stage.invoke(endpoint)["answer"] == "yes"
    assert "s3://no-such-bucket-here/x/" in (stage.aws.state_dir / "server.log").read_text()


def test_what_waits_is_written_when_the_server_stops(stage: Any, start_aws: Any, tmp_path: Path) -> None:
    other = start_aws(tmp_path, "--s3-endpoint", stage.aws.url, "--capture-seconds", "3600")
    other.upload, other.bucket = stage.upload, stage.bucket
    other.invoke(capturing(other, "stopped"))
    assert captured(stage, "stopped", 1, 0)[1] == []
    assert other.aws.stop() == 0
    assert len(captured(stage, "stopped", 1)[1]) == 1


@pytest.mark.parametrize("uri", ["https://bucket/x", "s3:///"])
def test_a_destination_that_is_no_bucket_is_refused(stage: Any, uri: str) -> None:
    with pytest.raises(stage.sm.exceptions.ClientError, match=r"DestinationS3Uri|destinationS3Uri"):
        capturing(stage, DestinationS3Uri=uri)


def example(config: dict[str, Any], body: bytes, content_type: str) -> dict[str, Any]:
    message = Message(body, content_type)
    data: dict[str, Any] = record(Captured("e", "v", config, message, message))["captureData"]
    return data


def test_what_no_header_names_is_base64() -> None:
    data = example({"CaptureOptions": BOTH}, b"\xff\x00", "text/csv")
    assert data["endpointInput"]["encoding"] == "BASE64"
    assert base64.b64decode(data["endpointInput"]["data"]) == b"\xff\x00"


def test_a_content_type_may_have_parameters() -> None:
    config = {"CaptureOptions": [{"CaptureMode": "InputAndOutput"}], "CaptureContentTypeHeader": HEADERS}
    data = example(config, b"1", "Text/CSV; charset=utf-8")
    assert set(data) == {"endpointInput", "endpointOutput"}
    assert data["endpointInput"]["encoding"] == "CSV"
    assert data["endpointInput"]["observedContentType"] == "Text/CSV; charset=utf-8"


def test_one_side_only() -> None:
    assert set(example({"CaptureOptions": [{"CaptureMode": "Output"}]}, b"1", "")) == {"endpointOutput"}
