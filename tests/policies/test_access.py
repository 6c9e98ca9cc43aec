"""People's ways in, in the plan of every environment."""

from __future__ import annotations

import json

import pytest

from tests.policies.planning import ENVIRONMENTS, VARIABLES
from tests.policies.plans import Plans
from tests.policies.resources import Resource, of_type

DOORS = {
    "airflow": ("module.platform.module.airflow.aws_vpc_security_group_ingress_rule.client_", {443}),
    "mlflow": ("module.platform.module.mlflow.aws_vpc_security_group_ingress_rule.load_balancer_", {80, 443}),
    "kubernetes": ("module.platform.module.cluster.aws_vpc_security_group_ingress_rule.control_plane", {443}),
}
"""Which rules let people in, and where."""


def ingress(resources: list[Resource], prefix: str) -> list[Resource]:
    rules = of_type(resources, "aws_vpc_security_group_ingress_rule")
    return [rule for rule in rules if rule.address.startswith(prefix)]


@pytest.mark.parametrize("environment", ENVIRONMENTS)
def test_private_clients_reach_all_three(plans: Plans, environment: str) -> None:
    sources = {*VARIABLES["private_client_cidrs"], *VARIABLES["private_client_security_group_ids"].values()}
    for prefix, ports in DOORS.values():
        rules = ingress(plans[environment], prefix)
        let_in = {rule.values.get("cidr_ipv4") or rule.values.get("referenced_security_group_id") for rule in rules}
        assert sources <= let_in
        served = ports - ({443} if environment == "dev" and len(ports) > 1 else set())  # it has no certificate
        assert {rule.values["to_port"] for rule in rules} == served
        assert all(rule.values["from_port"] == rule.values["to_port"] for rule in rules)


@pytest.mark.parametrize("environment", ENVIRONMENTS)
def test_the_bastion_is_a_way_in_and_has_none(plans: Plans, environment: str) -> None:
    resources = plans[environment]
    instances = of_type(resources, "aws_instance")
    assert len(instances) == 1, "without one, nobody can approve a model from outside of the network"
    (group,) = [one for one in of_type(resources, "aws_security_group") if ".bastion" in one.address]
    for prefix, _ in DOORS.values():
        assert group.values["id"] in {
            rule.values.get("referenced_security_group_id") for rule in ingress(resources, prefix)
        }
    rules = of_type(resources, "aws_vpc_security_group_ingress_rule")
    assert group.values["id"] not in {rule.values.get("security_group_id") for rule in rules}
    assert not instances[0].values.get("key_name")
    assert instances[0].values.get("associate_public_ip_address") is False


@pytest.mark.parametrize("environment", ["dev"])
def test_people_get_ports_and_no_shell(plans: Plans, environment: str) -> None:
    (policy,) = [one for one in of_type(plans[environment], "aws_iam_policy") if ".bastion" in one.address]
    starting = [one for one in json.loads(policy.values["policy"])["Statement"] if one["Action"] == "ssm:StartSession"]
    documents = {one["Resource"].rpartition("/")[2] for one in starting if ":document/" in one["Resource"]}
    assert documents == {"AWS-StartPortForwardingSessionToRemoteHost"}
    # AWS looks at the document only if all of them say so.
    assert len(starting) == 2
    assert all(one["Condition"]["BoolIfExists"] == {"ssm:SessionDocumentAccessCheck": "true"} for one in starting)
    (instance,) = [one for one in starting if ":instance/" in one["Resource"]]
    assert instance["Condition"]["StringEquals"] == {"ssm:resourceTag/Name": "ml-platform-dev-bastion"}


def test_ci_gets_ports_of_our_bastions_and_no_shell(plans: Plans) -> None:
    (policy,) = [one for one in of_type(plans["bootstrap"], "aws_iam_policy") if one.address.endswith('ci["access"]')]
    starting = [one for one in json.loads(policy.values["policy"])["Statement"] if one["Action"] == "ssm:StartSession"]
    (instances, documents) = sorted(starting, key=lambda one: ":document/" in one["Resource"])
    assert documents["Resource"].rpartition("/")[2] == "AWS-StartPortForwardingSessionToRemoteHost"
    assert all(one["Condition"]["BoolIfExists"] == {"ssm:SessionDocumentAccessCheck": "true"} for one in starting)
    assert instances["Condition"]["StringLike"] == {"ssm:resourceTag/Name": "ml-platform-*-bastion"}
    assert instances["Condition"]["StringEquals"] == {"ssm:resourceTag/Project": "ml-platform"}
