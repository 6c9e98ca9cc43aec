"""What the modules made, asked for through the AWS API: nothing here is read from the plan or the state."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest

PURPOSES = ["landing", "data", "artifacts", "dags", "logs"]

# What a second plan may want to change on LocalStack: address pattern, attributes, and why that is LocalStack's doing.
ARTEFACTS = [
    (
        "module.observability.aws_cloudwatch_metric_alarm.this[*]",
        {"tags_all"},
        "LocalStack drops the tags that come with PutMetricAlarm; it keeps those of TagResource.",
    ),
]


def statements(policy: str, effect: str) -> list[dict[str, Any]]:
    """Return the statements of a policy that allow or deny, with lists where one may write a single value."""
    found = json.loads(policy)["Statement"]
    for statement in found:
        for name in ("Action", "Resource"):
            if isinstance(statement[name], str):
                statement[name] = [statement[name]]
    return [statement for statement in found if statement["Effect"] == effect]


def by_id(found: list[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    return {statement["Sid"]: statement for statement in found}


def refuses_plain_text(policy: str, resources: list[str], action: str) -> bool:
    """Whether everybody is refused everything without TLS."""
    wanted = {"Bool": {"aws:SecureTransport": "false"}}
    return any(
        statement["Condition"] == wanted
        and statement["Principal"] in ("*", {"AWS": "*"})
        and statement["Action"] == [action]
        and sorted(statement["Resource"]) == sorted(resources)
        for statement in statements(policy, "Deny")
    )


def test_a_second_plan_changes_nothing(applied: Any) -> None:
    path = applied.folder / "second.plan"
    applied.terraform.run("plan", "-input=false", f"-out={path}", timeout=300)
    unexpected = {}
    used = set()
    for found in applied.terraform.show(str(path))["resource_changes"]:
        address, change = found["address"], found["change"]
        if change["actions"] in (["no-op"], ["read"]):
            continue
        before, after = change["before"] or {}, change["after"] or {}
        differing = {name for name in before | after if before.get(name) != after.get(name)}
        for pattern, attributes, _ in ARTEFACTS:
            if matches(address, pattern) and change["actions"] == ["update"] and differing <= attributes:
                used.add(pattern)
                break
        else:
            unexpected[address] = (change["actions"], sorted(differing))
    assert unexpected == {}
    assert {pattern for pattern, _, _ in ARTEFACTS} == used, "take the others out of the list"


def matches(address: str, pattern: str) -> bool:
    """Whether an address is of a pattern, in which only the star is special."""
    return re.fullmatch(re.escape(pattern).replace(r"\*", ".*"), address) is not None


# --- Buckets ----------------------------------------------------------------------------------


def test_there_are_these_buckets_and_no_other(applied: Any) -> None:
    names = {bucket["Name"] for bucket in applied.client("s3").list_buckets()["Buckets"]}
    assert names == {applied.bucket(purpose) for purpose in PURPOSES}


@pytest.mark.parametrize("purpose", PURPOSES)
def test_a_bucket_is_closed_versioned_and_encrypted(applied: Any, purpose: str) -> None:
    s3, name = applied.client("s3"), applied.bucket(purpose)
    assert s3.get_bucket_versioning(Bucket=name)["Status"] == "Enabled"
    blocked = s3.get_public_access_block(Bucket=name)["PublicAccessBlockConfiguration"]
    assert blocked == dict.fromkeys(
        ["BlockPublicAcls", "BlockPublicPolicy", "IgnorePublicAcls", "RestrictPublicBuckets"], True
    )
    ownership = s3.get_bucket_ownership_controls(Bucket=name)["OwnershipControls"]["Rules"]
    assert ownership == [{"ObjectOwnership": "BucketOwnerEnforced"}]
    (rule,) = s3.get_bucket_encryption(Bucket=name)["ServerSideEncryptionConfiguration"]["Rules"]
    if purpose == "logs":  # S3 and load balancers cannot deliver their logs to a bucket with a KMS key
        assert rule["ApplyServerSideEncryptionByDefault"] == {"SSEAlgorithm": "AES256"}
    else:
        wanted = {"SSEAlgorithm": "aws:kms", "KMSMasterKeyID": applied.key}
        assert rule["ApplyServerSideEncryptionByDefault"] == wanted
        assert rule["BucketKeyEnabled"]
    tags = {tag["Key"]: tag["Value"] for tag in s3.get_bucket_tagging(Bucket=name)["TagSet"]}
    assert tags == {"Project": "ml-platform", "Environment": "test", "ManagedBy": "terraform"}


@pytest.mark.parametrize("purpose", PURPOSES)
def test_a_buckets_policy_refuses_plain_text_and_foreign_keys(applied: Any, purpose: str) -> None:
    name = applied.bucket(purpose)
    policy = applied.client("s3").get_bucket_policy(Bucket=name)["Policy"]
    arn = f"arn:aws:s3:::{name}"
    assert refuses_plain_text(policy, [arn, f"{arn}/*"], "s3:*")
    denied = by_id(statements(policy, "Deny"))
    assert denied["ModernTlsOnly"]["Condition"] == {"NumericLessThan": {"s3:TlsVersion": "1.2"}}
    if purpose != "logs":
        condition = denied["OurKeyOnly"]["Condition"]
        wanted = {"s3:x-amz-server-side-encryption-aws-kms-key-id": applied.key}
        assert condition["StringNotEquals"] == wanted
        assert statements(policy, "Allow") == [], "rights are given to roles, not by the bucket"
    else:
        principals = [statement["Principal"]["Service"] for statement in statements(policy, "Allow")]
        assert sorted(principals) == [
            "logdelivery.elasticloadbalancing.amazonaws.com",
            "logging.s3.amazonaws.com",
        ]


@pytest.mark.parametrize("purpose", [purpose for purpose in PURPOSES if purpose != "logs"])
def test_who_reads_and_writes_is_logged(applied: Any, purpose: str) -> None:
    logging = applied.client("s3").get_bucket_logging(Bucket=applied.bucket(purpose))["LoggingEnabled"]
    assert logging["TargetBucket"] == applied.bucket("logs")
    assert logging["TargetPrefix"] == f"s3/{purpose}/"


def lifecycle(applied: Any, purpose: str) -> dict[str, dict[str, Any]]:
    answer = applied.client("s3").get_bucket_lifecycle_configuration(Bucket=applied.bucket(purpose))
    assert all(rule["Status"] == "Enabled" for rule in answer["Rules"])
    return {rule["ID"]: rule for rule in answer["Rules"]}


@pytest.mark.parametrize("purpose", PURPOSES)
def test_old_versions_and_broken_uploads_go(applied: Any, purpose: str) -> None:
    rule = lifecycle(applied, purpose)["housekeeping"]
    assert rule["NoncurrentVersionExpiration"]["NoncurrentDays"] == 14
    assert rule["AbortIncompleteMultipartUpload"] == {"DaysAfterInitiation": 7}
    assert rule["Expiration"] == {"ExpiredObjectDeleteMarker": True}


def test_what_expires_and_what_stays(applied: Any) -> None:
    """Accepted data, models and files nobody has taken in yet never expire."""
    expiring = {
        (purpose, rule["Filter"]["Prefix"]): rule["Expiration"]["Days"]
        for purpose in PURPOSES
        for rule in lifecycle(applied, purpose).values()
        if "Days" in rule.get("Expiration", {})
    }
    assert expiring == {("landing", "quarantine/"): 30, ("data", "capture/"): 90, ("logs", ""): 90}
    assert lifecycle(applied, "dags")["housekeeping"]["NoncurrentVersionExpiration"]["NewerNoncurrentVersions"] == 5


# --- Key, queue, topics, logs -----------------------------------------------------------------


def test_the_key_rotates_and_serves_this_account_only(applied: Any) -> None:
    kms = applied.client("kms")
    assert kms.get_key_rotation_status(KeyId=applied.key)["KeyRotationEnabled"]
    aliases = kms.list_aliases(KeyId=applied.key)["Aliases"]
    assert [alias["AliasName"] for alias in aliases] == ["alias/ml-platform-test"]
    policy = kms.get_key_policy(KeyId=applied.key, PolicyName="default")["Policy"]
    for statement in statements(policy, "Allow"):
        if statement["Principal"] != {"AWS": "arn:aws:iam::123456789012:root"}:
            assert "123456789012" in json.dumps(statement["Condition"]), statement["Sid"]
    allowed = by_id(statements(policy, "Allow"))
    source = allowed["LandingEvents"]["Condition"]["ArnEquals"]["aws:SourceArn"]
    assert source == f"arn:aws:s3:::{applied.bucket('landing')}"


def test_the_key_encrypts_and_decrypts(applied: Any) -> None:
    kms = applied.client("kms")
    secret = kms.encrypt(KeyId=applied.key, Plaintext=b"x")["CiphertextBlob"]
    assert kms.decrypt(CiphertextBlob=secret)["Plaintext"] == b"x"


def queue(applied: Any, arn: str) -> dict[str, str]:
    sqs = applied.client("sqs")
    url = sqs.get_queue_url(QueueName=arn.rsplit(":", 1)[1])["QueueUrl"]
    found: dict[str, str] = sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["All"])["Attributes"]
    return found


def test_the_landing_queue_takes_messages_of_the_landing_bucket_only(applied: Any) -> None:
    arn = applied.outputs["landing_queue_arn"]
    found = queue(applied, arn)
    assert found["KmsMasterKeyId"] == applied.key
    assert json.loads(found["RedrivePolicy"]) == {
        "deadLetterTargetArn": applied.outputs["landing_dead_letter_queue_arn"],
        "maxReceiveCount": 5,
    }
    assert refuses_plain_text(found["Policy"], [arn], "sqs:*")
    (allowed,) = statements(found["Policy"], "Allow")
    assert allowed["Principal"] == {"Service": "s3.amazonaws.com"}
    assert allowed["Action"] == ["sqs:SendMessage"]
    assert allowed["Condition"] == {
        "ArnEquals": {"aws:SourceArn": f"arn:aws:s3:::{applied.bucket('landing')}"},
        "StringEquals": {"aws:SourceAccount": "123456789012"},
    }


def test_the_dead_letter_queue_outlives_the_first_one_and_takes_nothing_else(applied: Any) -> None:
    arn = applied.outputs["landing_dead_letter_queue_arn"]
    found = queue(applied, arn)
    assert found["KmsMasterKeyId"] == applied.key
    landing = queue(applied, applied.outputs["landing_queue_arn"])
    assert int(found["MessageRetentionPeriod"]) > int(landing["MessageRetentionPeriod"])
    assert json.loads(found["RedriveAllowPolicy"]) == {
        "redrivePermission": "byQueue",
        "sourceQueueArns": [applied.outputs["landing_queue_arn"]],
    }
    assert refuses_plain_text(found["Policy"], [arn], "sqs:*")
    assert statements(found["Policy"], "Allow") == []


@pytest.mark.parametrize("purpose", ["alarms", "notifications"])
def test_a_topic_is_encrypted_and_open_to_nobody_else(applied: Any, purpose: str) -> None:
    arn = applied.outputs["topics"][purpose]
    sns = applied.client("sns")
    found = sns.get_topic_attributes(TopicArn=arn)["Attributes"]
    assert found["KmsMasterKeyId"] == applied.key
    assert refuses_plain_text(found["Policy"], [arn], "sns:Publish")
    for statement in statements(found["Policy"], "Allow"):
        assert "123456789012" in json.dumps(statement["Condition"])
    allowed = {json.dumps(statement["Principal"]) for statement in statements(found["Policy"], "Allow")}
    services = {json.dumps({"Service": f"{name}.amazonaws.com"}) for name in ("cloudwatch", "budgets", "events")}
    assert allowed == (services if purpose == "alarms" else set())
    subscriptions = sns.list_subscriptions_by_topic(TopicArn=arn)["Subscriptions"]
    assert [(item["Protocol"], item["Endpoint"]) for item in subscriptions] == [("email", "ml-team@example.com")]


def test_every_log_group_is_encrypted_and_forgets(applied: Any) -> None:
    groups = applied.client("logs").describe_log_groups()["logGroups"]
    assert applied.outputs["network"]["flow_log_group"] in [group["logGroupName"] for group in groups]
    for group in groups:
        assert group["kmsKeyId"] == applied.key, group["logGroupName"]
        assert group["retentionInDays"] == 30, group["logGroupName"]


# --- Alarms -----------------------------------------------------------------------------------


def test_every_alarm_says_where_its_runbook_is_and_tells_people(applied: Any) -> None:
    alarms = applied.client("cloudwatch").describe_alarms(MaxRecords=100)["MetricAlarms"]
    assert sorted(alarm["AlarmName"] for alarm in alarms) == sorted(applied.outputs["alarm_names"])
    for alarm in alarms:
        assert "https://example.com/runbooks/" in alarm["AlarmDescription"]
        assert alarm["AlarmDescription"].endswith(".md")
        assert alarm["AlarmActions"] == [applied.outputs["topics"]["alarms"]]


def test_an_alarm_reaches_the_topic(applied: Any) -> None:
    sqs, sns, topic = applied.client("sqs"), applied.client("sns"), applied.outputs["topics"]["alarms"]
    url = sqs.create_queue(QueueName="on-call")["QueueUrl"]
    arn = sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["QueueArn"])["Attributes"]["QueueArn"]
    subscription = sns.subscribe(TopicArn=topic, Protocol="sqs", Endpoint=arn, ReturnSubscriptionArn=True)
    name = "ml-platform-test-landing-dead-letters"
    try:
        applied.client("cloudwatch").set_alarm_state(AlarmName=name, StateValue="ALARM", StateReason="a test")
        (message,) = sqs.receive_message(QueueUrl=url, WaitTimeSeconds=20)["Messages"]
        told = json.loads(json.loads(message["Body"])["Message"])
        assert (told["AlarmName"], told["NewStateValue"]) == (name, "ALARM")
    finally:
        sns.unsubscribe(SubscriptionArn=subscription["SubscriptionArn"])
        sqs.delete_queue(QueueUrl=url)


# --- Network ----------------------------------------------------------------------------------


def of_the_network(applied: Any, **more: list[str]) -> list[dict[str, Any]]:
    filters = {"vpc-id": [applied.outputs["network"]["vpc_id"]], **more}
    return [{"Name": name, "Values": values} for name, values in filters.items()]


def test_the_subnets_are_in_two_zones_and_give_no_public_addresses(applied: Any) -> None:
    subnets = applied.client("ec2").describe_subnets(Filters=of_the_network(applied))["Subnets"]
    zones = {subnet["SubnetId"]: subnet["AvailabilityZone"] for subnet in subnets}
    for kind in ("private_subnet_ids", "public_subnet_ids"):
        ids = applied.outputs["network"][kind]
        assert [zones.pop(subnet) for subnet in ids] == ["us-east-1a", "us-east-1b"]
    assert zones == {}
    assert not any(subnet["MapPublicIpOnLaunch"] for subnet in subnets)


def test_the_default_security_group_lets_nothing_through(applied: Any) -> None:
    filters = of_the_network(applied, **{"group-name": ["default"]})
    (group,) = applied.client("ec2").describe_security_groups(Filters=filters)["SecurityGroups"]
    assert (group["IpPermissions"], group["IpPermissionsEgress"]) == ([], [])


def test_nothing_is_open_to_the_world(applied: Any) -> None:
    for group in applied.client("ec2").describe_security_groups(Filters=of_the_network(applied))["SecurityGroups"]:
        for permission in group["IpPermissions"]:
            assert {item["CidrIp"] for item in permission["IpRanges"]} <= {"10.20.0.0/16"}, group["GroupName"]
            assert permission["Ipv6Ranges"] == []


def test_private_subnets_leave_by_the_nat_gateway_of_their_zone(applied: Any) -> None:
    ec2 = applied.client("ec2")
    gateways = {gateway["NatGatewayId"]: gateway["SubnetId"] for gateway in ec2.describe_nat_gateways()["NatGateways"]}
    network = applied.outputs["network"]
    for private, public in zip(network["private_subnet_ids"], network["public_subnet_ids"], strict=True):
        filters = of_the_network(applied, **{"association.subnet-id": [private]})
        (table,) = ec2.describe_route_tables(Filters=filters)["RouteTables"]
        (way_out,) = [route for route in table["Routes"] if route.get("DestinationCidrBlock") == "0.0.0.0/0"]
        assert gateways[way_out["NatGatewayId"]] == public


def test_buckets_are_reached_without_the_nat_gateway(applied: Any) -> None:
    endpoints = applied.client("ec2").describe_vpc_endpoints(Filters=of_the_network(applied))["VpcEndpoints"]
    gateways = {item["ServiceName"] for item in endpoints if item["VpcEndpointType"] == "Gateway"}
    assert gateways == {"com.amazonaws.us-east-1.s3", "com.amazonaws.us-east-1.dynamodb"}
    interfaces = [item for item in endpoints if item["VpcEndpointType"] == "Interface"]
    assert interfaces
    assert all(item["PrivateDnsEnabled"] for item in interfaces)


def test_all_traffic_is_logged(applied: Any) -> None:
    (log,) = applied.client("ec2").describe_flow_logs()["FlowLogs"]
    assert (log["ResourceId"], log["TrafficType"]) == (applied.outputs["network"]["vpc_id"], "ALL")
    assert log["LogDestination"].endswith(f":log-group:{applied.outputs['network']['flow_log_group']}")
    (role,) = [
        role
        for role in applied.client("iam").list_roles()["Roles"]
        if role["RoleName"].startswith("ml-platform-test-vpc-flow-logs")
    ]
    (trust,) = role["AssumeRolePolicyDocument"]["Statement"]
    assert trust["Principal"] == {"Service": "vpc-flow-logs.amazonaws.com"}
    assert trust["Condition"]["StringEquals"] == {"aws:SourceAccount": "123456789012"}
