"""What the account has: quotas, what is in use and whose it is, zones, service-linked roles. Changes nothing."""

from __future__ import annotations

import ipaddress
from collections.abc import Callable, Iterable, Iterator
from functools import cached_property
from typing import Any

import botocore.exceptions

from cloud.environments import Environment
from cloud.platform_file import platform
from cloud.preflight.assess import Limit, Unknown, Use
from cloud.preflight.needs import Counted, Need, Quota, vcpu_quota

_TYPES_AT_A_TIME = 100  # what DescribeInstanceTypes takes
_ROLES = "/aws-service-role/"


def asked[Answer](ask: Callable[[], Answer]) -> Answer | Unknown:
    """Return AWS's answer, or why there is none."""
    try:
        return ask()
    except botocore.exceptions.ClientError as error:
        told = error.response["Error"]
        return Unknown(f"{error.operation_name}: {told['Code']}: {told['Message']}")
    except botocore.exceptions.BotoCoreError as error:
        return Unknown(str(error))


class Account:
    """The account and the region that the caller's tools are set to."""

    def __init__(self, environment: Environment) -> None:
        self._environment = environment
        self._clients: dict[str, Any] = {}
        self._quotas: dict[tuple[str, str], dict[str, Any]] = {}

    def _client(self, service: str) -> Any:
        if service not in self._clients:
            self._clients[service] = self._environment.client(service)
        return self._clients[service]

    def _all(self, service: str, operation: str, key: str, **arguments: Any) -> Iterator[Any]:
        for page in self._client(service).get_paginator(operation).paginate(**arguments):
            yield from page[key]

    # --- Quotas -------------------------------------------------------------------------------

    def limit(self, quota: Quota) -> Limit | Unknown:
        """Return a quota's value in this account; AWS's default where the account has none of its own."""
        return asked(lambda: self._by_code(quota) if quota.code else self._by_name(quota))

    def _by_code(self, quota: Quota) -> Limit | Unknown:
        client = self._client("service-quotas")
        for ask in (client.get_service_quota, client.get_aws_default_service_quota):
            try:
                return _limit(ask(ServiceCode=quota.service, QuotaCode=quota.code)["Quota"])
            except client.exceptions.NoSuchResourceException:
                continue
        return Unknown(f"Service Quotas has no {quota.service}/{quota.code} in this region")

    def _by_name(self, quota: Quota) -> Limit | Unknown:
        for operation in ("list_service_quotas", "list_aws_default_service_quotas"):
            if found := self._named(operation, quota.service).get(quota.name):
                return _limit(found)
        return Unknown(f"Service Quotas has no quota of {quota.service} that is called {quota.name!r} in this region")

    def _named(self, operation: str, service: str) -> dict[str, Any]:
        """A service's quotas by name, each list read once: SageMaker's are more than a dozen pages."""
        if (operation, service) not in self._quotas:
            pages = self._all("service-quotas", operation, "Quotas", ServiceCode=service)
            self._quotas[operation, service] = {quota["QuotaName"]: quota for quota in pages}
        return self._quotas[operation, service]

    # --- What is in use -----------------------------------------------------------------------

    def use(self, need: Need, nat_zones: Iterable[str]) -> Use | Unknown:
        """Return how much of something is in use."""
        count: dict[Counted, Callable[[], Use]] = {
            "airflow environments": lambda: self._named_ours(
                self._all("mwaa", "list_environments", "Environments"), lambda name: name
            ),
            "clusters": lambda: self._named_ours(self._all("eks", "list_clusters", "clusters"), lambda name: name),
            "databases": lambda: self._named_ours(
                self._all("rds", "describe_db_instances", "DBInstances"), lambda one: one["DBInstanceIdentifier"]
            ),
            "elastic ips": lambda: self._tagged_ours(self._client("ec2").describe_addresses()["Addresses"]),
            "endpoint instances": lambda: self._endpoint_instances(need.of),
            "interface endpoints": self._interface_endpoints,
            "internet gateways": lambda: self._tagged_ours(
                self._all("ec2", "describe_internet_gateways", "InternetGateways")
            ),
            "nat gateways": lambda: self._nat_gateways(nat_zones),
            "node vcpus": lambda: self._node_vcpus(need.of),
            "not told": lambda: Use(None),
            "vpcs": lambda: self._tagged_ours(self._all("ec2", "describe_vpcs", "Vpcs")),
        }
        return asked(count[need.counted])

    def _is_ours(self, thing: dict[str, Any]) -> bool:
        tags = {tag["Key"]: tag["Value"] for tag in thing.get("Tags", [])}
        return (tags.get("Project"), tags.get("Environment")) == (platform().name, self._environment.name)

    def _is_our_name(self, name: str) -> bool:
        return name == self._environment.prefix or name.startswith(f"{self._environment.prefix}-")

    def _tagged_ours(self, things: Iterable[dict[str, Any]]) -> Use:
        ours = [self._is_ours(thing) for thing in things]
        return Use(len(ours), sum(ours))

    def _named_ours(self, things: Iterable[Any], name: Callable[[Any], str]) -> Use:
        ours = [self._is_our_name(name(thing)) for thing in things]
        return Use(len(ours), sum(ours))

    def _interface_endpoints(self) -> Use:
        """In the environment's own network, where nobody else has any."""
        kinds = [{"Name": "vpc-endpoint-type", "Values": ["Interface"]}]
        ours = self._tagged_ours(self._all("ec2", "describe_vpc_endpoints", "VpcEndpoints", Filters=kinds)).own
        return Use(ours, ours)

    def _nat_gateways(self, zones: Iterable[str]) -> Use:
        """In the zone that has the most of others."""
        states = [{"Name": "state", "Values": ["pending", "available", "deleting"]}]
        gateways = list(self._all("ec2", "describe_nat_gateways", "NatGateways", Filters=states))
        subnets = [{"Name": "subnet-id", "Values": sorted({gateway["SubnetId"] for gateway in gateways})}]
        found = self._all("ec2", "describe_subnets", "Subnets", Filters=subnets) if gateways else ()
        zone_of = {subnet["SubnetId"]: subnet["AvailabilityZone"] for subnet in found}
        uses = [
            self._tagged_ours(gateway for gateway in gateways if zone_of.get(gateway["SubnetId"]) == zone)
            for zone in zones
        ]
        return max(uses, key=lambda use: ((use.total or 0) - use.own, -use.own), default=Use(None))

    def _node_vcpus(self, code: str) -> Use:
        running = [
            instance
            for instance in self._instances
            if vcpu_quota(instance["InstanceType"], spot=instance.get("InstanceLifecycle") == "spot") == code
        ]
        vcpus = self.vcpus({instance["InstanceType"] for instance in running})
        counted = [(vcpus[instance["InstanceType"]], self._is_ours(instance)) for instance in running]
        return Use(sum(each for each, _ in counted), sum(each for each, ours in counted if ours))

    @cached_property
    def _instances(self) -> list[dict[str, Any]]:
        states = [{"Name": "instance-state-name", "Values": ["pending", "running"]}]
        reservations = self._all("ec2", "describe_instances", "Reservations", Filters=states)
        return [instance for reservation in reservations for instance in reservation["Instances"]]

    def _endpoint_instances(self, instance_type: str) -> Use:
        """Of a type, or of all where it is empty."""
        counted = [
            (count, self._is_our_name(name))
            for name, kind, count in self._endpoint_variants
            if not instance_type or kind == instance_type
        ]
        return Use(sum(count for count, _ in counted), sum(count for count, ours in counted if ours))

    @cached_property
    def _endpoint_variants(self) -> list[tuple[str, str, int]]:
        """Endpoint, instance type and number of instances of everything that is served."""
        found = []
        client = self._client("sagemaker")
        for summary in self._all("sagemaker", "list_endpoints", "Endpoints"):
            endpoint = client.describe_endpoint(EndpointName=summary["EndpointName"])
            config = client.describe_endpoint_config(EndpointConfigName=endpoint["EndpointConfigName"])
            kinds = {variant["VariantName"]: variant.get("InstanceType") for variant in config["ProductionVariants"]}
            for variant in endpoint.get("ProductionVariants", []):
                if kind := kinds.get(variant["VariantName"]):  # serverless ones have none
                    found.append((endpoint["EndpointName"], kind, variant.get("CurrentInstanceCount", 0)))
        return found

    # --- Instance types and zones -------------------------------------------------------------

    def vcpus(self, instance_types: Iterable[str]) -> dict[str, int]:
        """Return how many vCPUs each type has."""
        wanted, found = sorted(set(instance_types)), {}
        for start in range(0, len(wanted), _TYPES_AT_A_TIME):
            some = wanted[start : start + _TYPES_AT_A_TIME]
            for kind in self._all("ec2", "describe_instance_types", "InstanceTypes", InstanceTypes=some):
                found[kind["InstanceType"]] = kind["VCpuInfo"]["DefaultVCpus"]
        return found

    def zone_ids(self) -> dict[str, str]:
        """Return the ids of the region's zones by their names in this account."""
        ordinary = [
            {"Name": "zone-type", "Values": ["availability-zone"]},
            {"Name": "opt-in-status", "Values": ["opt-in-not-required"]},
            {"Name": "state", "Values": ["available"]},
        ]
        zones = self._client("ec2").describe_availability_zones(Filters=ordinary)["AvailabilityZones"]
        return {zone["ZoneName"]: zone["ZoneId"] for zone in zones}

    def offered(self, instance_types: Iterable[str]) -> dict[str, frozenset[str]]:
        """Return the ids of the zones that have each type."""
        kinds = [{"Name": "instance-type", "Values": sorted(set(instance_types))}]
        offers: dict[str, set[str]] = {}
        for offer in self._all(
            "ec2",
            "describe_instance_type_offerings",
            "InstanceTypeOfferings",
            LocationType="availability-zone-id",
            Filters=kinds,
        ):
            offers.setdefault(offer["InstanceType"], set()).add(offer["Location"])
        return {kind: frozenset(zones) for kind, zones in offers.items()}

    def endpoints(self, services: Iterable[str]) -> dict[str, frozenset[str]]:
        """Return the names of the zones that a private endpoint of each service can be in."""
        found: dict[str, frozenset[str]] = {}
        for service in services:
            name = f"com.amazonaws.{self._environment.region}.{service}"
            told = self._client("ec2").describe_vpc_endpoint_services(ServiceNames=[name])["ServiceDetails"]
            found[service] = frozenset(zone for one in told for zone in one["AvailabilityZones"])
        return found

    def network_zones(self) -> list[str]:
        """Return the names of the zones that the environment's network lies in, in the order of its addresses."""
        ours = filter(self._is_ours, self._all("ec2", "describe_subnets", "Subnets"))
        in_order = sorted(ours, key=lambda subnet: ipaddress.IPv4Network(subnet["CidrBlock"]))
        return list(dict.fromkeys(subnet["AvailabilityZone"] for subnet in in_order))

    # --- Service-linked roles -----------------------------------------------------------------

    def linked_roles(self) -> frozenset[str]:
        """Return the services that have a service-linked role."""
        roles = self._all("iam", "list_roles", "Roles", PathPrefix=_ROLES)
        return frozenset(role["Path"].removeprefix(_ROLES).strip("/") for role in roles)

    def may_link(self, service: str) -> bool | Unknown:
        """Return whether the caller may have a service make its role."""
        who = asked(lambda: self._principal)
        if who is None or isinstance(who, Unknown):
            return who or Unknown("IAM cannot say what a federated user may do")
        if who.endswith(":root"):
            return True
        about = {"ContextKeyName": "iam:AWSServiceName", "ContextKeyType": "string", "ContextKeyValues": [service]}
        partition, account = who.split(":")[1], who.split(":")[4]
        answer = asked(
            lambda: self._client("iam").simulate_principal_policy(
                PolicySourceArn=who,
                ActionNames=["iam:CreateServiceLinkedRole"],
                ResourceArns=[f"arn:{partition}:iam::{account}:role{_ROLES}{service}/*"],
                ContextEntries=[about],
            )
        )
        if isinstance(answer, Unknown):
            return answer
        return all(result["EvalDecision"] == "allowed" for result in answer["EvaluationResults"])

    @cached_property
    def _principal(self) -> str | None:
        """The user or role whose policies count; None of a federated user."""
        arn: str = self._client("sts").get_caller_identity()["Arn"]
        kind, _, name = arn.split(":")[5].partition("/")
        if kind == "assumed-role":
            role: str = self._client("iam").get_role(RoleName=name.split("/")[0])["Role"]["Arn"]
            return role
        return arn if kind in ("root", "user") else None


def _limit(quota: dict[str, Any]) -> Limit:
    return Limit(quota["QuotaCode"], quota["Value"], quota["Adjustable"])
