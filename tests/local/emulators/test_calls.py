"""Every protocol's requests are recognised."""

from __future__ import annotations

import pytest
from multidict import CIMultiDict

from local.emulators.calls import Call, Request, identify, signing_name


def request(service: str, method: str, path: str, body: bytes = b"", query: str = "", **headers: str) -> Request:
    scope = f"AWS4-HMAC-SHA256 Credential=123456789012/20260101/eu-west-1/{service}/aws4_request, Signature=0"
    named = CIMultiDict({name.replace("_", "-"): value for name, value in headers.items()})
    return Request(method, path, query, CIMultiDict({"Authorization": scope, **named}), body)


FORM = "application/x-www-form-urlencoded; charset=utf-8"


@pytest.mark.parametrize(
    ("asked", "action", "protocol"),
    [
        (request("kms", "POST", "/", X_Amz_Target="TrentService.CreateKey"), "CreateKey", "json"),
        (request("iam", "POST", "/", b"Action=GetRole&Version=1", Content_Type=FORM), "GetRole", "query"),
        (request("ec2", "POST", "/", b"Action=DescribeVpcs", Content_Type=FORM), "DescribeVpcs", "ec2"),
        (
            request("monitoring", "POST", "/service/GraniteServiceVersion20100801/operation/PutMetricAlarm"),
            "PutMetricAlarm",
            "cbor",
        ),
        (request("eks", "GET", "/clusters/a/node-groups/b"), "DescribeNodegroup", "rest-json"),
        (request("eks", "POST", "/clusters/a/update-config"), "UpdateClusterConfig", "rest-json"),
        (
            request("eks", "GET", "/tags/arn%3Aaws%3Aeks%3Aeu-west-1%3A1%3Acluster%2Fa"),
            "ListTagsForResource",
            "rest-json",
        ),
        (request("airflow", "PUT", "/environments/a"), "CreateEnvironment", "rest-json"),
        (request("scheduler", "GET", "/schedules/a", query="groupName=b"), "GetSchedule", "rest-json"),
        (request("route53", "GET", "/2013-04-01/hostedzone/Z1/rrset"), "ListResourceRecordSets", "rest-xml"),
        (request("s3", "GET", "/"), "ListBuckets", "rest-xml"),
        (request("s3", "PUT", "/bucket"), "CreateBucket", "rest-xml"),
        (request("s3", "HEAD", "/bucket/"), "HeadBucket", "rest-xml"),
        (request("s3", "GET", "/bucket/", query="list-type=2&prefix=a%2F"), "ListObjectsV2", "rest-xml"),
        (request("s3", "PUT", "/bucket", query="versioning="), "PutBucketVersioning", "rest-xml"),
        (request("s3", "PUT", "/bucket/a/b%20c"), "PutObject", "rest-xml"),
        (request("s3", "PUT", "/bucket/a", X_Amz_Copy_Source="b/c"), "CopyObject", "rest-xml"),
        (request("s3", "PUT", "/bucket/a", query="partNumber=1&uploadId=x"), "UploadPart", "rest-xml"),
        (request("s3", "GET", "/bucket/a", query="x-id=GetObject"), "GetObject", "rest-xml"),
        (request("sagemaker", "POST", "/endpoints/a/invocations"), "InvokeEndpoint", "rest-json"),
    ],
)
def test_the_operation_of_a_request(asked: Request, action: str, protocol: str) -> None:
    call = identify(asked)
    assert (call.action, call.protocol, call.region) == (action, protocol, "eu-west-1")


def test_a_presigned_request_names_its_service_in_the_query() -> None:
    query = "X-Amz-Credential=123456789012%2F20260101%2Fus-east-1%2Fs3%2Faws4_request"
    call = identify(Request("GET", "/bucket/key", query, CIMultiDict(), b""))
    assert call == Call("s3", "GetObject", "rest-xml", "us-east-1")


def test_an_unsigned_request_is_nobodys() -> None:
    assert identify(Request("GET", "/x", "", CIMultiDict(), b"")).service == ""


@pytest.mark.parametrize(("name", "signed"), [("mwaa", "airflow"), ("elbv2", "elasticloadbalancing"), ("rds", "rds")])
def test_services_go_by_their_own_name_and_the_one_they_sign_with(name: str, signed: str) -> None:
    assert signing_name(name) == signing_name(signed) == signed
