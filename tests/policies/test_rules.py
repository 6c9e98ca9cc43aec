"""Every rule on a small good platform, and on the same platform broken in one place."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from tests.policies.policies import judge
from tests.policies.resources import Resource, from_plan, from_state
from tests.policies.rules import RULES, TAGS, idle_runbooks

KEY = "arn:aws:kms:us-east-1:111122223333:key/00000000-0000-0000-0000-000000000000"
BOUNDARY = "arn:aws:iam::111122223333:policy/boundary"
ALL_TAGS = dict.fromkeys(TAGS, "x")
RUNBOOKS = frozenset({"dag-failures"})
Values = dict[str, Any]


def document(*statements: Values) -> str:
    return json.dumps({"Version": "2012-10-17", "Statement": list(statements)})


def tls(resources: list[str], action: str) -> str:
    return document(
        {
            "Sid": "TlsOnly",
            "Effect": "Deny",
            "Principal": "*",
            "Action": action,
            "Resource": resources,
            "Condition": {"Bool": {"aws:SecureTransport": "false"}},
        }
    )


READ = {"Sid": "Read", "Effect": "Allow", "Action": ["s3:GetObject"], "Resource": "arn:aws:s3:::data/raw/*"}
TRUST = {"Effect": "Allow", "Principal": {"Service": "ec2.amazonaws.com"}, "Action": "sts:AssumeRole"}
QUEUE = "https://sqs.us-east-1.amazonaws.com/111122223333/landing"
TOPIC = "arn:aws:sns:us-east-1:111122223333:alarms"
DISK = {"device_name": "/dev/xvda", "ebs": [{"encrypted": "true"}]}

GOOD: dict[str, tuple[str, Values]] = {
    "role": (
        "aws_iam_role",
        {"assume_role_policy": document(TRUST), "permissions_boundary": BOUNDARY, "tags_all": ALL_TAGS},
    ),
    "rights": ("aws_iam_role_policy", {"policy": document(READ)}),
    "attachment": (
        "aws_iam_role_policy_attachment",
        {"policy_arn": "arn:aws:iam::aws:policy/AmazonEKSWorkerNodePolicy"},
    ),
    "bucket": ("aws_s3_bucket", {"bucket": "data", "tags_all": ALL_TAGS}),
    "bucket_encryption": (
        "aws_s3_bucket_server_side_encryption_configuration",
        {"bucket": "data", "rule": [{"apply_server_side_encryption_by_default": [{"sse_algorithm": "aws:kms"}]}]},
    ),
    "bucket_block": (
        "aws_s3_bucket_public_access_block",
        {
            "bucket": "data",
            "block_public_acls": True,
            "block_public_policy": True,
            "ignore_public_acls": True,
            "restrict_public_buckets": True,
        },
    ),
    "bucket_policy": (
        "aws_s3_bucket_policy",
        {"bucket": "data", "policy": tls(["arn:aws:s3:::data", "arn:aws:s3:::data/*"], "s3:*")},
    ),
    "queue": ("aws_sqs_queue", {"id": QUEUE, "url": QUEUE, "kms_master_key_id": KEY}),
    "queue_policy": (
        "aws_sqs_queue_policy",
        {"queue_url": QUEUE, "policy": tls(["arn:aws:sqs:us-east-1:111122223333:landing"], "sqs:*")},
    ),
    "topic": ("aws_sns_topic", {"arn": TOPIC, "kms_master_key_id": KEY}),
    "topic_policy": ("aws_sns_topic_policy", {"arn": TOPIC, "policy": tls([TOPIC], "sns:Publish")}),
    "key": ("aws_kms_key", {"enable_key_rotation": True}),
    "logs": ("aws_cloudwatch_log_group", {"kms_key_id": KEY, "retention_in_days": 30, "tags_all": ALL_TAGS}),
    "database": (
        "aws_db_instance",
        {
            "storage_encrypted": True,
            "kms_key_id": KEY,
            "publicly_accessible": False,
            "parameter_group_name": "forced",
            "performance_insights_enabled": True,
            "performance_insights_kms_key_id": KEY,
            "username": "mlflow",
        },
    ),
    "parameters": (
        "aws_db_parameter_group",
        {"name": "forced", "parameter": [{"name": "rds.force_ssl", "value": "1"}]},
    ),
    "template": (
        "aws_launch_template",
        {
            "metadata_options": [{"http_tokens": "required", "http_put_response_hop_limit": 1}],
            "block_device_mappings": [DISK],
            "tag_specifications": [{"resource_type": kind, "tags": ALL_TAGS} for kind in ("instance", "volume")],
        },
    ),
    "nodes": ("aws_eks_node_group", {"launch_template": [{"id": "lt-0"}]}),
    "cluster": (
        "aws_eks_cluster",
        {"vpc_config": [{"endpoint_public_access": False}], "encryption_config": [{"resources": ["secrets"]}]},
    ),
    "images": ("aws_ecr_repository", {"encryption_configuration": [{"encryption_type": "KMS"}]}),
    "airflow": ("aws_mwaa_environment", {"kms_key": KEY, "webserver_access_mode": "PRIVATE_ONLY"}),
    "balancer": ("aws_lb", {"internal": True}),
    "listener": ("aws_lb_listener", {"protocol": "HTTPS"}),
    "ingress": ("aws_vpc_security_group_ingress_rule", {"cidr_ipv4": "10.20.0.0/16"}),
    "group": ("aws_security_group", {"ingress": []}),
    "subnet": ("aws_subnet", {"map_public_ip_on_launch": False}),
    "service": ("aws_ecs_service", {"network_configuration": [{"assign_public_ip": False}]}),
    "task": (
        "aws_ecs_task_definition",
        {
            "container_definitions": json.dumps(
                [{"name": "mlflow", "environment": [{"name": "MLFLOW_DB_SECRET_ARN", "value": "arn:aws:x"}]}]
            )
        },
    ),
    "endpoint": (
        "aws_sagemaker_endpoint_configuration",
        {"kms_key_arn": KEY, "data_capture_config": [{"enable_capture": True, "kms_key_id": KEY}]},
    ),
    "alarm": (
        "aws_cloudwatch_metric_alarm",
        {"alarm_description": "A DAG failed. https://example.com/docs/runbooks/dag-failures.md"},
    ),
}


def platform(**changes: Values | None) -> list[Resource]:
    """The good platform; a change merges values into a resource, and None takes it away."""
    merged = {name: (kind, values | (changes.get(name) or {})) for name, (kind, values) in GOOD.items()}
    return [
        Resource(f"{kind}.{name}", kind, values)
        for name, (kind, values) in merged.items()
        if name not in changes or changes[name] is not None
    ]


def found(resources: list[Resource]) -> set[tuple[str, str]]:
    """Rules and subjects of all violations."""
    return {(violation.rule, violation.subject) for violation in judge(resources, RUNBOOKS)}


def rights(**changes: Any) -> Values:
    return {"policy": document(READ | changes)}


def test_the_good_platform_breaks_no_rule() -> None:
    assert found(platform()) == set()


BROKEN: list[tuple[str, str, Values | None, str]] = [
    # rule, what is broken, how, subject of the violation
    (
        "iam-managed-policy",
        "attachment",
        {"policy_arn": "arn:aws:iam::aws:policy/AmazonS3FullAccess"},
        "AmazonS3FullAccess",
    ),
    (
        "iam-managed-policy",
        "attachment",
        {"policy_arn": "arn:aws:iam::aws:policy/AdministratorAccess"},
        "AdministratorAccess",
    ),
    ("iam-wildcard-action", "rights", rights(Action="*"), "*"),
    ("iam-wildcard-action", "rights", rights(Action=["s3:GetObject", "s3:*"]), "s3:*"),
    (
        "iam-wildcard-action",
        "rights",
        {"policy": document({"Sid": "X", "Effect": "Allow", "NotAction": "iam:*", "Resource": "arn:aws:s3:::data"})},
        "NotAction",
    ),
    ("iam-wildcard-resource", "rights", rights(Resource="*"), "s3:GetObject"),
    ("iam-wildcard-resource", "rights", rights(Resource=["arn:aws:s3:::data/*", "arn:aws:s3:::*"]), "s3:GetObject"),
    ("iam-open-principal", "role", {"assume_role_policy": document(TRUST | {"Principal": "*", "Sid": "Any"})}, "Any"),
    (
        "iam-open-principal",
        "role",
        {"assume_role_policy": document(TRUST | {"Principal": {"AWS": "*"}, "Sid": "Any"})},
        "Any",
    ),
    ("iam-boundary", "role", {"permissions_boundary": None}, "permissions_boundary"),
    ("iam-lint", "rights", rights(Action="s3:GetObjekt"), "UNKNOWN_ACTION"),
    ("iam-lint", "rights", rights(Action="s3:ListBucket"), "RESOURCE_MISMATCH"),
    ("open-ingress", "ingress", {"cidr_ipv4": "0.0.0.0/0"}, "0.0.0.0/0"),
    ("open-ingress", "ingress", {"cidr_ipv6": "::/0"}, "::/0"),
    ("open-ingress", "ingress", {"cidr_ipv4": "0.0.0.0/1"}, "0.0.0.0/1"),
    ("open-ingress", "group", {"ingress": [{"cidr_blocks": ["0.0.0.0/0"]}]}, "0.0.0.0/0"),
    ("open-ingress", "group", {"ingress": [{"ipv6_cidr_blocks": ["::/0"]}]}, "::/0"),
    ("public-endpoint", "database", {"publicly_accessible": True}, "publicly_accessible"),
    ("public-endpoint", "cluster", {"vpc_config": [{"endpoint_public_access": True}]}, "endpoint_public_access"),
    (
        "public-endpoint",
        "cluster",
        {"vpc_config": [{"endpoint_public_access": True, "public_access_cidrs": ["0.0.0.0/0"]}]},
        "endpoint_public_access",
    ),
    ("public-endpoint", "balancer", {"internal": False}, "internal"),
    ("public-endpoint", "airflow", {"webserver_access_mode": "PUBLIC_ONLY"}, "webserver_access_mode"),
    ("public-endpoint", "airflow", {"webserver_access_mode": None}, "webserver_access_mode"),
    ("public-endpoint", "subnet", {"map_public_ip_on_launch": True}, "map_public_ip_on_launch"),
    ("public-endpoint", "service", {"network_configuration": [{"assign_public_ip": True}]}, "assign_public_ip"),
    (
        "public-endpoint",
        "template",
        {"network_interfaces": [{"associate_public_ip_address": "true"}]},
        "associate_public_ip_address",
    ),
    ("bucket-public-access", "bucket_block", None, "public access"),
    ("bucket-public-access", "bucket_block", {"block_public_policy": False}, "public access"),
    ("bucket-public-access", "bucket_block", {"bucket": "another"}, "public access"),
    (
        "imdsv2",
        "template",
        {"metadata_options": [{"http_tokens": "optional", "http_put_response_hop_limit": 1}]},
        "http_tokens",
    ),
    (
        "imdsv2",
        "template",
        {"metadata_options": [{"http_tokens": "required", "http_put_response_hop_limit": 2}]},
        "http_put_response_hop_limit",
    ),
    ("imdsv2", "nodes", {"launch_template": []}, "launch_template"),
    ("encryption", "bucket_encryption", None, "sse_algorithm"),
    (
        "encryption",
        "bucket_encryption",
        {"rule": [{"apply_server_side_encryption_by_default": [{"sse_algorithm": "AES256"}]}]},
        "sse_algorithm",
    ),
    ("encryption", "queue", {"kms_master_key_id": None}, "kms_master_key_id"),
    ("encryption", "topic", {"kms_master_key_id": ""}, "kms_master_key_id"),
    ("encryption", "logs", {"kms_key_id": None}, "kms_key_id"),
    ("encryption", "database", {"storage_encrypted": False}, "storage_encrypted"),
    ("encryption", "database", {"performance_insights_kms_key_id": None}, "performance_insights_kms_key_id"),
    (
        "encryption",
        "template",
        {"block_device_mappings": [DISK, {"ebs": [{"encrypted": "false"}]}]},
        "block_device_mappings",
    ),
    ("encryption", "template", {"block_device_mappings": []}, "block_device_mappings"),
    ("encryption", "cluster", {"encryption_config": []}, "encryption_config"),
    ("encryption", "images", {"encryption_configuration": []}, "encryption_configuration"),
    ("encryption", "airflow", {"kms_key": None}, "kms_key"),
    ("encryption", "endpoint", {"kms_key_arn": None}, "kms_key_arn"),
    ("encryption", "endpoint", {"data_capture_config": [{"enable_capture": True}]}, "data_capture_config"),
    ("encryption", "key", {"enable_key_rotation": False}, "enable_key_rotation"),
    ("tls-only", "bucket_policy", None, "policy"),
    ("tls-only", "bucket_policy", {"policy": tls(["arn:aws:s3:::data/*"], "s3:*")}, "policy"),
    (
        "tls-only",
        "bucket_policy",
        {"policy": tls(["arn:aws:s3:::data", "arn:aws:s3:::data/*"], "s3:PutObject")},
        "policy",
    ),
    ("tls-only", "queue_policy", None, "policy"),
    (
        "tls-only",
        "topic_policy",
        {
            "policy": document(
                {"Sid": "X", "Effect": "Deny", "Principal": "*", "Action": "sns:Publish", "Resource": TOPIC}
            )
        },
        "policy",
    ),
    ("tls-only", "parameters", {"parameter": [{"name": "rds.force_ssl", "value": "0"}]}, "parameter_group_name"),
    ("tls-only", "listener", {"protocol": "HTTP"}, "protocol"),
    ("tags", "logs", {"tags_all": {}}, "tags_all"),
    ("tags", "bucket", {"tags_all": None}, "tags_all"),
    ("tags", "role", {"tags_all": ALL_TAGS | {"Environment": ""}}, "tags_all"),
    (
        "tags",
        "template",
        {"tag_specifications": [{"resource_type": "instance", "tags": ALL_TAGS}]},
        "tag_specifications volume",
    ),
    ("log-retention", "logs", {"retention_in_days": 0}, "retention_in_days"),
    ("log-retention", "logs", {"retention_in_days": None}, "retention_in_days"),
    ("secret-value", "database", {"password": "hunter2"}, "password"),
    ("secret-value", "bucket", {"note": "AKIA" + "ABCDEFGHIJKLMNOP"}, "note"),
    ("secret-value", "bucket", {"note": "-----BEGIN RSA PRIVATE KEY-----"}, "note"),
    ("secret-value", "bucket", {"note": "postgresql://mlflow:hunter2@db/mlflow"}, "note"),
    ("secret-value", "bucket", {"content": '{"mlflow": {"token": "abc"}}'}, "content.mlflow.token"),
    (
        "secret-value",
        "task",
        {"container_definitions": json.dumps([{"environment": [{"name": "MLFLOW_DB_PASSWORD", "value": "hunter2"}]}])},
        "MLFLOW_DB_PASSWORD",
    ),
    ("runbook", "alarm", {"alarm_description": "A DAG failed."}, "alarm_description"),
    ("runbook", "alarm", {"alarm_description": "See https://example.com/runbooks/gone.md"}, "alarm_description"),
]


@pytest.mark.parametrize(
    ("rule", "name", "change", "subject"),
    BROKEN,
    ids=[f"{rule}-{name}-{at}" for at, (rule, name, *_) in enumerate(BROKEN)],
)
def test_what_is_broken_is_reported(rule: str, name: str, change: Values | None, subject: str) -> None:
    assert (rule, subject) in found(platform(**{name: change}))


def test_every_rule_is_broken_by_some_test() -> None:
    assert {rule for rule, *_ in BROKEN} | {"iam-undecided"} == {*RULES, "runbook"}


def test_a_document_that_is_not_known_yet_is_reported() -> None:
    resource = Resource("aws_iam_role_policy.x", "aws_iam_role_policy", {}, frozenset({"policy"}))

    assert found([resource]) == {("iam-undecided", "policy")}


def test_what_only_the_apply_knows_counts_as_given() -> None:
    queue = Resource("aws_sqs_queue.x", "aws_sqs_queue", {}, frozenset({"kms_master_key_id"}))

    assert ("encryption", "kms_master_key_id") not in found([queue])


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("cluster", {"vpc_config": [{"endpoint_public_access": True, "public_access_cidrs": ["203.0.113.0/24"]}]}),
        ("listener", {"protocol": "HTTP", "default_action": [{"redirect": [{"protocol": "HTTPS"}]}]}),
        ("rights", rights(Effect="Deny", Action="s3:*")),
        (
            "role",
            {
                "assume_role_policy": document(
                    TRUST | {"Principal": "*", "Condition": {"StringEquals": {"aws:PrincipalAccount": "111122223333"}}}
                )
            },
        ),
        (
            "key",
            {
                "policy": document(
                    {
                        "Sid": "Use",
                        "Effect": "Allow",
                        "Principal": {"AWS": "arn:aws:iam::111122223333:root"},
                        "Action": "kms:Decrypt",
                        "Resource": "*",
                    }
                )
            },
        ),
    ],
    ids=[
        "cluster open to some",
        "redirect to HTTPS",
        "wildcard in a refusal",
        "anybody of the account",
        "key's own policy",
    ],
)
def test_what_is_allowed_is_not_reported(name: str, change: Values) -> None:
    assert found(platform(**{name: change})) <= {("iam-lint", "UNKNOWN_CONDITION_FOR_ACTION")}


def test_a_runbook_without_an_alarm_is_idle() -> None:
    assert idle_runbooks(platform(), RUNBOOKS) == []
    assert idle_runbooks(platform(), RUNBOOKS | {"forgotten"}) == ["forgotten"]


Shape = Callable[[Values], list[Resource]]


@pytest.mark.parametrize(
    ("read", "key"), [(from_plan, "planned_values"), (from_state, "values")], ids=["plan", "state"]
)
def test_resources_are_read_from_every_module(read: Shape, key: str) -> None:
    inner = {"address": "module.a.aws_vpc.this", "type": "aws_vpc", "mode": "managed", "values": {"id": "vpc-0"}}
    asked = {"address": "data.aws_region.this", "type": "aws_region", "mode": "data", "values": {}}
    shown = {key: {"root_module": {"resources": [asked], "child_modules": [{"resources": [inner]}]}}}

    assert read(shown) == [Resource("module.a.aws_vpc.this", "aws_vpc", {"id": "vpc-0"})]


def test_an_empty_state_has_no_resources() -> None:
    assert from_state({"format_version": "1.0"}) == []


def test_unknown_attributes_are_read_from_the_plan() -> None:
    change = {"address": "aws_vpc.this", "change": {"after_unknown": {"arn": True, "tags": {}, "id": False}}}
    resource = {"address": "aws_vpc.this", "type": "aws_vpc", "values": {}}
    plan = {"planned_values": {"root_module": {"resources": [resource]}}, "resource_changes": [change]}

    assert from_plan(plan)[0].unknown == frozenset({"arn"})


def test_what_a_role_shows_of_its_policies_is_judged_once() -> None:
    """A state holds an inline policy twice: where it was written, and in the role, in AWS's own words."""
    wide = READ | {"Resource": "*"}
    shown = document(wide | {"Resource": ["*"], "Action": "s3:GetObject"})
    role = Resource("aws_iam_role.role", "aws_iam_role", GOOD["role"][1] | {"inline_policy": [{"policy": shown}]})
    written = Resource("aws_iam_role_policy.rights", "aws_iam_role_policy", {"policy": document(wide)})

    def wildcards(resources: list[Resource]) -> list[str]:
        return [
            violation.address for violation in judge(resources, RUNBOOKS) if violation.rule == "iam-wildcard-resource"
        ]

    assert wildcards([role, written]) == [written.address]
    assert wildcards([role]) == [role.address]
