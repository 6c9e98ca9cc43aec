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
    linked_roles_line,
    quota_line,
    unknown_line,
)
from cloud.preflight.needs import (
    Size,
    Sizes,
    linked_roles,
    nat_gateways,
    node_groups,
    node_needs,
    other_needs,
)
from cloud.preflight.report import Line, Report
from cloud.preflight.text import shown, summary
from cloud.preflight.zones import Zones, zones_line
from cloud.variables import written

__all__ = ["Report", "of_environment", "served", "shown", "sizes_of", "summary"]


def of_environment(environment: Environment) -> Report:
    """Ask the account for everything that an environment needs.

    Raises:
        CloudError: AWS does not know the caller, no region is set, or the environment's folder cannot be read.
    """
    account_id = environment.account
    lines = list(_lines(environment, Account(environment)))
    return Report(environment=environment.name, account=account_id, region=environment.region, lines=lines)


def sizes_of(environment: Environment) -> Sizes:
    """Return the sizes in an environment's folder."""
    return cost.read_sizes(environment.folder / "main.tf")


def served(environment: Environment) -> dict[str, Size]:
    """Return the instances that models of each enabled dataset are deployed to."""
    found = {dataset: datasets.serving(environment, dataset) for dataset in datasets.enabled(environment)}
    return {name: Size(one["instance_type"], one["instance_count"]) for name, one in found.items()}


def _lines(environment: Environment, account: Account) -> Iterator[Line]:
    sizes = sizes_of(environment)
    groups = node_groups(sizes)
    needs = other_needs(sizes, served(environment))
    vcpus = asked(lambda: account.vcpus(kind for group in groups for kind in group.instance_types))
    if isinstance(vcpus, Unknown):
        yield unknown_line("vCPUs of nodes", vcpus)
    else:
        needs = [*node_needs(groups, vcpus), *needs]
    zones = asked(lambda: _zones(account, sizes))
    taken = [] if isinstance(zones, Unknown) else _taken(environment, zones, sizes)
    for need in needs:
        use = account.use(need, taken[: nat_gateways(sizes)])
        yield quota_line(need, account.limit(need.quota), use, environment.region)
    if isinstance(zones, Unknown):
        yield unknown_line("zones", zones)
    else:
        place = str((environment.folder / "main.tf").relative_to(environment.root))
        yield zones_line(zones, taken, sizes["network"]["zones"], groups, place)
    yield _linked_roles(account, linked_roles(sizes))


def _zones(account: Account, sizes: Sizes) -> Zones:
    types = [kind for group in node_groups(sizes) for kind in group.instance_types]
    return Zones(
        account.zone_ids(),
        account.offered(types),
        account.endpoints(sizes["network"]["interface_endpoints"]),
        account.network_zones(),
    )


def _taken(environment: Environment, zones: Zones, sizes: Sizes) -> list[str]:
    """The zones that an apply would take."""
    named = [
        values["availability_zones"] for _, values in written(environment.folder) if values.get("availability_zones")
    ]
    return zones.chosen(node_groups(sizes), sizes["network"]["zones"], named[-1] if named else None)


def _linked_roles(account: Account, services: list[str]) -> Line:
    there = asked(account.linked_roles)
    if isinstance(there, Unknown):
        return unknown_line("service-linked roles", there)
    return linked_roles_line(
        services, there, {service: account.may_link(service) for service in services if service not in there}
    )
