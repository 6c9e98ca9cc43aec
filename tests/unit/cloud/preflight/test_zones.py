"""Which zones an environment will lie in, and what others lack; as terraform/modules/zones chooses them."""

from __future__ import annotations

from dataclasses import replace

from cloud.preflight.needs import NodeGroup
from cloud.preflight.report import Line
from cloud.preflight.zones import Zones, zones_line

IDS = {
    "us-east-1a": "use1-az6",
    "us-east-1b": "use1-az4",
    "us-east-1c": "use1-az3",
    "us-east-1d": "use1-az1",
    "us-east-1e": "use1-az2",
}
EVERYWHERE = frozenset(IDS.values())
SYSTEM = NodeGroup("system", ("t3.large", "t3a.large"), 3, spot=False)
GPU = NodeGroup("gpu spot", ("g4dn.xlarge", "g5.xlarge"), 2, spot=True)
# The same account as in the module's tests: nothing in e.
ACCOUNT = Zones(IDS, {"t3.large": EVERYWHERE - {"use1-az2"}, "g4dn.xlarge": EVERYWHERE - {"use1-az2"}})


def line(zones: Zones, wanted: int, named: list[str] | None = None) -> Line:
    groups = [SYSTEM, GPU]
    return zones_line(zones, zones.chosen(groups, wanted, named), wanted, groups, "main.tf")


def test_zones_are_taken_in_the_order_of_their_ids() -> None:
    found = line(ACCOUNT, 2)
    assert (found.verdict, found.have, found.need) == ("enough", 3, 2)
    assert found.note == "us-east-1d (use1-az1), us-east-1b (use1-az4)"


def test_zones_that_eks_refuses_are_known_by_their_id() -> None:
    assert "us-east-1c" not in ACCOUNT.usable([])
    named = line(ACCOUNT, 2, ["us-east-1a", "us-east-1c", "us-east-1z"])
    assert (named.verdict, named.have, named.need) == ("too small", 1, 2)
    assert "us-east-1c (use1-az3): EKS makes no control plane there" in named.note
    assert "us-east-1z (unknown): it is no zone of this account" in named.note


def test_one_type_of_a_group_in_each_zone_will_do() -> None:
    offered = {**ACCOUNT.offered, "g4dn.xlarge": frozenset({"use1-az1"}), "g5.xlarge": frozenset({"use1-az6"})}
    assert replace(ACCOUNT, offered=offered).usable([SYSTEM, GPU]) == ["us-east-1d", "us-east-1a"]


def test_too_few_zones_are_told_with_what_each_lacks() -> None:
    found = line(replace(ACCOUNT, offered={**ACCOUNT.offered, "g4dn.xlarge": frozenset({"use1-az1"})}), 2)
    assert (found.verdict, found.have, found.need) == ("too small", 1, 2)
    assert "us-east-1b (use1-az4): none of g4dn.xlarge, g5.xlarge" in found.note
    assert "us-east-1d" not in found.note
    assert "main.tf" in found.ask[0]


def test_every_private_endpoint_has_to_be_there() -> None:
    endpoints = {"ecr.api": frozenset(IDS), "sts": frozenset({"us-east-1a", "us-east-1b"})}
    zones = replace(ACCOUNT, endpoints=endpoints)
    assert zones.usable([SYSTEM]) == ["us-east-1b", "us-east-1a"]
    assert zones.lacks("us-east-1d", [SYSTEM]) == ["no private endpoint of sts"]


def test_a_network_that_is_there_stays_and_grows_at_its_end() -> None:
    zones = replace(ACCOUNT, there=["us-east-1a", "us-east-1b"])
    assert zones.chosen([SYSTEM, GPU], 2) == ["us-east-1a", "us-east-1b"]
    assert zones.chosen([SYSTEM, GPU], 3) == ["us-east-1a", "us-east-1b", "us-east-1d"]
    assert zones.chosen([SYSTEM, GPU], 2, ["us-east-1e", "us-east-1a"]) == ["us-east-1e", "us-east-1a"]
