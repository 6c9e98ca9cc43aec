"""What an environment needs of an account, by the sizes in its folder and its configuration. Asks nobody."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

Sizes = Mapping[str, Any]
"""Arguments of the environment's `module "platform"`."""
Counted = Literal[
    "airflow environments",
    "clusters",
    "databases",
    "elastic ips",
    "endpoint instances",
    "interface endpoints",
    "internet gateways",
    "nat gateways",
    "node vcpus",
    "not told",
    "vpcs",
]
"""How what is in use is counted, see `cloud.preflight.account`."""

FLEETS = 2
"""A deployment has the old and the new instances of an endpoint side by side until the old ones are let go."""

_ON_DEMAND = {"standard": "L-1216C47A", "g": "L-DB2E81BA", "p": "L-417A185B", "p5": "L-417A185B"}
_SPOT = {"standard": "L-34B43A08", "g": "L-3819A6DF", "p": "L-7212CCBC", "p5": "L-C4BD4855"}
_CLASSES = {
    **dict.fromkeys(("a", "c", "d", "h", "i", "im", "is", "m", "r", "t", "z"), "standard"),
    **dict.fromkeys(("g", "gr", "vt"), "g"),
    "p": "p",
}
_NAMES = {"standard": "standard", "g": "GPU (G and VT)", "p": "GPU (P)", "p5": "GPU (P)"}


@dataclass(frozen=True)
class Quota:
    """A quota as Service Quotas knows it: by code, or by name where there is one for each type of instance."""

    service: str
    code: str = ""
    name: str = ""


@dataclass(frozen=True)
class Need:
    """So much of something, of which an account may have no more than a quota allows."""

    what: str
    amount: float
    quota: Quota
    counted: Counted
    of: str = ""
    """Of which kind, where only some count."""


@dataclass(frozen=True)
class NodeGroup:
    """Instances of one kind, mostly nodes of the cluster; each may be of any of the types."""

    name: str
    instance_types: tuple[str, ...]
    maximum: int
    spot: bool


@dataclass(frozen=True)
class Size:
    """Instances of an endpoint."""

    instance_type: str
    count: int


def node_groups(sizes: Sizes) -> list[NodeGroup]:
    """Return the node groups that the platform module makes, GPU nodes spot first, and the bastion, a group of one."""
    cluster = sizes["cluster"]
    system, cpu, gpu = cluster["system"], cluster["cpu"], cluster["gpu"]
    groups = [
        NodeGroup("system", tuple(system["instance_types"]), system["max_size"], spot=False),
        NodeGroup("cpu", tuple(cpu["instance_types"]), cpu["max_size"], spot=cpu["spot"]),
    ]
    if gpu:
        types = tuple(gpu["instance_types"])
        groups += [
            NodeGroup("gpu spot", types, gpu["max_size"], spot=True),
            NodeGroup("gpu on demand", types, gpu["on_demand_max_size"], spot=False),
        ]
    if bastion := sizes.get("bastion"):
        groups.append(NodeGroup("bastion", (bastion["instance_type"],), 1, spot=False))
    return [group for group in groups if group.maximum]


def vcpu_quota(instance_type: str, *, spot: bool) -> str | None:
    """Return the code of the quota that an EC2 instance's vCPUs count against; None for families not used here."""
    family = instance_type.partition(".")[0]
    letters = re.match(r"[a-z]+", family)
    kind = _CLASSES.get(letters[0]) if letters else None
    if kind == "p" and family.startswith("p5"):
        kind = "p5"
    return (_SPOT if spot else _ON_DEMAND)[kind] if kind else None


def node_needs(groups: list[NodeGroup], vcpus: Mapping[str, int]) -> list[Need]:
    """Return the vCPUs of all nodes at their most: of each group as many as its largest type has, times its maximum."""
    needed: dict[str, float] = {}
    for group in groups:
        largest: dict[str, int] = {}
        for kind in group.instance_types:
            if code := vcpu_quota(kind, spot=group.spot):
                largest[code] = max(largest.get(code, 0), vcpus[kind])
        for code, each in largest.items():
            needed[code] = needed.get(code, 0) + each * group.maximum
    return [
        Need(f"{_vcpu_name(code)} vCPUs", amount, Quota("ec2", code), "node vcpus", code)
        for code, amount in sorted(needed.items(), key=lambda one: _vcpu_name(one[0]))
    ]


def _vcpu_name(code: str) -> str:
    for codes, how in ((_ON_DEMAND, "on demand"), (_SPOT, "spot")):
        for kind, known in codes.items():
            if known == code:
                return f"{_NAMES[kind]} {how}"
    raise KeyError(code)


def nat_gateways(sizes: Sizes) -> int:
    """Return how many zones get a NAT gateway, from the first on."""
    return 1 if sizes["network"]["single_nat_gateway"] else int(sizes["network"]["zones"])


def other_needs(sizes: Sizes, served: Mapping[str, Size]) -> list[Need]:
    """Return what is needed besides nodes.

    Args:
        served: the instances that the configuration deploys models of each enabled dataset to.
    """
    mlflow, network = sizes["mlflow"], sizes["network"]
    # One task more: the migration of the database, or the first new one of a roll-out.
    tasks = mlflow["max_tasks"] + 1
    needs = [
        Need("VPCs", 1, Quota("vpc", "L-F678F1CE"), "vpcs"),
        Need("internet gateways", 1, Quota("vpc", "L-A4707A72"), "internet gateways"),
        Need("elastic IPs", nat_gateways(sizes), Quota("ec2", "L-0263D0A3"), "elastic ips"),
        Need("NAT gateways in a zone", 1, Quota("vpc", "L-FE5A380F"), "nat gateways"),
    ]
    if endpoints := network["interface_endpoints"]:
        needs.append(
            Need("interface endpoints in a VPC", len(endpoints), Quota("vpc", "L-29B6F2EB"), "interface endpoints")
        )
    return [
        *needs,
        Need("EKS clusters", 1, Quota("eks", "L-1194D53C"), "clusters"),
        Need("MWAA environments", 1, Quota("airflow", "L-67D41C6B"), "airflow environments"),
        Need("RDS instances", 1, Quota("rds", "L-7B6409FD"), "databases"),
        Need("Fargate vCPUs", tasks * mlflow["task_cpu"] / 1024, Quota("fargate", "L-3032A538"), "not told"),
        *_endpoint_needs(sizes, served),
    ]


def _endpoint_needs(sizes: Sizes, served: Mapping[str, Size]) -> Iterator[Need]:
    needed: dict[str, int] = {}
    for dataset in sorted({*sizes["endpoints"], *served}):
        # Usually one type; where Terraform and the configuration differ, the first deployment has both.
        largest: dict[str, int] = {}
        for size in (_at_most(sizes["endpoints"].get(dataset)), served.get(dataset)):
            if size:
                largest[size.instance_type] = max(largest.get(size.instance_type, 0), size.count)
        for kind, count in largest.items():
            needed[kind] = needed.get(kind, 0) + FLEETS * count
    for kind, amount in sorted(needed.items()):
        quota = Quota("sagemaker", name=f"{kind} for endpoint usage")
        yield Need(f"{kind} for endpoints", amount, quota, "endpoint instances", kind)
    if needed:
        everything = Quota("sagemaker", "L-7A3DF611")
        yield Need("instances of all endpoints", sum(needed.values()), everything, "endpoint instances")


def _at_most(endpoint: Mapping[str, Any] | None) -> Size | None:
    if endpoint is None:
        return None
    return Size(endpoint["instance_type"], endpoint.get("max_instance_count") or endpoint["instance_count"])


def linked_roles(sizes: Sizes) -> list[str]:
    """Return the services whose service-linked role has to be there; AWS makes it when the service is used first."""
    mlflow = sizes["mlflow"]
    scaled = [
        one for one in sizes["endpoints"].values() if (one.get("max_instance_count") or 0) > one["instance_count"]
    ]
    conditional = {
        "ecs.application-autoscaling": mlflow["max_tasks"] > mlflow["min_tasks"],
        "sagemaker.application-autoscaling": bool(scaled),
        "spot": any(group.spot for group in node_groups(sizes)),
    }
    always = ["airflow", "autoscaling", "ecs", "eks", "eks-nodegroup", "elasticloadbalancing", "rds"]
    return [
        f"{name}.amazonaws.com" for name in sorted([*always, *(name for name, wanted in conditional.items() if wanted)])
    ]
