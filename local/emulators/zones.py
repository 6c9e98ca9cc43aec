"""The zones of the emulated account: dealt out by letter as to any account, and without everything everywhere."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping

# Number of the zone id behind each letter. Some regions lack letters, and letters are shuffled.
_NUMBERS = {
    "us-east-1": {"a": 6, "b": 4, "c": 3, "d": 1, "e": 2, "f": 5},
    "us-west-1": {"a": 3, "c": 1},
}
_ELSEWHERE = {"a": 2, "b": 3, "c": 1}
WITHOUT_CONTROL_PLANES = frozenset({"cac1-az3", "use1-az3", "usw1-az2"})
"""https://docs.aws.amazon.com/eks/latest/userguide/network-reqs.html"""
_GATEWAYS = ("dynamodb", "s3")


def zones(region: str) -> dict[str, str]:
    """Return the ids of a region's zones by name."""
    return {f"{region}{letter}": f"{_code(region)}-az{n}" for letter, n in _NUMBERS.get(region, _ELSEWHERE).items()}


def _code(region: str) -> str:
    """Return a region as zone ids write it: use1 of us-east-1, apse2 of ap-southeast-2."""
    place, *directions, number = region.split("-")
    return place + "".join(one[0] + _second(one) for one in directions) + number


def _second(direction: str) -> str:
    """Return the e of southeast."""
    return next((side[0] for side in ("east", "west") if direction != side and direction.endswith(side)), "")


def offers(zone_id: str, instance_type: str) -> bool:
    """Return whether a zone has instances of a type: the oldest has no new ones, and one has no GPUs."""
    family = instance_type.partition(".")[0]
    generation = int(next(iter(re.findall(r"\d", family)), "0"))
    if zone_id in WITHOUT_CONTROL_PLANES:
        return generation < 5
    return not (zone_id == "use1-az2" and family.startswith("g"))


def takes_endpoints(zone_id: str, service: str) -> bool:
    """Return whether a private endpoint of a service, by short name, can be in a zone."""
    return not (zone_id == "use1-az5" and service.startswith("sagemaker"))


def endpoint_services(region: str, names: list[str]) -> list[dict[str, object]]:
    """Return services as DescribeVpcEndpointServices does."""
    prefix = f"com.amazonaws.{region}."
    return [
        {
            "serviceName": name,
            "serviceId": f"vpce-svc-{hashlib.sha256(name.encode()).hexdigest()[:17]}",
            "serviceType": [{"serviceType": "Gateway" if name.removeprefix(prefix) in _GATEWAYS else "Interface"}],
            "availabilityZoneSet": [
                zone for zone, zone_id in zones(region).items() if takes_endpoints(zone_id, name.removeprefix(prefix))
            ],
            "owner": "amazon",
            "vpcEndpointPolicySupported": "true",
            "acceptanceRequired": "false",
        }
        for name in names
    ]


def described(region: str, filters: Mapping[str, list[str]]) -> list[dict[str, str]]:
    """Return a region's zones as DescribeAvailabilityZones does.

    Raises:
        KeyError: a filter is not known.
    """
    found = [
        {
            "zoneName": name,
            "zoneId": zone_id,
            "zoneState": "available",
            "regionName": region,
            "groupName": f"{region}-zg-1",
            "networkBorderGroup": region,
            "optInStatus": "opt-in-not-required",
            "zoneType": "availability-zone",
        }
        for name, zone_id in sorted(zones(region).items())
    ]
    keys = {
        "opt-in-status": "optInStatus",
        "region-name": "regionName",
        "state": "zoneState",
        "zone-id": "zoneId",
        "zone-name": "zoneName",
        "zone-type": "zoneType",
    }
    return [zone for zone in found if all(zone[keys[name]] in values for name, values in filters.items())]
