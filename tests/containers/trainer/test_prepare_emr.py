"""Spark on EMR Serverless: the service's own request and response schemas, without the service."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import pytest
from botocore.stub import ANY, Stubber
from helpers import Run, depots, parcels, parquet

from mlplatform.config.environment import Preparation, Spark
from mlplatform.steps import StepContext
from mlplatform.storage import client, list_objects, read_bytes, write_bytes
from trainer import inputs, shutdown
from trainer.preparation import distributed, emr

SPARK = Spark(application_id="00f1abc", execution_role_arn="arn:aws:iam::123456789012:role/spark")
WHERE = {"applicationId": "00f1abc"}
JOB = "00f2def"


@pytest.fixture
def service() -> Iterator[Stubber]:
    with Stubber(emr.client("us-east-1")) as stubber:
        yield stubber
        stubber.assert_no_pending_responses()


def run_state(state: str, details: str = "-") -> dict[str, Any]:
    return {
        "jobRun": {
            **WHERE,
            "jobRunId": JOB,
            "arn": f"arn:aws:emr-serverless:us-east-1:123456789012:/applications/00f1abc/jobruns/{JOB}",
            "createdBy": "arn:aws:iam::123456789012:role/preparer",
            "createdAt": 0,
            "updatedAt": 0,
            "executionRole": SPARK.execution_role_arn,
            "state": state,
            "stateDetails": details,
            "releaseLabel": "emr-7.9.0",
            "jobDriver": {"sparkSubmit": {"entryPoint": "s3://data/job.py"}},
        }
    }


def summary(name: str) -> dict[str, Any]:
    run = run_state("RUNNING")["jobRun"]
    kept = {key: run[key] for key in ("applicationId", "arn", "createdBy", "createdAt", "updatedAt", "executionRole")}
    return {**kept, "id": JOB, "name": name, "state": "RUNNING", "stateDetails": "-", "releaseLabel": "emr-7.9.0"}


def expect(service: Stubber, *states: tuple[str, str], running: list[str] | None = None, starts: bool = True) -> None:
    listed = {"jobRuns": [summary(name) for name in running or []]}
    service.add_response("list_job_runs", listed, {**WHERE, "states": emr._ALIVE})
    if starts:
        service.add_response(
            "start_job_run",
            {**WHERE, "jobRunId": JOB, "arn": run_state("SUBMITTED")["jobRun"]["arn"]},
            {
                **WHERE,
                "clientToken": ANY,
                "executionRoleArn": SPARK.execution_role_arn,
                "name": "prepare-r1",
                "jobDriver": {
                    "sparkSubmit": {
                        "entryPoint": "s3://data/job.py",
                        "entryPointArguments": ["s3://data/job.json", "x"],
                    }
                },
                "configurationOverrides": {
                    "monitoringConfiguration": {"s3MonitoringConfiguration": {"logUri": "s3://l/"}}
                },
                "executionTimeoutMinutes": 60,
            },
        )
    for state, details in states:
        service.add_response("get_job_run", run_state(state, details), {**WHERE, "jobRunId": JOB})


def start(service: Stubber, sleep: Any = lambda seconds: None) -> None:
    emr.run_job(
        service.client,
        SPARK,
        name="prepare-r1",
        script_uri="s3://data/job.py",
        arguments=["s3://data/job.json", "x"],
        log_uri="s3://l/",
        timeout_minutes=60,
        sleep=sleep,
    )


def test_a_job_is_started_and_followed_until_it_has_succeeded(
    service: Stubber, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    waits: list[float] = []
    expect(service, ("SUBMITTED", "-"), ("RUNNING", "-"), ("RUNNING", "-"), ("SUCCESS", "-"), running=["prepare-other"])
    start(service, waits.append)
    assert waits == [emr.POLL_SECONDS] * 3
    told = [record.message for record in caplog.records if record.name == emr.__name__]
    assert [message.split(": ")[-1].strip() for message in told[1:]] == ["submitted -", "running -", "success -"]


@pytest.mark.parametrize("state", ["FAILED", "CANCELLED"])
def test_a_job_that_does_not_succeed_says_why(service: Stubber, state: str) -> None:
    expect(service, ("RUNNING", "-"), (state, "Job failed, please check complete logs: ExecutorLostFailure"))
    with pytest.raises(
        emr.JobFailed, match=rf"{JOB}.*{state.lower()}.*ExecutorLostFailure; its logs are under s3://l/"
    ):
        start(service)


def test_a_job_that_an_earlier_attempt_left_running_is_followed(service: Stubber) -> None:
    expect(service, ("RUNNING", "-"), ("SUCCESS", "-"), running=["prepare-other", "prepare-r1"], starts=False)
    start(service)


def test_a_job_is_cancelled_when_the_process_is_told_to_stop(service: Stubber) -> None:
    expect(service, ("RUNNING", "-"))
    service.add_response("cancel_job_run", {**WHERE, "jobRunId": JOB}, {**WHERE, "jobRunId": JOB})

    class Stopped(Exception):
        pass

    def sleep(seconds: float) -> None:
        shutdown._clean_up()  # what the handler of SIGTERM does before it ends the process
        raise Stopped

    with pytest.raises(Stopped):
        start(service, sleep)
    assert shutdown._actions == []


def test_spark_reads_the_pinned_version_where_it_is_and_a_copy_where_it_is_not_the_latest(run: Run) -> None:
    run.land("depots", parquet(depots()))
    again = client().put_object(Bucket="landing", Key=run.objects[0].key, Body=b"landed again")
    assert again["VersionId"] != run.objects[0].version_id
    run.land("parcels", parquet(parcels()))
    old, latest = run.objects
    copy = f"{run.prefix}/copy.parquet"
    assert distributed.pinned(latest, copy) == latest.uri
    assert distributed.pinned(old, copy) == copy
    assert read_bytes(copy) == parquet(depots())
    client().delete_object(Bucket=latest.bucket, Key=latest.key)  # a delete marker: old versions stay
    assert not inputs.is_latest(latest)


class FakeSpark:
    """Writes what a job writes, or lands a file again while it runs."""

    def __init__(self, run: Run, refused: str | None = None, lands: bool = False) -> None:
        self.run, self.refused, self.lands, self.job = run, refused, lands, {}  # type: ignore[var-annotated]

    def __call__(self, service: Any, application: Spark, *, arguments: list[str], **others: Any) -> None:
        job_uri, output = arguments
        self.others = others
        self.job = json.loads(read_bytes(job_uri))
        assert read_bytes(others["script_uri"]) == distributed.SCRIPT.read_bytes()
        if self.lands:
            source = self.run.objects[-1]
            client().put_object(Bucket=source.bucket, Key=source.key, Body=b"newer")
        report = {"refused": self.refused, "answers": {"facts": [{"rows": 0, "valid": 0}]}}
        write_bytes(f"{output}/report/part-00000.txt", json.dumps(report).encode())
        write_bytes(f"{output}/prepared/part-00000.parquet", b"scratch")
        for part in ("train", "validation", "test"):
            for index in (1, 0):
                write_bytes(f"{output}/{part}/part-0000{index}-x.parquet", b"")
            write_bytes(f"{output}/{part}/_SUCCESS", b"")


def context(run: Run) -> StepContext:
    run.preparation = Preparation(engine="spark", spark=SPARK)
    run.write()
    config = run.config()
    return StepContext(config, run.prefix, f"{run.prefix}/prepare", datetime.now(UTC))


def test_a_job_on_emr_gets_addresses_and_leaves_its_parts(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    run.land_good()
    spark = FakeSpark(run)
    monkeypatch.setattr(emr, "run_job", spark)
    _, answers, uris = distributed.prepare(context(run), inputs.read_manifest(run.prefix))
    assert answers["facts"] == [{"rows": 0, "valid": 0}]
    output = f"{run.prefix}/prepare"
    assert uris["train"] == [f"{output}/train/part-0000{index}-x.parquet" for index in (0, 1)]
    assert spark.others["name"] == f"prepare-{run.name}"
    tables = {table["name"]: table["groups"] for table in spark.job["tables"]}
    assert tables["parcels"] == [{"files": [run.objects[-1].uri], "nanoseconds": []}]
    left = {item["Key"].split("/prepare/")[1].split("/")[0] for item in list_objects(output + "/")}
    assert left == {"train", "validation", "test", "spark"}


def test_what_spark_refuses_the_step_refuses(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    run.land_good()
    run.preparation = Preparation(engine="spark", spark=SPARK)
    monkeypatch.setattr(emr, "run_job", FakeSpark(run, refused="[CAST_INVALID_INPUT] The value 'x'"))
    failure = run.refused("prepare")
    assert failure.message == "config/models/parcels.yaml: query: Spark: [CAST_INVALID_INPUT] The value 'x'"


def test_a_file_that_lands_again_while_spark_reads_it_is_no_result(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    run.land_good()
    monkeypatch.setattr(emr, "run_job", FakeSpark(run, lands=True))
    with pytest.raises(emr.JobFailed, match="landed again while Spark read it"):
        distributed.prepare(context(run), inputs.read_manifest(run.prefix))
