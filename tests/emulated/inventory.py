"""Everything there is in an account, by asking each service for its lists."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from local.emulators import EmulatedAws

Lister = Callable[[Any], Iterator[str]]


def _pages(operation: str, member: str, name: str | None, **parameters: Any) -> Lister:
    """List one member of each row (or the row itself) over all pages."""

    def listed(client: Any) -> Iterator[str]:
        if client.can_paginate(operation):
            pages = client.get_paginator(operation).paginate(**parameters)
        else:
            pages = [getattr(client, operation)(**parameters)]
        for page in pages:
            for row in page.get(member) or []:
                yield row[name] if name else row

    return listed


def _keys(client: Any) -> Iterator[str]:
    for page in client.get_paginator("list_keys").paginate():
        for key in page["Keys"]:
            found = client.describe_key(KeyId=key["KeyId"])["KeyMetadata"]
            # A key that waits out its deletion window is on its way; nothing shortens that in AWS either.
            if found["KeyState"] != "PendingDeletion" and found.get("KeyManager") != "AWS":
                yield key["KeyId"]


def _instances(client: Any) -> Iterator[str]:
    for page in client.get_paginator("describe_instances").paginate():
        for reservation in page["Reservations"]:
            for instance in reservation["Instances"]:
                if instance["State"]["Name"] != "terminated":
                    yield instance["InstanceId"]


def _nat_gateways(client: Any) -> Iterator[str]:
    for gateway in client.describe_nat_gateways()["NatGateways"]:
        if gateway["State"] != "deleted":  # listed for an hour afterwards
            yield gateway["NatGatewayId"]


def _groups(client: Any) -> Iterator[str]:
    yield from (f"group {g['Name']}" for g in client.list_schedule_groups()["ScheduleGroups"])
    yield from (f"{s['GroupName']}/{s['Name']}" for s in client.list_schedules()["Schedules"])


def _services(client: Any) -> Iterator[str]:
    for cluster in client.list_clusters()["clusterArns"]:
        yield cluster
        yield from client.list_services(cluster=cluster)["serviceArns"]


def _clusters(client: Any) -> Iterator[str]:
    for cluster in client.list_clusters()["clusters"]:
        yield cluster
        yield from (f"{cluster}/{name}" for name in client.list_nodegroups(clusterName=cluster)["nodegroups"])


def _targets(client: Any) -> Iterator[str]:
    for namespace in ("ecs", "sagemaker"):
        for kind, member in (("targets", "ScalableTargets"), ("policies", "ScalingPolicies")):
            describe = client.describe_scalable_targets if kind == "targets" else client.describe_scaling_policies
            yield from (f"{kind} {row['ResourceId']}" for row in describe(ServiceNamespace=namespace)[member])


def _alarms(client: Any) -> Iterator[str]:
    for page in client.get_paginator("describe_alarms").paginate(AlarmTypes=["MetricAlarm", "CompositeAlarm"]):
        yield from (alarm["AlarmName"] for kind in ("MetricAlarms", "CompositeAlarms") for alarm in page.get(kind, []))


def _tagged(client: Any) -> Iterator[str]:
    for page in client.get_paginator("get_resources").paginate():
        # What had tags once is listed without any.
        yield from (row["ResourceARN"] for row in page["ResourceTagMappingList"] if row["Tags"])


def _budgets(account: str) -> Lister:
    def listed(client: Any) -> Iterator[str]:
        yield from (budget["BudgetName"] for budget in client.describe_budgets(AccountId=account).get("Budgets", []))

    return listed


def _listers(account: str) -> list[tuple[str, str, Lister]]:
    return [
        ("application-autoscaling", "targets and policies", _targets),
        ("autoscaling", "groups", _pages("describe_auto_scaling_groups", "AutoScalingGroups", "AutoScalingGroupName")),
        ("autoscaling", "tags", _pages("describe_tags", "Tags", "ResourceId")),
        ("budgets", "budgets", _budgets(account)),
        ("cloudwatch", "alarms", _alarms),
        ("cloudwatch", "dashboards", _pages("list_dashboards", "DashboardEntries", "DashboardName")),
        ("ec2", "addresses", _pages("describe_addresses", "Addresses", "AllocationId")),
        ("ec2", "endpoints", _pages("describe_vpc_endpoints", "VpcEndpoints", "VpcEndpointId")),
        ("ec2", "flow logs", _pages("describe_flow_logs", "FlowLogs", "FlowLogId")),
        ("ec2", "instances", _instances),
        ("ec2", "internet gateways", _pages("describe_internet_gateways", "InternetGateways", "InternetGatewayId")),
        ("ec2", "launch templates", _pages("describe_launch_templates", "LaunchTemplates", "LaunchTemplateName")),
        ("ec2", "NAT gateways", _nat_gateways),
        ("ec2", "interfaces", _pages("describe_network_interfaces", "NetworkInterfaces", "NetworkInterfaceId")),
        ("ec2", "route tables", _pages("describe_route_tables", "RouteTables", "RouteTableId")),
        ("ec2", "security groups", _pages("describe_security_groups", "SecurityGroups", "GroupId")),
        ("ec2", "subnets", _pages("describe_subnets", "Subnets", "SubnetId")),
        ("ec2", "VPCs", _pages("describe_vpcs", "Vpcs", "VpcId")),
        ("ecr", "repositories", _pages("describe_repositories", "repositories", "repositoryName")),
        ("ecs", "clusters and services", _services),
        ("ecs", "task definitions", _pages("list_task_definitions", "taskDefinitionArns", None, status="ACTIVE")),
        ("eks", "clusters and node groups", _clusters),
        ("elbv2", "load balancers", _pages("describe_load_balancers", "LoadBalancers", "LoadBalancerArn")),
        ("elbv2", "target groups", _pages("describe_target_groups", "TargetGroups", "TargetGroupArn")),
        ("events", "rules", _pages("list_rules", "Rules", "Name")),
        ("iam", "identity providers", _pages("list_open_id_connect_providers", "OpenIDConnectProviderList", "Arn")),
        ("iam", "instance profiles", _pages("list_instance_profiles", "InstanceProfiles", "InstanceProfileName")),
        ("iam", "policies", _pages("list_policies", "Policies", "Arn", Scope="Local")),
        ("iam", "roles", _pages("list_roles", "Roles", "RoleName")),
        ("kms", "aliases", _pages("list_aliases", "Aliases", "AliasName")),
        ("kms", "keys", _keys),
        ("logs", "log groups", _pages("describe_log_groups", "logGroups", "logGroupName")),
        ("mwaa", "environments", _pages("list_environments", "Environments", None)),
        ("rds", "instances", _pages("describe_db_instances", "DBInstances", "DBInstanceIdentifier")),
        (
            "rds",
            "parameter groups",
            _pages("describe_db_parameter_groups", "DBParameterGroups", "DBParameterGroupName"),
        ),
        ("rds", "snapshots", _pages("describe_db_snapshots", "DBSnapshots", "DBSnapshotIdentifier")),
        ("rds", "subnet groups", _pages("describe_db_subnet_groups", "DBSubnetGroups", "DBSubnetGroupName")),
        ("resourcegroupstaggingapi", "tagged", _tagged),
        ("route53", "zones", _pages("list_hosted_zones", "HostedZones", "Name")),
        ("s3", "buckets", _pages("list_buckets", "Buckets", "Name")),
        ("sagemaker", "configurations", _pages("list_endpoint_configs", "EndpointConfigs", "EndpointConfigName")),
        ("sagemaker", "endpoints", _pages("list_endpoints", "Endpoints", "EndpointName")),
        ("sagemaker", "models", _pages("list_models", "Models", "ModelName")),
        ("scheduler", "groups and schedules", _groups),
        ("secretsmanager", "secrets", _pages("list_secrets", "SecretList", "Name")),
        ("sns", "subscriptions", _pages("list_subscriptions", "Subscriptions", "SubscriptionArn")),
        ("sns", "topics", _pages("list_topics", "Topics", "TopicArn")),
        ("sqs", "queues", _pages("list_queues", "QueueUrls", None)),
    ]


def take(aws: EmulatedAws) -> set[str]:
    """Return `service kind: name` of everything in the account."""
    listers = _listers(aws.account)
    for service in {service for service, _, _ in listers}:
        aws.client(service)  # boto3 sessions are not made in threads

    def names(lister: tuple[str, str, Lister]) -> set[str]:
        service, kind, listed = lister
        return {f"{service} {kind}: {name}" for name in listed(aws.client(service))}

    with ThreadPoolExecutor(8) as pool:
        return set().union(*pool.map(names, listers))
