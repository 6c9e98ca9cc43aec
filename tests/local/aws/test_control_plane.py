"""Models, configurations, tags and lists: request checks, messages, and the shape of every answer."""

from __future__ import annotations

import json
from typing import Any

import pytest
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials
from botocore.exceptions import ClientError
from botocore.model import ListShape, MapShape, Shape, StructureShape

from local.aws.sagemaker.protocol import service_model
from local.aws.sagemaker.validation import compile_pattern

ROLE = "arn:aws:iam::123456789012:role/sagemaker"
IMAGE = "123456789012.dkr.ecr.us-east-1.amazonaws.com/mlplatform/serving:0123456789ab"
ARN = "arn:aws:sagemaker:us-east-1:123456789012"


def post(aws: Any, operation: str, body: Any, region: str = "us-east-1", sign: bool = True) -> Any:
    """Send a raw request, as boto3 would refuse to send a bad one."""
    headers = {"X-Amz-Target": f"SageMaker.{operation}", "Content-Type": "application/x-amz-json-1.1"}
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    request = AWSRequest("POST", f"{aws.url}/", headers=headers, data=data)
    if sign:
        SigV4Auth(Credentials("test", "test"), "sagemaker", region).add_auth(request)
    return aws.http.post("/", headers=dict(request.headers), content=data)


VARIANT = {"VariantName": "v", "ModelName": "none", "InstanceType": "ml.m5.large", "InitialInstanceCount": 1}
CANARY = {"Type": "CANARY", "WaitIntervalInSeconds": 0}
NULL_NAME = (
    "1 validation error detected: Value null at 'modelName' failed to satisfy constraint: Member must not be null"
)
ZERO_INSTANCES = (
    "Value '0' at 'productionVariants.1.member.initialInstanceCount' failed to satisfy constraint: "
    "Member must have value greater than or equal to 1"
)
NO_VARIANTS = (
    "Value '[]' at 'productionVariants' failed to satisfy constraint: "
    "Member must have length greater than or equal to 1"
)


def config(**changes: Any) -> dict[str, Any]:
    """Return a CreateEndpointConfig request with a changed variant."""
    return {"EndpointConfigName": "c", "ProductionVariants": [{**VARIANT, **changes}]}


def endpoint(routing: dict[str, Any]) -> dict[str, Any]:
    """Return a CreateEndpoint request with this traffic routing."""
    policy = {"BlueGreenUpdatePolicy": {"TrafficRoutingConfiguration": routing}}
    return {"EndpointName": "e", "EndpointConfigName": "c", "DeploymentConfig": policy}


def model(container: dict[str, Any]) -> dict[str, Any]:
    """Return a CreateModel request with this container."""
    return {"ModelName": "m", "PrimaryContainer": container}


@pytest.mark.parametrize(
    ("operation", "body", "code", "message"),
    [
        ("CreateModel", {}, "ValidationException", NULL_NAME),
        (
            "CreateModel",
            {"ModelName": "under_score"},
            "ValidationException",
            "Value 'under_score' at 'modelName' failed to satisfy constraint: Member must satisfy regular expression ",
        ),
        (
            "CreateModel",
            {"ModelName": "x" * 64},
            "ValidationException",
            "Member must have length less than or equal to 63",
        ),
        ("CreateModel", {"ModelName": 7}, "SerializationException", "NUMBER_VALUE can not be converted to String"),
        ("CreateModel", {"ModelName": True}, "SerializationException", "TRUE_VALUE can not be converted to String"),
        (
            "CreateModel",
            {"ModelName": "m", "PrimaryContainer": []},
            "SerializationException",
            "Start of structure or map",
        ),
        ("CreateModel", [], "SerializationException", "Start of structure or map"),
        ("CreateModel", b"{", "SerializationException", "Unexpected character or end of input"),
        ("CreateModel", {"ModelName": "m"}, "ValidationException", "exactly one container"),
        ("CreateModel", model({}), "ValidationException", "no Image"),
        ("CreateModel", model({"Image": "a b"}), "ValidationException", "at 'primaryContainer.image'"),
        (
            "CreateModel",
            model({"Image": "i", "Mode": "Multi"}),
            "ValidationException",
            "Member must satisfy enum value set: [SingleModel, MultiModel]",
        ),
        (
            "CreateModel",
            model({"Image": "i", "ModelDataUrl": "s3://none/model.tar.gz"}),
            "ValidationException",
            "Could not find model data at s3://none/model.tar.gz.",
        ),
        (
            "CreateModel",
            model({"Image": "i", "ModelDataUrl": "file:///etc/passwd"}),
            "ValidationException",
            "at 'primaryContainer.modelDataUrl'",
        ),
        (
            "CreateModel",
            {"ModelName": "m", "PrimaryContainer": {"Image": "i"}, "Tags": [{"Key": "k"}]},
            "ValidationException",
            "Value null at 'tags.1.member.value'",
        ),
        ("DescribeModel", {"ModelName": "None"}, "ValidationException", f'Could not find model "{ARN}:model/none".'),
        ("DeleteModel", {"ModelName": "none"}, "ValidationException", f'Could not find model "{ARN}:model/none".'),
        (
            "CreateEndpointConfig",
            {"EndpointConfigName": "c", "ProductionVariants": []},
            "ValidationException",
            NO_VARIANTS,
        ),
        ("CreateEndpointConfig", config(), "ValidationException", f'Could not find model "{ARN}:model/none".'),
        ("CreateEndpointConfig", config(InitialInstanceCount=0), "ValidationException", ZERO_INSTANCES),
        (
            "CreateEndpointConfig",
            config(InitialInstanceCount="1"),
            "SerializationException",
            "STRING_VALUE can not be converted to Integer",
        ),
        (
            "CreateEndpointConfig",
            config(InstanceType="ml.huge"),
            "ValidationException",
            "Member must satisfy enum value set: [ml.t2.medium, ",
        ),
        (
            "CreateEndpointConfig",
            config(InstanceType=None),
            "ValidationException",
            "InstanceType and InitialInstanceCount are required",
        ),
        ("CreateEndpointConfig", config(InitialVariantWeight=-1), "ValidationException", "initialVariantWeight"),
        (
            "CreateEndpointConfig",
            config(ContainerStartupHealthCheckTimeoutInSeconds=59),
            "ValidationException",
            "Member must have value greater than or equal to 60",
        ),
        (
            "CreateEndpointConfig",
            config(ServerlessConfig={"MemorySizeInMB": 1024, "MaxConcurrency": 1}),
            "ValidationException",
            "ServerlessConfig is not served by the local SageMaker",
        ),
        (
            "CreateEndpointConfig",
            {"EndpointConfigName": "c", "ProductionVariants": [VARIANT, VARIANT]},
            "ValidationException",
            "must be unique",
        ),
        (
            "DescribeEndpointConfig",
            {"EndpointConfigName": "none"},
            "ValidationException",
            f'Could not find endpoint configuration "{ARN}:endpoint-config/none".',
        ),
        (
            "DeleteEndpointConfig",
            {"EndpointConfigName": "none"},
            "ValidationException",
            "Could not find endpoint configuration",
        ),
        (
            "CreateEndpoint",
            {"EndpointName": "e", "EndpointConfigName": "none"},
            "ValidationException",
            "Could not find endpoint configuration",
        ),
        (
            "CreateEndpoint",
            {"EndpointName": "-e", "EndpointConfigName": "c"},
            "ValidationException",
            "at 'endpointName'",
        ),
        ("CreateEndpoint", {}, "ValidationException", "2 validation errors detected: "),
        ("CreateEndpoint", endpoint(CANARY), "ValidationException", "CanarySize is required"),
        (
            "CreateEndpoint",
            endpoint({**CANARY, "CanarySize": {"Type": "CAPACITY_PERCENT", "Value": 60}}),
            "ValidationException",
            "50 percent",
        ),
        (
            "UpdateEndpoint",
            {"EndpointName": "none", "EndpointConfigName": "c"},
            "ValidationException",
            f'Could not find endpoint "{ARN}:endpoint/none".',
        ),
        ("DescribeEndpoint", {"EndpointName": "none"}, "ValidationException", "Could not find endpoint"),
        (
            "ListEndpoints",
            {"MaxResults": 101},
            "ValidationException",
            "Member must have value less than or equal to 100",
        ),
        ("ListEndpoints", {"StatusEquals": "Fine"}, "ValidationException", "Member must satisfy enum value set"),
        ("ListModels", {"NextToken": "?"}, "ValidationException", "Invalid NextToken"),
        ("ListTags", {"ResourceArn": "x"}, "ValidationException", "at 'resourceArn'"),
        ("ListTags", {"ResourceArn": f"{ARN}:model/none"}, "ValidationException", "Could not find"),
        (
            "CreateTrainingJob",
            {},
            "UnknownOperationException",
            "CreateTrainingJob is not served by the local SageMaker",
        ),
        ("Nonsense", {}, "UnknownOperationException", "Nonsense is unknown"),
    ],
)
def test_a_bad_request_is_refused_as_by_the_service(
    aws: Any, operation: str, body: Any, code: str, message: str
) -> None:
    answer = post(aws, operation, body)
    assert (answer.status_code, answer.json()["__type"]) == (400, code)
    assert message in answer.json()["message"]


def test_an_unsigned_request_and_one_for_another_region_are_refused(aws: Any) -> None:
    unsigned = post(aws, "ListModels", {}, sign=False)
    assert (unsigned.status_code, unsigned.json()["__type"]) == (403, "MissingAuthenticationTokenException")
    elsewhere = post(aws, "ListModels", {}, region="eu-west-1")
    assert (elsewhere.status_code, elsewhere.json()["__type"]) == (403, "InvalidSignatureException")


def test_names_are_taken_once(stage: Any) -> None:
    model = stage.model()
    with pytest.raises(ClientError, match=f'Cannot create already existing model "{ARN}:model/{model}"'):
        stage.sm.create_model(ModelName=model.upper(), PrimaryContainer={"Image": IMAGE}, ExecutionRoleArn=ROLE)
    name = stage.config(model)
    variants = [{**VARIANT, "ModelName": model}]
    with pytest.raises(ClientError, match=f'Cannot create already existing endpoint configuration "{ARN}:'):
        stage.sm.create_endpoint_config(EndpointConfigName=name, ProductionVariants=variants)
    stage.sm.delete_endpoint_config(EndpointConfigName=name)
    stage.sm.delete_model(ModelName=model)
    with pytest.raises(ClientError, match="Could not find model"):
        stage.sm.describe_model(ModelName=model)


def test_lists_are_paged_filtered_and_sorted(stage: Any) -> None:
    names = [f"list-{stage.tag}-{i}" for i in range(12)]
    for name in names:
        stage.sm.create_model(ModelName=name, PrimaryContainer={"Image": IMAGE}, ExecutionRoleArn=ROLE)
    listed = stage.sm.list_models(NameContains=stage.tag)
    assert [m["ModelName"] for m in listed["Models"]] == names[:1:-1]  # newest first, ten at a time
    rest = stage.sm.list_models(NameContains=stage.tag, NextToken=listed["NextToken"])
    assert [m["ModelName"] for m in rest["Models"]] == names[1::-1]
    assert "NextToken" not in rest
    pages = stage.sm.get_paginator("list_models").paginate(
        NameContains=stage.tag.upper(), SortBy="Name", SortOrder="Ascending", MaxResults=5
    )
    assert [m["ModelName"] for page in pages for m in page["Models"]] == sorted(names)
    third = stage.sm.describe_model(ModelName=names[2])["CreationTime"]
    assert len(stage.sm.list_models(NameContains=stage.tag, CreationTimeBefore=third)["Models"]) <= 4
    assert stage.sm.list_models(NameContains="nothing-like-it")["Models"] == []


def test_tags(stage: Any) -> None:
    name = f"tags-{stage.tag}"
    tags = [{"Key": "team", "Value": "ml"}, {"Key": "größe", "Value": ""}]
    arn = stage.sm.create_model(ModelName=name, PrimaryContainer={"Image": IMAGE}, ExecutionRoleArn=ROLE, Tags=tags)[
        "ModelArn"
    ]
    assert {t["Key"]: t["Value"] for t in stage.sm.list_tags(ResourceArn=arn)["Tags"]} == {"team": "ml", "größe": ""}
    stage.sm.add_tags(ResourceArn=arn, Tags=[{"Key": "team", "Value": "data"}, {"Key": "git", "Value": "abc"}])
    stage.sm.delete_tags(ResourceArn=arn, TagKeys=["größe", "none"])
    assert stage.sm.list_tags(ResourceArn=arn)["Tags"] == [
        {"Key": "git", "Value": "abc"},
        {"Key": "team", "Value": "data"},
    ]
    with pytest.raises(ClientError, match="at most 50 tags"):
        stage.sm.add_tags(ResourceArn=arn, Tags=[{"Key": f"k{i}", "Value": ""} for i in range(49)])
    stage.sm.delete_model(ModelName=name)
    with pytest.raises(ClientError, match="Could not find"):
        stage.sm.list_tags(ResourceArn=arn)


def test_what_is_created_is_described(stage: Any) -> None:
    name = f"full-{stage.tag}"
    request = {
        "ModelName": name,
        "PrimaryContainer": {"Image": IMAGE, "ModelDataUrl": stage.upload({}), "Environment": {"A": "1"}},
        "ExecutionRoleArn": ROLE,
        "VpcConfig": {"SecurityGroupIds": ["sg-1"], "Subnets": ["subnet-1"]},
    }
    stage.sm.create_model(**request)
    described = stage.sm.describe_model(ModelName=name)
    assert {key: described[key] for key in request} == request | {
        "PrimaryContainer": {**request["PrimaryContainer"], "Mode": "SingleModel"}  # type: ignore[dict-item]
    }
    capture = {
        "InitialSamplingPercentage": 50,
        "DestinationS3Uri": f"s3://{stage.bucket}/capture",
        "CaptureOptions": [{"CaptureMode": "Input"}],
    }
    variants = [{**VARIANT, "ModelName": name, "InitialVariantWeight": 1.0}]
    stage.sm.create_endpoint_config(EndpointConfigName=name, ProductionVariants=variants, DataCaptureConfig=capture)
    described = stage.sm.describe_endpoint_config(EndpointConfigName=name)
    assert described["ProductionVariants"] == variants
    assert described["DataCaptureConfig"] == capture
    endpoint = stage.endpoint(name)
    assert stage.sm.describe_endpoint(EndpointName=endpoint)["DataCaptureConfig"]["CaptureStatus"] == "Started"


def test_every_pattern_of_the_service_model_can_be_checked() -> None:
    seen: set[str] = set()

    def walk(shape: Shape) -> None:
        if shape.name in seen:
            return
        seen.add(shape.name)
        if "pattern" in shape.metadata:
            compile_pattern(shape.metadata["pattern"])
        if isinstance(shape, StructureShape):
            for member in shape.members.values():
                walk(member)
        elif isinstance(shape, ListShape):
            walk(shape.member)
        elif isinstance(shape, MapShape):
            walk(shape.key)
            walk(shape.value)

    model = service_model()
    for name in ("CreateModel", "CreateEndpointConfig", "CreateEndpoint", "UpdateEndpoint", "ListEndpoints", "AddTags"):
        walk(model.operation_model(name).input_shape)
    assert len(seen) > 100
