"""The rules. Each is a pure function from all resources of an environment to what is wrong with them."""

from __future__ import annotations

import ipaddress
import json
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from tests.policies.documents import Document, Statement, documents, undecided
from tests.policies.linter import lint
from tests.policies.resources import Resource, of_type, strings


@dataclass(frozen=True)
class Violation:
    """A resource that breaks a rule."""

    rule: str
    address: str
    subject: str
    """What about the resource, so that an exception can name it: an action, a finding, an attribute."""
    message: str

    def __str__(self) -> str:
        return f"{self.rule}: {self.address}: {self.subject}: {self.message}"


Finding = tuple[Resource, str, str]
"""Resource, subject, message."""
Rule = Callable[[Sequence[Resource]], Iterator[Finding]]
RULES: dict[str, Rule] = {}

TAGS = ("Project", "Environment", "ManagedBy", "CostCenter")


def rule(name: str) -> Callable[[Rule], Rule]:
    """Register a rule under the name by which exceptions call it."""

    def register(function: Rule) -> Rule:
        RULES[name] = function
        return function

    return register


# --- IAM --------------------------------------------------------------------------------------------------------------

_TOO_MUCH = re.compile(r"FullAccess|AdministratorAccess|PowerUserAccess")
_WHOLE_SERVICE = re.compile(r"^(\*|[A-Za-z0-9-]+:\*)$")
_ANYTHING = re.compile(r"^(\*|arn:[^:]*:[^:]*:[^:]*:[^:]*:\*)$")
_WHO = frozenset(
    name.lower()
    for name in (
        "aws:PrincipalAccount",
        "aws:PrincipalArn",
        "aws:PrincipalOrgID",
        "aws:SourceAccount",
        "aws:SourceArn",
        "aws:SourceOwner",
        "aws:SourceVpc",
        "aws:SourceVpce",
        "kms:CallerAccount",
    )
)


@rule("iam-undecided")
def iam_undecided(resources: Sequence[Resource]) -> Iterator[Finding]:
    """A document must be known, or no other rule would see what is in it."""
    for resource, attribute in undecided(resources):
        yield resource, attribute, "is only known after the apply, so nothing here has judged it"


@rule("iam-managed-policy")
def iam_managed_policy(resources: Sequence[Resource]) -> Iterator[Finding]:
    """AWS's *FullAccess and administrator policies are attached to nobody."""
    for resource in resources:
        attached = [resource.values.get("policy_arn") or "", *(resource.values.get("managed_policy_arns") or [])]
        for arn in attached:
            if _TOO_MUCH.search(arn):
                yield resource, arn.rsplit("/", 1)[-1], "gives far more than is needed: write the few actions it needs"


@rule("iam-wildcard-action")
def iam_wildcard_action(resources: Sequence[Resource]) -> Iterator[Finding]:
    """No statement allows everything, nor everything of a service."""
    for document, statement in _allowing(resources):
        for action in statement.actions:
            if _WHOLE_SERVICE.match(action):
                yield document.resource, action, f"{statement.sid} allows it all: name the actions"
        if statement.not_actions:
            yield document.resource, "NotAction", f"{statement.sid} allows all but a few actions: name the allowed ones"


@rule("iam-wildcard-resource")
def iam_wildcard_resource(resources: Sequence[Resource]) -> Iterator[Finding]:
    """No statement that says what its holder may do allows it on everything.

    In a policy on a thing (a key, a bucket) `*` is that thing, so those are not asked.
    """
    for document, statement in _allowing(resources):
        if document.kind != "identity":
            continue
        if any(_ANYTHING.match(resource) for resource in statement.resources):
            for action in statement.actions:
                yield document.resource, action, f"{statement.sid} allows it on every resource: name the resources"
        if statement.not_resources:
            yield document.resource, "NotResource", f"{statement.sid} allows all but a few resources: name the allowed"


@rule("iam-open-principal")
def iam_open_principal(resources: Sequence[Resource]) -> Iterator[Finding]:
    """Nothing lets anybody in: who is "*" has to be narrowed by a condition on who asks."""
    for document, statement in _allowing(resources):
        keys = {key.lower() for operator in statement.conditions.values() for key in operator}
        if "*" in statement.principals and not keys & _WHO:
            yield (
                document.resource,
                statement.sid,
                "allows anybody: name the principals, or their account in a condition",
            )


@rule("iam-boundary")
def iam_boundary(resources: Sequence[Resource]) -> Iterator[Finding]:
    """Every role carries the permission boundary; without it CI could not even create the role."""
    for resource in of_type(resources, "aws_iam_role"):
        if not _given(resource, "permissions_boundary"):
            yield resource, "permissions_boundary", "is not set: pass permissions_boundary_arn to the module"


@rule("iam-lint")
def iam_lint(resources: Sequence[Resource]) -> Iterator[Finding]:
    """parliament has nothing to say about a document."""
    for document in documents(resources):
        for issue, words in lint(document.text):
            yield document.resource, issue, f"{document.attribute}: {words or 'see parliament'}"


def _allowing(resources: Sequence[Resource]) -> Iterator[tuple[Document, Statement]]:
    for document in documents(resources):
        for statement in document.statements:
            if statement.allows:
                yield document, statement


# --- Network ----------------------------------------------------------------------------------------------------------


@rule("open-ingress")
def open_ingress(resources: Sequence[Resource]) -> Iterator[Finding]:
    """Nothing lets traffic in from public addresses."""
    for resource in resources:
        for cidr in _ingress(resource):
            if not ipaddress.ip_network(cidr, strict=False).is_private:
                yield resource, cidr, "lets public addresses in: name a security group or private addresses"


def _ingress(resource: Resource) -> Iterator[str]:
    values = resource.values
    if resource.type in ("aws_security_group", "aws_default_security_group"):
        for block in resource.blocks("ingress"):
            yield from [*(block.get("cidr_blocks") or []), *(block.get("ipv6_cidr_blocks") or [])]
    elif resource.type == "aws_security_group_rule" and values.get("type") == "ingress":
        yield from [*(values.get("cidr_blocks") or []), *(values.get("ipv6_cidr_blocks") or [])]
    elif resource.type == "aws_vpc_security_group_ingress_rule":
        yield from [cidr for cidr in (values.get("cidr_ipv4"), values.get("cidr_ipv6")) if cidr]


@rule("public-endpoint")
def public_endpoint(resources: Sequence[Resource]) -> Iterator[Finding]:
    """Nothing of the platform can be reached from the internet."""
    for resource in resources:
        values = resource.values
        match resource.type:
            case "aws_db_instance" | "aws_rds_cluster_instance" if values.get("publicly_accessible"):
                yield resource, "publicly_accessible", "gives the database a public address: leave it false"
            case "aws_eks_cluster" if (network := resource.block("vpc_config")).get("endpoint_public_access"):
                cidrs = network.get("public_access_cidrs") or ["0.0.0.0/0"]
                if any(ipaddress.ip_network(cidr).prefixlen == 0 for cidr in cidrs):
                    yield resource, "endpoint_public_access", "opens the cluster's API to everybody: list the CIDRs"
            case "aws_lb" | "aws_alb" if not values.get("internal"):
                yield resource, "internal", "puts the load balancer on the internet: make it internal"
            case "aws_mwaa_environment" if values.get("webserver_access_mode") != "PRIVATE_ONLY":
                yield resource, "webserver_access_mode", "puts Airflow's page on the internet: make it PRIVATE_ONLY"
            case "aws_subnet" if values.get("map_public_ip_on_launch"):
                yield resource, "map_public_ip_on_launch", "gives whatever starts here a public address: leave it false"
            case "aws_ecs_service" if resource.block("network_configuration").get("assign_public_ip"):
                yield resource, "assign_public_ip", "gives each task a public address: leave it false"
            case "aws_instance" if values.get("associate_public_ip_address"):
                yield resource, "associate_public_ip_address", "gives the machine a public address: leave it false"
            case "aws_launch_template" if any(
                str(block.get("associate_public_ip_address")).lower() == "true"
                for block in resource.blocks("network_interfaces")
            ):
                yield resource, "associate_public_ip_address", "gives each machine a public address: leave it false"


@rule("bucket-public-access")
def bucket_public_access(resources: Sequence[Resource]) -> Iterator[Finding]:
    """All four switches against public access are on, for every bucket."""
    switches = ("block_public_acls", "block_public_policy", "ignore_public_acls", "restrict_public_buckets")
    blocked = {
        block.values.get("bucket")
        for block in of_type(resources, "aws_s3_bucket_public_access_block")
        if all(block.values.get(switch) for switch in switches)
    }
    for bucket in of_type(resources, "aws_s3_bucket"):
        if _bucket_name(bucket) not in blocked:
            yield bucket, "public access", "is not blocked: add an aws_s3_bucket_public_access_block with all four on"


@rule("imdsv2")
def imdsv2(resources: Sequence[Resource]) -> Iterator[Finding]:
    """A machine's credentials come only to its own processes: session tokens, and one hop, which pods are behind."""
    for resource in of_type(resources, "aws_launch_template", "aws_instance"):
        options = resource.block("metadata_options")
        if options.get("http_tokens") != "required":
            yield resource, "http_tokens", "must be required: IMDSv1 hands credentials to whoever can make a GET"
        if options.get("http_put_response_hop_limit") != 1:
            yield resource, "http_put_response_hop_limit", "must be 1: more lets pods take the node's credentials"
    for resource in of_type(resources, "aws_eks_node_group"):
        if not resource.blocks("launch_template"):
            yield resource, "launch_template", "is missing, so the nodes get AWS's hop limit of 2"


# --- Encryption -------------------------------------------------------------------------------------------------------


@rule("encryption")
def encryption(resources: Sequence[Resource]) -> Iterator[Finding]:
    """Whatever keeps data encrypts it with a key of ours."""
    encrypted = {
        block.values.get("bucket")
        for block in of_type(resources, "aws_s3_bucket_server_side_encryption_configuration")
        if str(block.block("rule", "apply_server_side_encryption_by_default").get("sse_algorithm")).startswith(
            "aws:kms"
        )
    }
    for bucket in of_type(resources, "aws_s3_bucket"):
        if _bucket_name(bucket) not in encrypted:
            yield bucket, "sse_algorithm", "must be aws:kms: add an aws_s3_bucket_server_side_encryption_configuration"
    for resource in resources:
        for attribute in _KEYS.get(resource.type, ()):
            if not _given(resource, attribute):
                yield resource, attribute, "is not set: encrypt it with the environment's key"
        yield from _nested_encryption(resource)


_KEYS = {
    "aws_backup_vault": ("kms_key_arn",),
    "aws_cloudwatch_log_group": ("kms_key_id",),
    "aws_db_instance": ("storage_encrypted", "kms_key_id"),
    "aws_ebs_volume": ("encrypted",),
    "aws_efs_file_system": ("encrypted",),
    "aws_kinesis_stream": ("kms_key_id",),
    "aws_mwaa_environment": ("kms_key",),
    "aws_rds_cluster": ("storage_encrypted", "kms_key_id"),
    "aws_sagemaker_endpoint_configuration": ("kms_key_arn",),
    "aws_secretsmanager_secret": ("kms_key_id",),
    "aws_sns_topic": ("kms_master_key_id",),
    "aws_sqs_queue": ("kms_master_key_id",),
}


def _nested_encryption(resource: Resource) -> Iterator[Finding]:
    match resource.type:
        case "aws_launch_template":
            disks = [disk for mapping in resource.blocks("block_device_mappings") for disk in mapping.get("ebs") or []]
            if not disks or any(str(disk.get("encrypted")).lower() != "true" for disk in disks):
                yield resource, "block_device_mappings", "must encrypt every disk: set ebs.encrypted"
        case "aws_eks_cluster":
            if "secrets" not in (resource.block("encryption_config").get("resources") or []):
                yield resource, "encryption_config", "must encrypt the cluster's secrets"
        case "aws_ecr_repository":
            if resource.block("encryption_configuration").get("encryption_type") != "KMS":
                yield resource, "encryption_configuration", "must be of type KMS"
        case "aws_dynamodb_table":
            if not resource.block("server_side_encryption").get("kms_key_arn"):
                yield resource, "server_side_encryption", "must name the environment's key"
        case "aws_db_instance":
            if resource.values.get("performance_insights_enabled") and not _given(
                resource, "performance_insights_kms_key_id"
            ):
                yield resource, "performance_insights_kms_key_id", "is not set: name the environment's key"
        case "aws_sagemaker_endpoint_configuration":
            capture = resource.block("data_capture_config")
            if capture.get("enable_capture") and not (
                capture.get("kms_key_id") or "data_capture_config" in resource.unknown
            ):
                yield resource, "data_capture_config", "must encrypt what it captures: set kms_key_id"
        case "aws_kms_key":
            if not resource.values.get("enable_key_rotation"):
                yield resource, "enable_key_rotation", "must be true"


@rule("tls-only")
def tls_only(resources: Sequence[Resource]) -> Iterator[Finding]:
    """Nothing that is asked for over plain HTTP is given."""
    guarded = {_guarded(document) for document in documents(resources) if _refuses_plain_http(document)}
    for resource in of_type(resources, "aws_s3_bucket"):
        if not {_bucket_name(resource), resource.address} & guarded:
            yield resource, "policy", "must deny s3:* on the bucket and its objects where aws:SecureTransport is false"
    for resource in of_type(resources, "aws_sns_topic"):
        if not {resource.values.get("arn"), resource.address} & guarded:
            yield resource, "policy", "must deny sns:Publish where aws:SecureTransport is false"
    for resource in of_type(resources, "aws_sqs_queue"):
        if not {resource.values.get("url"), resource.values.get("id"), resource.address} & guarded:
            yield resource, "policy", "must deny sqs:* where aws:SecureTransport is false"

    forced = {
        group.values.get("name")
        for group in of_type(resources, "aws_db_parameter_group")
        if any(
            entry.get("name") == "rds.force_ssl" and entry.get("value") == "1" for entry in group.blocks("parameter")
        )
    }
    for resource in of_type(resources, "aws_db_instance"):
        if resource.values.get("parameter_group_name") not in forced:
            yield resource, "parameter_group_name", "must name a group that sets rds.force_ssl to 1"
    for resource in of_type(resources, "aws_lb_listener"):
        redirects = resource.block("default_action", "redirect").get("protocol") == "HTTPS"
        if resource.values.get("protocol") not in ("HTTPS", "TLS") and not redirects:
            yield resource, "protocol", "must be HTTPS: give the load balancer a certificate"


def _guarded(document: Document) -> str | None:
    values = document.resource.values
    match document.resource.type:
        case "aws_s3_bucket_policy":
            return values.get("bucket")
        case "aws_sns_topic_policy":
            return values.get("arn")
        case "aws_sqs_queue_policy":
            return values.get("queue_url")
        case _:
            return document.resource.address


def _refuses_plain_http(document: Document) -> bool:
    for statement in document.statements:
        plain = any(
            key.lower() == "aws:securetransport" and "false" in (value if isinstance(value, list) else [value])
            for operator, keys in statement.conditions.items()
            if operator.startswith("Bool")
            for key, value in keys.items()
        )
        if statement.allows or not plain or "*" not in statement.principals:
            continue
        if document.resource.type != "aws_s3_bucket_policy":
            return True
        whole = {resource.removesuffix("/*") for resource in statement.resources if resource.endswith("/*")}
        if {"*", "s3:*"} & set(statement.actions) and whole & set(statement.resources):
            return True
    return False


# --- Running it -------------------------------------------------------------------------------------------------------


@rule("tags")
def tags(resources: Sequence[Resource]) -> Iterator[Finding]:
    """Whatever can carry tags says whose it is and who pays for it."""
    for resource in resources:
        if "tags_all" in resource.values and (missing := _missing(resource.values["tags_all"])):
            yield resource, "tags_all", f"lacks {', '.join(missing)}: they come from the provider's default_tags"
        if resource.type == "aws_launch_template":
            made = {block.get("resource_type"): block.get("tags") for block in resource.blocks("tag_specifications")}
            for kind in ("instance", "volume"):
                if missing := _missing(made.get(kind)):
                    yield resource, f"tag_specifications {kind}", f"lacks {', '.join(missing)}: pass tags to the module"


def _missing(given: dict[str, str] | None) -> list[str]:
    return [tag for tag in TAGS if not (given or {}).get(tag)]


@rule("log-retention")
def log_retention(resources: Sequence[Resource]) -> Iterator[Finding]:
    """No log is kept for ever."""
    for resource in of_type(resources, "aws_cloudwatch_log_group"):
        if not resource.values.get("retention_in_days"):
            yield resource, "retention_in_days", "is not set: logs would be kept, and paid for, for ever"


_SECRET_TEXTS = {
    "an access key": re.compile(r"\b(AKIA|ASIA)[A-Z0-9]{16}\b"),
    "a private key": re.compile(r"-----BEGIN [A-Z ]*PRIVATE KEY-----"),
    "a password in an address": re.compile(r"\b[a-z][a-z0-9+.-]*://[^/\s:@]+:[^/\s:@$]+@"),
    "a token": re.compile(
        r"\b(gh[pousr]_[A-Za-z0-9]{36}|glpat-[\w-]{20}|xox[abp]-[\w-]{10,}|eyJ[\w-]{20,}\.eyJ[\w-]{20,})"
    ),
}
_SECRET_NAMES = re.compile(
    r"(^|_)(password|passwd|secret|secret_string|secret_key|token|auth_token|private_key)$", re.I
)


@rule("secret-value")
def secret_value(resources: Sequence[Resource]) -> Iterator[Finding]:
    """No secret stands in a plan, and so none in a state: both hold values as plain text."""
    for resource in resources:
        if resource.type == "aws_secretsmanager_secret_version":
            yield resource, "secret_string", "puts a secret into the state: let the service make it, and refer to it"
        for path, text in strings(_unfolded(resource.values)):
            for what, pattern in _SECRET_TEXTS.items():
                if pattern.search(text):
                    yield resource, path, f"looks like {what}: keep it in Secrets Manager and refer to it"
            if text and _SECRET_NAMES.search(path.rsplit(".", 1)[-1]) and not text.startswith("arn:"):
                yield resource, path, "is a secret by its name: keep it in Secrets Manager and refer to it"
        for name, value in _environment(resource):
            if value and _SECRET_NAMES.search(name) and not value.startswith("arn:"):
                yield resource, name, "is a secret in a container's environment: use `secrets` with valueFrom"


def _unfolded(value: Any) -> Any:
    """Return a value with the JSON in its strings read, so that what is inside has its names."""
    if isinstance(value, dict):
        return {name: _unfolded(inner) for name, inner in value.items()}
    if isinstance(value, list):
        return [_unfolded(inner) for inner in value]
    if isinstance(value, str) and value[:1] in ("{", "["):
        try:
            return _unfolded(json.loads(value))
        except ValueError:
            return value
    return value


def _environment(resource: Resource) -> Iterator[tuple[str, str]]:
    if resource.type == "aws_ecs_task_definition":
        for container in json.loads(resource.values.get("container_definitions") or "[]"):
            for entry in container.get("environment") or []:
                yield str(entry.get("name")), str(entry.get("value"))
    elif resource.type == "aws_sagemaker_model":
        for container in [*resource.blocks("primary_container"), *resource.blocks("container")]:
            yield from (container.get("environment") or {}).items()


ALARMS = ("aws_cloudwatch_composite_alarm", "aws_cloudwatch_metric_alarm")
_RUNBOOK = re.compile(r"https?://\S+/([a-z0-9-]+)\.md$")


def runbook_of(alarm: Resource) -> str | None:
    """Return the name of the runbook an alarm's description ends with, without `.md`; None where there is none."""
    found = _RUNBOOK.search(alarm.values.get("alarm_description") or "")
    return found.group(1) if found else None


def runbooks(resources: Sequence[Resource], names: frozenset[str]) -> Iterator[Violation]:
    """Every alarm names a runbook, and it is there. `names` are the runbooks that exist, without `.md`."""
    for alarm in of_type(resources, *ALARMS):
        name = runbook_of(alarm)
        if name is None:
            problem = "must end with the address of its runbook"
        elif name not in names:
            problem = f"names a runbook that is not there: write docs/runbooks/{name}.md"
        else:
            continue
        yield Violation("runbook", alarm.address, "alarm_description", problem)


def idle_runbooks(resources: Iterable[Resource], names: frozenset[str]) -> list[str]:
    """Return the runbooks that no alarm names."""
    return sorted(names - {runbook_of(alarm) for alarm in of_type(resources, *ALARMS)})


def _given(resource: Resource, attribute: str) -> bool:
    return bool(resource.values.get(attribute)) or attribute in resource.unknown


def _bucket_name(bucket: Resource) -> str:
    return str(bucket.values.get("bucket") or bucket.values.get("id"))
