"""The AWS API on this machine, and the buckets, topic, queue and alarms that Terraform makes in the cloud."""

from __future__ import annotations

import json
import sys
from typing import Any

from local.platform.alarms import endpoints, rollback_alarms
from local.platform.facts import ACCOUNT, BUCKETS, QUEUE, REGION, STUDIES, STUDIES_SECRET, TOPIC, Facts
from local.platform.home import ROOT
from local.platform.probes import get
from local.platform.service import Command, Service

TIME_SCALE = 60  # a minute of a deployment's waits, and of the alarms that are watched meanwhile, takes a second


def service(facts: Facts) -> Service:
    """Describe the service."""

    def command() -> Command:
        argv = [
            *(sys.executable, "-m", "local.aws"),
            *("--port", str(facts.ports["aws"])),
            *("--state-dir", str(facts.home.folder("aws"))),
            *("--images", str(facts.home.images_file)),
            *("--region", REGION, "--account", ACCOUNT),
            *("--time-scale", str(TIME_SCALE)),
        ]
        return Command(argv, facts.base_environment, ROOT)

    return Service(
        name="aws",
        command=command,
        prepare=lambda: facts.home.folder("aws").mkdir(exist_ok=True),
        ready=lambda: _check(facts),
        finish=lambda: seed(facts),
        port=facts.ports["aws"],
        start_timeout=60,
    )


def _check(facts: Facts) -> None:
    get(f"{facts.aws_endpoint}/_local/health")


def clients(facts: Facts, *services: str) -> list[Any]:
    """Return boto3 clients of the local API, whatever the caller's environment says."""
    import boto3

    session = boto3.session.Session(
        aws_access_key_id="local", aws_secret_access_key="local", region_name=REGION, profile_name=None
    )
    return [session.client(name, endpoint_url=facts.aws_endpoint) for name in services]


def seed(facts: Facts) -> None:
    """Create what the pipeline expects: buckets, a topic with a queue that keeps its messages, a secret, alarms."""
    s3, sns, sqs, secretsmanager = clients(facts, "s3", "sns", "sqs", "secretsmanager")
    secretsmanager.create_secret(
        Name=STUDIES_SECRET,
        SecretString=json.dumps({"username": STUDIES, "password": facts.secrets.studies_database}),
    )
    for bucket in BUCKETS.values():
        s3.create_bucket(Bucket=bucket)
        s3.put_bucket_versioning(Bucket=bucket, VersioningConfiguration={"Status": "Enabled"})
    topic = sns.create_topic(Name=TOPIC)["TopicArn"]
    queue_url = sqs.create_queue(QueueName=QUEUE)["QueueUrl"]
    queue = sqs.get_queue_attributes(QueueUrl=queue_url, AttributeNames=["QueueArn"])["Attributes"]["QueueArn"]
    allow_topic = {
        "Version": "2012-10-17",
        "Statement": [
            {
                "Effect": "Allow",
                "Principal": {"Service": "sns.amazonaws.com"},
                "Action": "sqs:SendMessage",
                "Resource": queue,
                "Condition": {"ArnEquals": {"aws:SourceArn": topic}},
            }
        ],
    }
    sqs.set_queue_attributes(QueueUrl=queue_url, Attributes={"Policy": json.dumps(allow_topic)})
    sns.subscribe(TopicArn=topic, Protocol="sqs", Endpoint=queue, Attributes={"RawMessageDelivery": "true"})
    seed_alarms(facts)


def seed_alarms(facts: Facts) -> None:
    """Create the rollback alarms that are not there yet, of all datasets."""
    (cloudwatch,) = clients(facts, "cloudwatch")
    known = {alarm["AlarmName"] for alarm in cloudwatch.describe_alarms()["MetricAlarms"]}
    for endpoint in endpoints().values():
        for alarm in rollback_alarms(endpoint):
            if alarm["AlarmName"] not in known:
                cloudwatch.put_metric_alarm(**alarm)
