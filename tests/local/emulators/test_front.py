"""The front through real clients."""

from __future__ import annotations

import concurrent.futures
import os
import subprocess
import sys
import urllib.error
import urllib.request
from typing import Any

import pytest
from botocore.exceptions import ClientError

from local.emulators import ACCOUNT, EmulatedAws
from local.emulators.front import bucket_of


def test_one_account_whoever_answers(aws: EmulatedAws) -> None:
    assert aws.client("sts").get_caller_identity()["Account"] == ACCOUNT
    topic = aws.client("sns").create_topic(Name="whose")["TopicArn"]
    alarms = aws.client("cloudwatch")
    alarms.put_metric_alarm(
        AlarmName="whose", Namespace="A", MetricName="B", Statistic="Sum", Period=60, EvaluationPeriods=1,
        Threshold=1, ComparisonOperator="GreaterThanThreshold", AlarmActions=[topic],
    )  # fmt: skip
    alarm = alarms.describe_alarms(AlarmNames=["whose"])["MetricAlarms"][0]
    assert f":{ACCOUNT}:" in topic
    assert f":{ACCOUNT}:" in alarm["AlarmArn"]
    assert alarm["AlarmActions"] == [topic]


def test_each_service_is_answered_by_its_backend(aws: EmulatedAws) -> None:
    aws.clear_calls()
    aws.client("sagemaker").list_models()
    aws.client("application-autoscaling").describe_scalable_targets(ServiceNamespace="ecs")
    aws.client("mwaa").list_environments()  # with `api.` before the host, which nobody could resolve
    assert [(call["service"], call["action"], call["backend"]) for call in aws.calls()] == [
        ("sagemaker", "ListModels", "local-aws"),
        ("application-autoscaling", "DescribeScalableTargets", "local-aws"),
        ("airflow", "ListEnvironments", "ministack"),
    ]
    assert [call["action"] for call in aws.calls("mwaa")] == ["ListEnvironments"]
    assert aws.calls("mwaa", "GetEnvironment") == []


@pytest.mark.parametrize("key", ["plain", "folder/a b", "ü+%&=?.txt", "a//b"])
def test_objects_of_any_name_survive(aws: EmulatedAws, key: str) -> None:
    s3 = aws.client("s3")
    s3.create_bucket(Bucket="names")
    s3.put_object(Bucket="names", Key=key, Body=b"content")
    assert s3.get_object(Bucket="names", Key=key)["Body"].read() == b"content"
    assert s3.head_object(Bucket="names", Key=key)["ContentLength"] == 7
    listed = s3.list_objects_v2(Bucket="names")["Contents"]
    assert key in [entry["Key"] for entry in listed]


def test_large_and_compressed_objects_pass_as_they_are(aws: EmulatedAws) -> None:
    s3 = aws.client("s3")
    s3.create_bucket(Bucket="large")
    body = bytes(range(256)) * 40_000
    s3.put_object(Bucket="large", Key="large", Body=body, ContentEncoding="gzip")
    assert s3.get_object(Bucket="large", Key="large")["Body"].read() == body


def test_one_of_many_conditional_writes_wins(aws: EmulatedAws) -> None:
    s3 = aws.client("s3")
    s3.create_bucket(Bucket="locks")

    def write(number: int) -> str:
        try:
            s3.put_object(Bucket="locks", Key="lock", Body=str(number).encode(), IfNoneMatch="*")
        except ClientError as error:
            code: str = error.response["Error"]["Code"]
            return code
        return "written"

    with concurrent.futures.ThreadPoolExecutor(16) as pool:
        outcomes = list(pool.map(write, range(64)))
    assert outcomes.count("written") == 1
    assert set(outcomes) <= {"written", "PreconditionFailed", "ConditionalRequestConflict"}


def test_the_environment_is_enough_for_another_process(aws: EmulatedAws) -> None:
    script = "import boto3; print(boto3.client('mwaa').list_environments()['Environments'])"
    done = subprocess.run(
        [sys.executable, "-c", script],
        env={**os.environ, "AWS_PROFILE": "somebody-elses", **aws.environment},
        capture_output=True,
        text=True,
    )
    assert (done.returncode, done.stdout) == (0, "[]\n"), done.stderr


def test_other_hosts_are_not_served(aws: EmulatedAws) -> None:
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({"http": aws.url}))
    with pytest.raises(urllib.error.HTTPError) as refused:
        opener.open("http://example.com/")
    assert refused.value.code == 403


@pytest.mark.parametrize(
    ("host", "path", "bucket"),
    [
        ("aws.test", "/", ""),
        ("my-bucket.aws.test", "/key", "my-bucket"),
        ("my.dotted.bucket.aws.test", "/", "my.dotted.bucket"),
        ("my-bucket.s3.aws.test", "/", "my-bucket"),
        ("api.aws.test", "/environments", ""),
        ("123456789012.aws.test", "/v20180820/tags/x", ""),
        ("127.0.0.1", "/", ""),
    ],
)
def test_the_bucket_of_a_host(host: str, path: str, bucket: str) -> None:
    assert bucket_of(host, path) == bucket


# --- Faults ---------------------------------------------------------------------------------------

CALLS: list[tuple[str, str, str, dict[str, Any]]] = [
    ("kms", "CreateKey", "create_key", {}),
    ("iam", "ListRoles", "list_roles", {}),
    ("ec2", "DescribeVpcs", "describe_vpcs", {}),
    ("eks", "DescribeCluster", "describe_cluster", {"name": "a"}),
    ("s3", "CreateBucket", "create_bucket", {"Bucket": "abc"}),
    ("route53", "ListHostedZones", "list_hosted_zones", {}),
    ("cloudwatch", "DeleteAlarms", "delete_alarms", {"AlarmNames": ["a"]}),
    ("sagemaker", "ListModels", "list_models", {}),
]


@pytest.mark.parametrize(("service", "action", "method", "arguments"), CALLS, ids=[call[0] for call in CALLS])
def test_a_fault_strikes_in_the_service_s_own_protocol(
    aws: EmulatedAws, service: str, action: str, method: str, arguments: dict[str, Any]
) -> None:
    aws.fault(service, action, code="InternalFailure", status=500, message="told to <fail>")
    with pytest.raises(ClientError) as struck:
        getattr(aws.client(service), method)(**arguments)
    assert struck.value.response["Error"]["Code"] == "InternalFailure"
    assert struck.value.response["Error"]["Message"] == "told to <fail>"
    assert struck.value.response["ResponseMetadata"]["HTTPStatusCode"] == 500
    assert aws.calls(service, action)[-1]["backend"] == "fault"


def test_a_fault_strikes_as_often_as_told_and_that_operation_only(aws: EmulatedAws) -> None:
    iam = aws.client("iam")
    aws.fault("iam", "ListRoles", times=2)
    iam.list_users()
    for _ in range(2):
        with pytest.raises(ClientError):
            iam.list_roles()
    iam.list_roles()


def test_armed_faults_can_be_cleared(aws: EmulatedAws) -> None:
    aws.fault("iam", "ListRoles", times=100)
    aws.clear_faults()
    aws.client("iam").list_roles()


@pytest.mark.parametrize(
    ("service", "action", "why"),
    [("rds", "MakeDatabase", "no operation 'MakeDatabase'"), ("rdss", "CreateDBInstance", "no service 'rdss'")],
)
def test_a_misspelt_fault_is_refused(aws: EmulatedAws, service: str, action: str, why: str) -> None:
    with pytest.raises(ValueError, match=why):
        aws.fault(service, action)
