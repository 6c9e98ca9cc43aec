"""What an environment needs, by its folder and its configuration."""

from __future__ import annotations

import re
from typing import Any

import pytest

from cloud.environments import NAMES, Environment
from cloud.preflight import served, sizes_of
from cloud.preflight.needs import Need, NodeGroup, Size, linked_roles, node_groups, node_needs, other_needs, vcpu_quota
from cloud.terraform import ROOT

STANDARD, STANDARD_SPOT, GPU, GPU_SPOT = "L-1216C47A", "L-34B43A08", "L-DB2E81BA", "L-3819A6DF"
VCPUS = {"t3.large": 2, "m5.xlarge": 4, "m5.2xlarge": 8, "g4dn.xlarge": 4, "g5.2xlarge": 8, "p4d.24xlarge": 96}


def sizes(**changes: Any) -> dict[str, Any]:
    base: dict[str, Any] = {
        "network": {"zones": 3, "single_nat_gateway": True, "interface_endpoints": []},
        "cluster": {
            "system": {"instance_types": ["t3.large"], "min_size": 2, "max_size": 3},
            "cpu": {"instance_types": ["m5.xlarge", "m5.2xlarge"], "max_size": 4, "spot": True},
            "gpu": {"instance_types": ["g4dn.xlarge", "g5.2xlarge"], "max_size": 2, "on_demand_max_size": 1},
        },
        "mlflow": {"task_cpu": 512, "min_tasks": 1, "max_tasks": 1},
        "endpoints": {},
    }
    return {**base, **{name: {**base[name], **change} for name, change in changes.items()}}


def amounts(needs: list[Need]) -> dict[str, float]:
    return {need.quota.code or need.quota.name: need.amount for need in needs}


def test_nodes_count_by_their_largest_type_at_their_most() -> None:
    needs = node_needs(node_groups(sizes()), VCPUS)
    assert amounts(needs) == {STANDARD: 3 * 2, STANDARD_SPOT: 4 * 8, GPU: 1 * 8, GPU_SPOT: 2 * 8}


def test_a_bastion_counts_as_what_stands_always() -> None:
    with_one = {**sizes(), "bastion": {"instance_type": "t4g.nano"}}
    needs = node_needs(node_groups(with_one), {**VCPUS, "t4g.nano": 2})
    assert amounts(needs)[STANDARD] == 3 * 2 + 2
    assert node_groups({**sizes(), "bastion": None}) == node_groups(sizes())


def test_groups_that_count_against_one_quota_are_added() -> None:
    needs = node_needs(
        node_groups(sizes(cluster={"cpu": {"instance_types": ["m5.xlarge"], "max_size": 5, "spot": False}})), VCPUS
    )
    assert amounts(needs)[STANDARD] == 3 * 2 + 5 * 4
    assert STANDARD_SPOT not in amounts(needs)


def test_without_gpu_nodes_no_quota_of_gpus_is_needed() -> None:
    for gpu in (None, {"instance_types": ["g5.xlarge"], "max_size": 0, "on_demand_max_size": 0}):
        needs = node_needs(node_groups(sizes(cluster={"gpu": gpu})), VCPUS)
        assert set(amounts(needs)) == {STANDARD, STANDARD_SPOT}


def test_a_group_of_two_classes_needs_both_quotas() -> None:
    group = NodeGroup("gpu", ("g5.2xlarge", "p4d.24xlarge"), 2, spot=True)
    assert amounts(node_needs([group], VCPUS)) == {GPU_SPOT: 16, "L-7212CCBC": 192}


@pytest.mark.parametrize(
    ("kind", "on_demand", "spot"),
    [
        ("m7i-flex.large", STANDARD, STANDARD_SPOT),
        ("im4gn.large", STANDARD, STANDARD_SPOT),
        ("t3a.large", STANDARD, STANDARD_SPOT),
        ("gr6.4xlarge", GPU, GPU_SPOT),
        ("vt1.3xlarge", GPU, GPU_SPOT),
        ("p4de.24xlarge", "L-417A185B", "L-7212CCBC"),
        ("p5en.48xlarge", "L-417A185B", "L-C4BD4855"),
        ("inf2.xlarge", None, None),
        ("hpc7a.96xlarge", None, None),
    ],
)
def test_which_quota_an_instance_counts_against(kind: str, on_demand: str | None, spot: str | None) -> None:
    assert (vcpu_quota(kind, spot=False), vcpu_quota(kind, spot=True)) == (on_demand, spot)


def test_every_family_that_nodes_may_be_of_counts_against_a_quota() -> None:
    text = (ROOT / "terraform" / "modules" / "cluster" / "choices.tf").read_text()
    lists = re.findall(r"_instance_families = \[(.*?)\]", text, re.DOTALL)
    families = [family for found in lists for family in re.findall(r'"([^"]+)"', found)]
    assert len(families) > 20
    assert [family for family in families if vcpu_quota(f"{family}.xlarge", spot=True) is None] == []


def test_a_nat_gateway_in_each_zone_has_an_address_each() -> None:
    assert amounts(other_needs(sizes(), {}))["L-0263D0A3"] == 1
    assert amounts(other_needs(sizes(network={"single_nat_gateway": False}), {}))["L-0263D0A3"] == 3


def test_interface_endpoints_are_needed_where_there_are_some() -> None:
    assert "L-29B6F2EB" not in amounts(other_needs(sizes(), {}))
    assert amounts(other_needs(sizes(network={"interface_endpoints": ["sts", "kms"]}), {}))["L-29B6F2EB"] == 2


def test_fargate_has_room_for_one_task_more() -> None:
    assert amounts(other_needs(sizes(mlflow={"task_cpu": 1024, "max_tasks": 6}), {}))["L-3032A538"] == 7


ENDPOINT = {"instance_type": "ml.m5.large", "instance_count": 1, "max_instance_count": 3}


def endpoint_needs(endpoints: dict[str, Any], served: dict[str, Size]) -> dict[str, float]:
    needs = amounts(other_needs({**sizes(), "endpoints": endpoints}, served))
    return {name: amount for name, amount in needs.items() if "endpoint usage" in name or name == "L-7A3DF611"}


def test_an_endpoint_needs_two_fleets_at_its_most() -> None:
    assert endpoint_needs({"a": ENDPOINT}, {"a": Size("ml.m5.large", 1)}) == {
        "ml.m5.large for endpoint usage": 6,
        "L-7A3DF611": 6,
    }
    assert endpoint_needs({"a": {**ENDPOINT, "max_instance_count": None}}, {}) == {
        "ml.m5.large for endpoint usage": 2,
        "L-7A3DF611": 2,
    }


def test_datasets_that_only_the_configuration_knows_count_too() -> None:
    assert endpoint_needs({"a": ENDPOINT}, {"a": Size("ml.m5.large", 4), "b": Size("ml.c5.large", 2)}) == {
        "ml.m5.large for endpoint usage": 8,
        "ml.c5.large for endpoint usage": 4,
        "L-7A3DF611": 12,
    }


def test_a_dataset_that_changes_its_type_needs_both() -> None:
    assert endpoint_needs({"a": ENDPOINT}, {"a": Size("ml.c5.large", 1)}) == {
        "ml.m5.large for endpoint usage": 6,
        "ml.c5.large for endpoint usage": 2,
        "L-7A3DF611": 8,
    }


def test_roles_of_what_scales_are_needed_only_where_something_scales() -> None:
    still = linked_roles(
        sizes(cluster={"cpu": {"instance_types": ["m5.xlarge"], "max_size": 1, "spot": False}, "gpu": None})
    )
    moving = linked_roles({**sizes(mlflow={"max_tasks": 2}), "endpoints": {"a": ENDPOINT}})
    assert {*moving} - {*still} == {
        "ecs.application-autoscaling.amazonaws.com",
        "sagemaker.application-autoscaling.amazonaws.com",
        "spot.amazonaws.com",
    }
    assert {*still} < {*moving}


@pytest.mark.parametrize("name", NAMES)
def test_ci_may_make_every_role_that_an_environment_needs(name: str) -> None:
    text = (ROOT / "terraform" / "bootstrap" / "ci_roles.tf").read_text()
    allowed = set(re.findall(r'"([a-z.-]+\.amazonaws\.com)"', text.partition('"ServiceLinkedRoles"')[2]))
    assert set(linked_roles(sizes_of(Environment(name)))) <= allowed


@pytest.mark.parametrize("name", NAMES)
def test_the_needs_of_every_environment_can_be_told(name: str) -> None:
    environment = Environment(name)
    found = amounts(other_needs(sizes_of(environment), served(environment)))
    assert all(amount > 0 for amount in found.values())
    assert any(quota.endswith(" for endpoint usage") for quota in found)
    assert node_groups(sizes_of(environment))
