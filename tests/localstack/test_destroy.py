"""The last test of the folder: one ``destroy``, on buckets that are full by now, leaves nothing."""

from __future__ import annotations

from typing import Any


def test_destroy_works_in_one_go_and_leaves_nothing(applied: Any) -> None:
    key, vpc = applied.key, applied.outputs["network"]["vpc_id"]
    applied.client("s3").put_object(Bucket=applied.bucket("data"), Key="raw/flights/kept", Body=b"x")
    applied.terraform.run("destroy", "-auto-approve", "-input=false", "-parallelism=30", timeout=400)
    assert applied.client("s3").list_buckets()["Buckets"] == []
    assert applied.client("sqs").list_queues().get("QueueUrls", []) == []
    assert applied.client("sns").list_topics()["Topics"] == []
    assert applied.client("sns").list_subscriptions()["Subscriptions"] == []
    assert applied.client("logs").describe_log_groups()["logGroups"] == []
    cloudwatch = applied.client("cloudwatch")
    assert cloudwatch.describe_alarms()["MetricAlarms"] == []
    assert cloudwatch.list_dashboards()["DashboardEntries"] == []
    assert [role["RoleName"] for role in applied.client("iam").list_roles()["Roles"]] == []
    kms = applied.client("kms")
    assert kms.describe_key(KeyId=key)["KeyMetadata"]["KeyState"] == "PendingDeletion", "AWS deletes no key at once"
    assert [alias["AliasName"] for alias in kms.list_aliases()["Aliases"] if "TargetKeyId" in alias] == []
    ec2 = applied.client("ec2")
    assert vpc not in [item["VpcId"] for item in ec2.describe_vpcs()["Vpcs"]]
    assert ec2.describe_addresses()["Addresses"] == []
    # What is deleted is shown for a while, on AWS too.
    gateways = ec2.describe_nat_gateways()["NatGateways"]
    assert [item for item in gateways if item["State"] != "deleted"] == []
    endpoints = ec2.describe_vpc_endpoints()["VpcEndpoints"]
    assert [item for item in endpoints if item["State"] != "deleted"] == []
    assert ec2.describe_flow_logs()["FlowLogs"] == []
    assert applied.terraform.show().get("values", {}) == {}
