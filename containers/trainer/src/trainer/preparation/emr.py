"""A Spark job on EMR Serverless: start it, follow it, end it when this process has to end."""

from __future__ import annotations

import logging
import time
import uuid
from collections.abc import Callable, Sequence
from typing import Any

from mlplatform.config.environment import Spark
from trainer import shutdown

POLL_SECONDS = 15.0
_DONE = "SUCCESS"
_LOST = frozenset({"FAILED", "CANCELLED", "CANCELLING"})
_ALIVE = ["PENDING", "QUEUED", "RUNNING", "SCHEDULED", "SUBMITTED"]

log = logging.getLogger(__name__)


class JobFailed(RuntimeError):
    """The job did not succeed; the message says why and where its logs are. Another attempt may."""


def client(region: str) -> Any:
    """Return the service's client."""
    import boto3
    from botocore.config import Config

    return boto3.client("emr-serverless", region, config=Config(retries={"mode": "standard", "max_attempts": 10}))


def run_job(
    service: Any,
    application: Spark,
    *,
    name: str,
    script_uri: str,
    arguments: Sequence[str],
    log_uri: str,
    timeout_minutes: int,
    sleep: Callable[[float], None] = time.sleep,
) -> None:
    """Run a PySpark script and return when it has succeeded.

    A job of the same name that still runs, left by a process that was killed, is followed instead of started again:
    two would write the same files. On SIGTERM the job is cancelled.

    Args:
        name: tells the job from others of the application.
        log_uri: where the service puts the logs of driver and executors.

    Raises:
        JobFailed: it failed, or someone cancelled it.
    """
    where = {"applicationId": application.application_id}
    job = _running(service, where, name)
    if job is None:
        job = service.start_job_run(
            **where,
            clientToken=str(uuid.uuid4()),
            executionRoleArn=application.execution_role_arn,
            name=name,
            jobDriver={"sparkSubmit": {"entryPoint": script_uri, "entryPointArguments": list(arguments)}},
            configurationOverrides={"monitoringConfiguration": {"s3MonitoringConfiguration": {"logUri": log_uri}}},
            executionTimeoutMinutes=timeout_minutes,
        )["jobRunId"]
        log.info("started job run %s of EMR Serverless application %s", job, application.application_id)
    else:
        log.info("following job run %s of EMR Serverless application %s", job, application.application_id)
    with shutdown.on_stop(lambda: _cancel(service, where, job)):
        _follow(service, where, job, log_uri, sleep)


def _running(service: Any, where: dict[str, str], name: str) -> str | None:
    for page in service.get_paginator("list_job_runs").paginate(**where, states=_ALIVE):
        for run in page["jobRuns"]:
            if run.get("name") == name:
                found: str = run["id"]
                return found
    return None


def _follow(service: Any, where: dict[str, str], job: str, log_uri: str, sleep: Callable[[float], None]) -> None:
    before = ""
    while True:
        run = service.get_job_run(**where, jobRunId=job)["jobRun"]
        state, details = run["state"], run.get("stateDetails") or ""
        if f"{state} {details}" != before:
            log.info("job run %s: %s %s", job, state.lower(), details)
            before = f"{state} {details}"
        if state == _DONE:
            return
        if state in _LOST:
            raise JobFailed(
                f"EMR Serverless job run {job} of application {where['applicationId']}: {state.lower()}: "
                f"{details or 'no reason given'}; its logs are under {log_uri}"
            )
        sleep(POLL_SECONDS)


def _cancel(service: Any, where: dict[str, str], job: str) -> None:
    service.cancel_job_run(**where, jobRunId=job)
    log.info("job run %s: cancelled, as this process has to end", job)
