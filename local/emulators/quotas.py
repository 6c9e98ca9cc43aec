"""Service Quotas of the emulated account: as AWS gives them to a new one, and what was asked for since."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

SERVICES = {
    "airflow": "Amazon Managed Workflows for Apache Airflow",
    "ec2": "Amazon Elastic Compute Cloud (Amazon EC2)",
    "eks": "Amazon Elastic Kubernetes Service (Amazon EKS)",
    "fargate": "AWS Fargate",
    "rds": "Amazon Relational Database Service (Amazon RDS)",
    "sagemaker": "Amazon SageMaker",
    "vpc": "Amazon Virtual Private Cloud (Amazon VPC)",
}
PAGE = 100  # as many as AWS gives at a time


@dataclass(frozen=True)
class Default:
    """A quota, and its value in a new account."""

    service: str
    code: str
    name: str
    value: float


# Values are those of AWS's documentation. Codes of endpoints are made up: who needs one finds it by the quota's name.
DEFAULTS = [
    Default("airflow", "L-67D41C6B", "Environments per account per Region", 10),
    Default("ec2", "L-0263D0A3", "EC2-VPC Elastic IPs", 5),
    Default("ec2", "L-1216C47A", "Running On-Demand Standard (A, C, D, H, I, M, R, T, Z) instances", 5),
    Default("ec2", "L-34B43A08", "All Standard (A, C, D, H, I, M, R, T, Z) Spot Instance Requests", 5),
    Default("ec2", "L-DB2E81BA", "Running On-Demand G and VT instances", 0),
    Default("ec2", "L-3819A6DF", "All G and VT Spot Instance Requests", 0),
    Default("eks", "L-1194D53C", "Clusters", 100),
    Default("fargate", "L-3032A538", "Fargate On-Demand vCPU resource count", 6),
    Default("rds", "L-7B6409FD", "DB instances", 40),
    Default("sagemaker", "L-7A3DF611", "Number of instances across active endpoints", 20),
    *(
        Default("sagemaker", f"L-{number:08X}", f"ml.{family}.{size} for endpoint usage", 2 if family == "t2" else 0)
        for number, (family, size) in enumerate(
            (family, size)
            for family in ("c5", "c6i", "c7i", "g4dn", "g5", "m5", "m6i", "m7i", "r6i", "t2")
            for size in ("medium", "large", "xlarge", *(f"{times}xlarge" for times in (2, 4, 8, 12, 16, 24, 48)))
            if (size == "medium") <= (family == "t2")
        )
    ),
    Default("vpc", "L-29B6F2EB", "Interface VPC endpoints per VPC", 50),
    Default("vpc", "L-A4707A72", "Internet gateways per Region", 5),
    Default("vpc", "L-F678F1CE", "VPCs per Region", 5),
    Default("vpc", "L-FE5A380F", "NAT gateways per Availability Zone", 5),
]
APPLIED = frozenset({"ec2", "fargate", "sagemaker", "vpc"})
"""Services whose quotas an account has of its own; of the others AWS tells the default only until more is asked for."""


class Refused(Exception):
    """AWS would refuse the call."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


class Quotas:
    """The quotas of one account."""

    def __init__(self, region: str, account: str) -> None:
        self._where = (region, account)
        self._raised: dict[tuple[str, str], float] = {}

    def answer(self, action: str, body: dict[str, Any]) -> dict[str, Any]:
        """Answer an operation.

        Raises:
            Refused: there is no such service or quota, or less is asked for than there is.
        """
        service = body["ServiceCode"]
        if service not in SERVICES:
            raise Refused(
                "NoSuchResourceException", f"The request failed because the service {service} does not exist."
            )
        default = "Default" in action
        if action.startswith("List"):
            found = [quota for quota in DEFAULTS if quota.service == service and (default or self._has(quota))]
            start = int(body.get("NextToken", 0))
            end = start + min(body.get("MaxResults", PAGE), PAGE)
            page = {"Quotas": [self._document(quota, default=default) for quota in found[start:end]]}
            return {**page, "NextToken": str(end)} if end < len(found) else page
        named = [quota for quota in DEFAULTS if (quota.service, quota.code) == (service, body["QuotaCode"])]
        if not named or not (default or action.startswith("Request") or self._has(named[0])):
            raise Refused("NoSuchResourceException", "The request failed because the specified quota does not exist.")
        if action == "RequestServiceQuotaIncrease":
            return self._raise(named[0], body["DesiredValue"])
        return {"Quota": self._document(named[0], default=default)}

    def _has(self, quota: Default) -> bool:
        return quota.service in APPLIED or (quota.service, quota.code) in self._raised

    def _value(self, quota: Default) -> float:
        return self._raised.get((quota.service, quota.code), quota.value)

    def _raise(self, quota: Default, wanted: float) -> dict[str, Any]:
        """Granted at once."""
        if wanted <= self._value(quota):
            raise Refused("IllegalArgumentException", "You must provide a quota value greater than the current value.")
        self._raised[quota.service, quota.code] = wanted
        return {
            "RequestedQuota": {
                "ServiceCode": quota.service,
                "QuotaCode": quota.code,
                "QuotaName": quota.name,
                "DesiredValue": wanted,
                "Status": "APPROVED",
            }
        }

    def _document(self, quota: Default, *, default: bool) -> dict[str, Any]:
        region, account = self._where
        return {
            "ServiceCode": quota.service,
            "ServiceName": SERVICES[quota.service],
            "QuotaArn": f"arn:aws:servicequotas:{region}:{'' if default else account}:{quota.service}/{quota.code}",
            "QuotaCode": quota.code,
            "QuotaName": quota.name,
            "Value": quota.value if default else self._value(quota),
            "Unit": "None",
            "Adjustable": True,
            "GlobalQuota": False,
        }


_SIZE = re.compile(r"^[a-z][a-z0-9-]*\.(?:(?P<times>\d*)xlarge|large|medium|small|micro|nano)$")


def vcpus(instance_type: str) -> int | None:
    """Return the vCPUs of an x86-64 instance type with two threads a core; None of what is not one."""
    match = _SIZE.match(instance_type)
    if not match:
        return None
    return 2 if match["times"] is None else 4 * int(match["times"] or 1)
