"""The data plane with the real code: a file lands, is announced, awaited, checked and prepared. In this order."""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from local.datasets import flights
from mlplatform.documents.results import PrepareResult, StepFailure, ValidateResult


def receive(applied: Any, seconds: float = 20) -> list[dict[str, Any]]:
    """Return the events in the landing queue, waiting for the first one."""
    sqs, url = applied.client("sqs"), applied.outputs["landing_queue_url"]
    events = []
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        for message in sqs.receive_message(QueueUrl=url, WaitTimeSeconds=1, MaxNumberOfMessages=10).get("Messages", []):
            sqs.delete_message(QueueUrl=url, ReceiptHandle=message["ReceiptHandle"])
            events += json.loads(message["Body"]).get("Records", [])
        if events:
            return events
    return events


def read(applied: Any, uri: str) -> bytes:
    bucket, _, key = uri.removeprefix("s3://").partition("/")
    content: bytes = applied.client("s3").get_object(Bucket=bucket, Key=key)["Body"].read()
    return content


def keys(applied: Any, purpose: str, prefix: str = "") -> list[str]:
    listed = applied.client("s3").list_objects_v2(Bucket=applied.bucket(purpose), Prefix=prefix)
    return [entry["Key"] for entry in listed.get("Contents", [])]


@pytest.fixture
def spoiled(applied: Any) -> Iterator[str]:
    """A landing file that is no Parquet file, gone afterwards."""
    s3, key = applied.client("s3"), "flights/planes/spoiled.parquet"
    s3.put_object(Bucket=applied.bucket("landing"), Key=key, Body=b"not parquet")
    yield key
    s3.delete_object(Bucket=applied.bucket("landing"), Key=key)


def test_a_landed_file_is_encrypted_versioned_and_announced(applied: Any, spoiled: str) -> None:
    s3, landing = applied.client("s3"), applied.bucket("landing")
    head = s3.head_object(Bucket=landing, Key=spoiled)
    assert (head["ServerSideEncryption"], head["SSEKMSKeyId"]) == ("aws:kms", applied.key)
    assert head["BucketKeyEnabled"]
    assert head["VersionId"] != "null"
    (event,) = receive(applied)
    assert event["eventName"] == "ObjectCreated:Put"
    assert event["s3"]["bucket"]["name"] == landing
    assert event["s3"]["object"]["key"] == spoiled
    assert event["s3"]["object"]["versionId"] == head["VersionId"]


def test_a_file_written_with_the_key_by_name_is_announced_too(applied: Any) -> None:
    s3, landing = applied.client("s3"), applied.bucket("landing")
    named = {"ServerSideEncryption": "aws:kms", "SSEKMSKeyId": applied.key}
    s3.put_object(Bucket=landing, Key="other/table/a.parquet", Body=b"x", **named)
    (event,) = receive(applied)
    assert event["s3"]["object"]["key"] == "other/table/a.parquet"
    s3.delete_object(Bucket=landing, Key="other/table/a.parquet")


def test_what_is_no_data_file_is_not_announced(applied: Any) -> None:
    s3, landing = applied.client("s3"), applied.bucket("landing")
    s3.put_object(Bucket=landing, Key="flights/planes/readme.txt", Body=b"x")
    s3.delete_object(Bucket=landing, Key="flights/planes/readme.txt")
    assert receive(applied, seconds=2) == []


@pytest.fixture(scope="module")
def waited(applied: Any, bundle: Path) -> tuple[list[str], list[str]]:
    """What the sensor said while the month's files landed, and the keys that were announced."""
    process = subprocess.Popen(
        applied.airflow(bundle, "wait"),
        env=applied.environment(bundle.parent),
        cwd=bundle.parent,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stdout is not None
        said = []
        for line in process.stdout:
            said.append(line.strip())
            if said[-1] == "deferred":
                break
        flights.land(1, applied.client("s3"), applied.bucket("landing"))
        rest, errors = process.communicate(timeout=120)
    finally:
        process.kill()
        process.wait()
    assert process.returncode == 0, "\n".join(said) + rest + errors
    announced: list[str] = []
    while len(announced) < len(flights.TABLES) and (events := receive(applied, seconds=10)):
        announced += [event["s3"]["object"]["key"] for event in events]
    return said + rest.splitlines(), announced


def test_the_sensor_defers_until_the_file_is_there(applied: Any, waited: tuple[list[str], list[str]]) -> None:
    said, announced = waited
    landing = applied.bucket("landing")
    assert f"waiting for s3://{landing}/flights/flights/*.parquet" in said
    assert "deferred" in said
    assert said[-1] == "came: success"
    assert sorted(announced) == sorted(flights.landing_key(table, 1) for table in flights.TABLES)


@pytest.fixture(scope="module")
def prefix(applied: Any, bundle: Path, waited: tuple[list[str], list[str]]) -> str:
    """The run, its inputs fixed by the DAG's code."""
    found: str = applied.run_airflow(bundle, "resolve")
    return found


@pytest.fixture(scope="module")
def validated(applied: Any, prefix: str) -> str:
    done = applied.run_step("validate", prefix)
    assert done.returncode == 0, done.stdout + done.stderr
    return prefix


@pytest.fixture(scope="module")
def settled(applied: Any, bundle: Path, validated: str) -> str:
    """What became of the landed files."""
    told: str = applied.run_airflow(bundle, "settle", validated)
    return told


def test_the_run_is_pinned_to_the_versions_that_landed(applied: Any, prefix: str) -> None:
    assert prefix.startswith(f"s3://{applied.bucket('data')}/runs/flights/")
    objects = json.loads(read(applied, f"{prefix}/run.json"))
    assert (objects["state"], objects["owner"]) == ("running", "train__flights/manual__localstack")


def test_the_step_validate_writes_its_result(applied: Any, validated: str) -> None:
    result = ValidateResult.model_validate_json(read(applied, f"{validated}/validate/result.json"))
    assert sorted(report.table for report in result.files) == sorted(flights.TABLES)
    assert all(report.rows > 1000 for report in result.files)
    again = applied.run_step("validate", validated)
    assert again.returncode == 0
    assert "nothing to do" in again.stdout


def test_validated_files_move_to_the_data_bucket_under_the_same_key(applied: Any, settled: str) -> None:
    assert settled == "3 new files accepted"
    assert keys(applied, "landing", "flights/") == []
    moved = [f"raw/{flights.landing_key(table, 1)}" for table in flights.TABLES]
    assert keys(applied, "data", "raw/") == sorted(moved)
    head = applied.client("s3").head_object(Bucket=applied.bucket("data"), Key=moved[0])
    assert (head["ServerSideEncryption"], head["SSEKMSKeyId"]) == ("aws:kms", applied.key)


def test_the_step_prepare_reads_what_was_accepted(applied: Any, validated: str, settled: str) -> None:
    done = applied.run_step("prepare", validated)
    assert done.returncode == 0, done.stdout + done.stderr
    result = PrepareResult.model_validate_json(read(applied, f"{validated}/prepare/result.json"))
    assert result.train.rows > result.test.rows > 1000
    for uri in (*result.train.uris, *result.validation.uris, *result.test.uris):
        assert read(applied, uri)[:4] == b"PAR1"
        key = uri.removeprefix(f"s3://{applied.bucket('data')}/")
        head = applied.client("s3").head_object(Bucket=applied.bucket("data"), Key=key)
        assert head["SSEKMSKeyId"] == applied.key


def test_a_spoiled_file_is_refused_by_the_step_and_quarantined_by_the_dag(
    applied: Any, bundle: Path, settled: str, spoiled: str
) -> None:
    prefix = applied.run_airflow(bundle, "resolve")
    done = applied.run_step("validate", prefix)
    assert done.returncode == 64, done.stdout + done.stderr
    failure = StepFailure.model_validate_json(read(applied, f"{prefix}/validate/error.json"))
    assert failure.subjects == [f"s3://{applied.bucket('landing')}/{spoiled}"]
    assert applied.run_airflow(bundle, "settle", prefix).startswith("moved to quarantine: ")
    assert keys(applied, "landing") == [f"quarantine/{spoiled}", f"quarantine/{spoiled}.reason.json"]
