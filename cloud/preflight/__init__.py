"""Whether an account has room for an environment, before anything is made in it.

`needs` is what the environment's folder and its configuration ask for, `account` what AWS says there is, `assess`
compares, `report` is what is told and `text` shows it to people.
"""

from __future__ import annotations

from collections.abc import Iterator

from cloud import cost, datasets
from cloud.environments import Environment
from cloud.preflight.account import Account, asked
from cloud.preflight.assess import (
    Unknown,
    control_plane_line,
    linked_roles_line,
    node_zones_line,
    quota_line,
    unknown_line,
)
from cloud.preflight.needs import (
    NodeGroup,
    Size,
    Sizes,
    linked_roles,
    nat_zones,
    node_groups,
    node_needs,
    other_needs,
)
from cloud.preflight.report import Line, Report
from cloud.preflight.text import shown, summary

__all__ = ["Report", "of_environment", "served", "shown", "sizes_of", "summary"]


def of_environment(environment: Environment) -> Report:
    """Ask the account for everything that an environment needs.

    Raises:
        CloudError: AWS does not know the caller, no region is set, or the environment's folder cannot be read.
    """
    account_id = environment.account
    region: str = environment.client("ec2").meta.region_name
    lines = list(_lines(environment, Account(environment), region))
    return Report(environment=environment.name, account=account_id, region=region, lines=lines)


def sizes_of(environment: Environment) -> Sizes:
    """Return the sizes in an environment's folder."""
    return cost.read_sizes(environment.folder / "main.tf")


def served(environment: Environment) -> dict[str, Size]:
    """Return the instances that models of each enabled dataset are deployed to."""
    found = {dataset: datasets.serving(environment, dataset) for dataset in datasets.enabled(environment)}
    return {name: Size(one["instance_type"], one["instance_count"]) for name, one in found.items()}


def _lines(environment: Environment, account: Account, region: str) -> Iterator[Line]:
    sizes = sizes_of(environment)
    groups = node_groups(sizes)
    needs = other_needs(sizes, served(environment))
    vcpus = asked(lambda: account.vcpus(kind for group in groups for kind in group.instance_types))
    if isinstance(vcpus, Unknown):
        yield unknown_line("vCPUs of nodes", vcpus)
    else:
        needs = [*node_needs(groups, vcpus), *needs]
    gateways = [region + letter for letter in nat_zones(sizes)]
    for need in needs:
        yield quota_line(need, account.limit(need.quota), account.use(need, gateways), region)
    yield from _zones(environment, account, [region + letter for letter in sizes["network"]["zones"]], groups)
    yield _linked_roles(account, linked_roles(sizes))


def _zones(environment: Environment, account: Account, zones: list[str], groups: list[NodeGroup]) -> Iterator[Line]:
    place = str((environment.folder / "main.tf").relative_to(environment.root))
    ids = asked(account.zone_ids)
    if isinstance(ids, Unknown):
        yield unknown_line("zones", ids)
        return
    yield control_plane_line(zones, ids, place)
    offered = asked(lambda: account.offered(kind for group in groups for kind in group.instance_types))
    if isinstance(offered, Unknown):
        yield unknown_line("zones for nodes", offered)
        return
    for group in groups:
        yield node_zones_line(group, zones, ids, offered, place)


def _linked_roles(account: Account, services: list[str]) -> Line:
    there = asked(account.linked_roles)
    if isinstance(there, Unknown):
        return unknown_line("service-linked roles", there)
    return linked_roles_line(
        services, there, {service: account.may_link(service) for service in services if service not in there}
    )
