"""What a plan asks AWS, answered here: who it is, which image AWS has newest, and what there is in which zone."""

from __future__ import annotations

import json
import re
from urllib.parse import parse_qsl

ACCOUNT = "111122223333"
REGION = "us-east-1"
ZONES = {"a": "use1-az4", "b": "use1-az6", "c": "use1-az3", "d": "use1-az1", "e": "use1-az2"}
"""Letters and ids, dealt out as an account may have them, here in every region: EKS refuses c."""

_IDENTITY = f"""<GetCallerIdentityResponse xmlns="https://sts.amazonaws.com/doc/2011-06-15/"><GetCallerIdentityResult>
<Arn>arn:aws:iam::{ACCOUNT}:user/planner</Arn><UserId>planner</UserId><Account>{ACCOUNT}</Account>
</GetCallerIdentityResult><ResponseMetadata><RequestId>0</RequestId></ResponseMetadata></GetCallerIdentityResponse>"""
_IMAGE = json.dumps({"Parameter": {"Name": "image", "Type": "String", "Value": "ami-0123456789abcdef0", "Version": 1}})


def answer(body: str, target: str, region: str) -> tuple[str, str] | None:
    """Return the media type and text of a region's answer to a request; None of what a plan does not ask."""
    if target == "AmazonSSM.GetParameter":
        return ("application/x-amz-json-1.1", _IMAGE) if '"/aws/service/ami-' in body else None
    found = _form_answer(dict(parse_qsl(body)), region)
    return ("text/xml", found) if found else None


def _form_answer(form: dict[str, str], region: str) -> str | None:
    match form.get("Action"):
        case "GetCallerIdentity":
            return _IDENTITY
        case "DescribeAvailabilityZones":
            found = (_zone(region, letter, zone) for letter, zone in ZONES.items())
            return _ec2("DescribeAvailabilityZones", f"<availabilityZoneInfo>{''.join(found)}</availabilityZoneInfo>")
        case "DescribeInstanceTypeOfferings":
            types = [value for key, value in form.items() if re.match(r"Filter\.1\.Value", key)]
            offers = (
                f"<item><instanceType>{kind}</instanceType><locationType>availability-zone</locationType>"
                f"<location>{region}{letter}</location></item>"
                for kind in types
                for letter in ZONES
            )
            offered = f"<instanceTypeOfferingSet>{''.join(offers)}</instanceTypeOfferingSet>"
            return _ec2("DescribeInstanceTypeOfferings", offered)
        case "DescribeVpcEndpointServices":
            name = next(
                value for key, value in form.items() if re.match(r"ServiceName", key) or value.startswith("com.")
            )
            places = "".join(f"<item>{region}{letter}</item>" for letter in ZONES)
            service = (
                f"<item><serviceName>{name}</serviceName><availabilityZoneSet>{places}</availabilityZoneSet>"
                "<serviceType><item><serviceType>Interface</serviceType></item></serviceType></item>"
            )
            names = f"<serviceNameSet><item>{name}</item></serviceNameSet>"
            return _ec2("DescribeVpcEndpointServices", f"{names}<serviceDetailSet>{service}</serviceDetailSet>")
    return None


def _zone(region: str, letter: str, zone: str) -> str:
    return (
        f"<item><zoneName>{region}{letter}</zoneName><zoneId>{zone}</zoneId><zoneState>available</zoneState>"
        f"<regionName>{region}</regionName><groupName>{region}</groupName><zoneType>availability-zone</zoneType>"
        "<optInStatus>opt-in-not-required</optInStatus></item>"
    )


def _ec2(action: str, content: str) -> str:
    return f'<{action}Response xmlns="http://ec2.amazonaws.com/doc/2016-11-15/">{content}</{action}Response>'
