"""The service model that botocore ships is the contract: what may be asked, and what an answer looks like.

Every operation that is served is called, and every answer, as it comes over the wire, is held against its shape;
and every constraint of every member of every request is broken once.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from typing import Any

import pytest
from botocore.model import ListShape, MapShape, OperationModel, Shape, StructureShape
from botocore.validate import ParamValidator

from local.aws.sagemaker.errors import ValidationException
from local.aws.sagemaker.protocol import service_model
from local.aws.sagemaker.validation import compile_pattern, validate

OPERATIONS = (
    *("CreateModel", "DescribeModel", "ListModels", "DeleteModel"),
    *("CreateEndpointConfig", "DescribeEndpointConfig", "ListEndpointConfigs", "DeleteEndpointConfig"),
    *("CreateEndpoint", "UpdateEndpoint", "UpdateEndpointWeightsAndCapacities", "DescribeEndpoint"),
    *("ListEndpoints", "DeleteEndpoint", "AddTags", "ListTags", "DeleteTags"),
)
_LARGEST_WRONG = 5000  # a string or list that is one too long is made only up to this length


def problems(value: Any, shape: Shape, path: str) -> Iterator[str]:
    """Find what breaks the shape: unknown and missing members, types, enumerations, patterns, bounds."""
    limits = shape.metadata
    if isinstance(shape, StructureShape):
        if not isinstance(value, dict):
            yield f"{path}: no structure"
            return
        yield from (f"{path}: unknown member {name}" for name in set(value) - set(shape.members))
        yield from (f"{path}: {name} is missing" for name in set(shape.required_members) - set(value))
        for name, item in value.items():
            if name in shape.members:
                yield from problems(item, shape.members[name], f"{path}.{name}")
    elif isinstance(shape, ListShape):
        for index, item in enumerate(value):
            yield from problems(item, shape.member, f"{path}[{index}]")
    elif isinstance(shape, MapShape):
        for key, item in value.items():
            yield from problems(key, shape.key, f"{path}.{key}")
            yield from problems(item, shape.value, f"{path}.{key}")
    elif shape.type_name == "timestamp":
        if not 1.7e9 < value < 1e10:
            yield f"{path}: {value} is no time in seconds"
    elif shape.type_name == "string":
        if getattr(shape, "enum", None) and value not in shape.enum:
            yield f"{path}: {value} is not in the enumeration"
        if "pattern" in limits and not compile_pattern(limits["pattern"]).fullmatch(value):
            yield f"{path}: {value} breaks {limits['pattern']}"
    size = value if isinstance(value, int | float) else len(value)
    bounded = not isinstance(value, bool) and shape.type_name not in ("structure", "timestamp")
    if bounded and not limits.get("min", size) <= size <= limits.get("max", size):
        yield f"{path}: {value} is out of bounds {limits}"


class Observer:
    """Holds every answer that a boto3 client gets against the output shape of its operation."""

    def __init__(self) -> None:
        self.seen: set[str] = set()

    def received(self, response_dict: dict[str, Any], operation_model: OperationModel, **_: Any) -> None:
        """Look at the raw answer."""
        model, body = operation_model, response_dict["body"]
        if response_dict["status_code"] != 200:
            return
        self.seen.add(model.name)
        if model.output_shape is None:
            assert body == b"", f"{model.name} answers nothing"
            return
        found = list(problems(json.loads(body), model.output_shape, model.name))
        assert found == []

    def sent(self, params: dict[str, Any], model: OperationModel, **_: Any) -> None:
        """Hold what is sent against botocore's own validator too: the examples must be legal themselves."""
        report = ParamValidator().validate(json.loads(params["body"]), model.input_shape)
        assert not report.has_errors(), report.generate_report()


@pytest.fixture
def observer(stage: Any) -> Iterator[Observer]:
    observer, events = Observer(), stage.sm.meta.events
    events.register("before-parse.sagemaker", observer.received)
    events.register("before-call.sagemaker", observer.sent)
    yield observer
    events.unregister("before-parse.sagemaker", observer.received)
    events.unregister("before-call.sagemaker", observer.sent)


def test_every_answer_has_the_shape_of_the_service_model(stage: Any, observer: Observer) -> None:
    sm = stage.sm
    model = stage.model({"answer.txt": "one"})
    isolated = f"isolated-{stage.tag}"
    vpc = {"SecurityGroupIds": ["sg-0123456789abcdef0"], "Subnets": ["subnet-0a", "subnet-0b"]}
    sm.create_model(
        ModelName=isolated,
        PrimaryContainer={"Image": sm.describe_model(ModelName=model)["PrimaryContainer"]["Image"]},
        ExecutionRoleArn="arn:aws:iam::123456789012:role/sagemaker",
        VpcConfig=vpc,
        EnableNetworkIsolation=True,
        Tags=[{"Key": "k", "Value": "v"}],
    )
    shown = sm.describe_model(ModelName=isolated)
    assert (shown["VpcConfig"], shown["EnableNetworkIsolation"]) == (vpc, True)
    variants = [
        {
            "VariantName": name,
            "ModelName": isolated,
            "InstanceType": "ml.m5.large",
            "InitialInstanceCount": 2,
            "InitialVariantWeight": weight,
        }
        for name, weight in (("primary", 0.9), ("challenger", 0.1))
    ]
    key = "arn:aws:kms:us-east-1:123456789012:key/1234abcd-12ab-34cd-56ef-1234567890ab"
    capture = {
        "EnableCapture": True,
        "InitialSamplingPercentage": 10,
        "DestinationS3Uri": f"s3://{stage.bucket}/capture",
        "KmsKeyId": key,
        "CaptureOptions": [{"CaptureMode": "Input"}, {"CaptureMode": "Output"}],
        "CaptureContentTypeHeader": {"JsonContentTypes": ["application/json"]},
    }
    names = [f"{stage.tag}-{i}" for i in range(2)]
    for name in names:
        sm.create_endpoint_config(
            EndpointConfigName=name, ProductionVariants=variants, DataCaptureConfig=capture, KmsKeyId=key
        )
    shown = sm.describe_endpoint_config(EndpointConfigName=names[0])
    assert (shown["KmsKeyId"], shown["DataCaptureConfig"]) == (key, capture)

    endpoint = f"contract-{stage.tag}"
    arn = sm.create_endpoint(EndpointName=endpoint, EndpointConfigName=names[0])["EndpointArn"]
    sm.list_endpoints(StatusEquals="Creating", NameContains=stage.tag)
    stage.settle(endpoint)
    alarms = {"Alarms": [{"AlarmName": stage.alarm(endpoint)}]}
    size = {"Type": "CAPACITY_PERCENT", "Value": 50}
    routing = {"Type": "CANARY", "CanarySize": size, "WaitIntervalInSeconds": 120}
    rollout = {"TrafficRoutingConfiguration": routing, "TerminationWaitInSeconds": 60}
    deployment = {"BlueGreenUpdatePolicy": rollout, "AutoRollbackConfiguration": alarms}
    sm.update_endpoint(EndpointName=endpoint, EndpointConfigName=names[1], DeploymentConfig=deployment)
    assert stage.settle(endpoint)["LastDeploymentConfig"] == deployment  # described in every stage
    stage.aws.fault("update-fails", endpoint)
    sm.update_endpoint(EndpointName=endpoint, EndpointConfigName=names[0])
    assert "FailureReason" in stage.settle(endpoint)
    weights = [{"VariantName": "primary", "DesiredWeight": 2.0, "DesiredInstanceCount": 3}]
    sm.update_endpoint_weights_and_capacities(EndpointName=endpoint, DesiredWeightsAndCapacities=weights)
    stage.settle(endpoint)
    sm.add_tags(ResourceArn=arn, Tags=[{"Key": "k", "Value": "v"}])
    sm.list_tags(ResourceArn=arn)
    sm.delete_tags(ResourceArn=arn, TagKeys=["k"])
    sm.list_models(NameContains=model)
    sm.list_endpoint_configs(NameContains=stage.tag)
    sm.list_endpoints(NameContains=stage.tag, SortBy="Status")
    sm.delete_endpoint(EndpointName=endpoint)
    sm.describe_endpoint(EndpointName=endpoint)
    for name in names:
        sm.delete_endpoint_config(EndpointConfigName=name)
    sm.delete_model(ModelName=isolated)
    assert observer.seen == set(OPERATIONS)


def test_the_operations_named_here_are_those_that_are_served(aws: Any) -> None:
    headers = {"X-Amz-Target": "SageMaker.Nonsense"}
    headers["Authorization"] = "AWS4-HMAC-SHA256 Credential=x/20260101/us-east-1/sagemaker/aws4_request"
    message: str = aws.http.post("/", headers=headers, json={}).json()["message"]
    assert set(message.rpartition("served are: ")[2].rstrip(".").split(", ")) == set(OPERATIONS)


def broken(shape: Shape, path: str, depth: int) -> Iterator[tuple[Any, str, str]]:
    """Yield (value that breaks one constraint, path of the member as messages name it, the constraint's wording)."""
    limits = shape.metadata
    if getattr(shape, "enum", None):
        yield "no such value", path, "Member must satisfy enum value set"
    if shape.type_name in ("integer", "long", "float", "double"):
        if "min" in limits:
            yield limits["min"] - 1, path, f"Member must have value greater than or equal to {limits['min']}"
        if "max" in limits:
            yield limits["max"] + 1, path, f"Member must have value less than or equal to {limits['max']}"
    if shape.type_name == "string":
        if limits.get("min", 0) > 0:
            yield "", path, f"Member must have length greater than or equal to {limits['min']}"
        if 0 < limits.get("max", _LARGEST_WRONG) < _LARGEST_WRONG:
            yield "x" * (limits["max"] + 1), path, f"Member must have length less than or equal to {limits['max']}"
        if "pattern" in limits and not compile_pattern(limits["pattern"]).fullmatch("\x00\n"):
            yield "\x00\n", path, "Member must satisfy regular expression pattern"
    if depth == 0:
        return
    if isinstance(shape, StructureShape):
        for name, member in shape.members.items():
            inner = f"{path}.{name[0].lower()}{name[1:]}".lstrip(".")
            if name in shape.required_members:
                yield {}, inner, "Member must not be null"
            for value, where, constraint in broken(member, inner, depth - 1):
                yield {name: value}, where, constraint
    elif isinstance(shape, ListShape):
        for value, where, constraint in broken(shape.member, f"{path}.1.member", depth - 1):
            yield [value], where, constraint
        if limits.get("min", 0) > 0:
            yield [], path, f"Member must have length greater than or equal to {limits['min']}"


@pytest.mark.parametrize("operation", OPERATIONS)
def test_every_constraint_of_a_request_is_minded(operation: str) -> None:
    shape = service_model().operation_model(operation).input_shape
    assert isinstance(shape, StructureShape)
    cases = list(broken(shape, "", depth=6))
    if operation.startswith("List") or operation in ("CreateModel", "CreateEndpointConfig"):
        assert len(cases) > 3
    for request, path, constraint in cases:
        with pytest.raises(ValidationException) as refused:
            validate(request, shape)
        assert f"at '{path}' failed to satisfy constraint: {constraint}" in refused.value.message


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"Type": "CANARY", "WaitIntervalInSeconds": 3601}, "less than or equal to 3600"),
        ({"Type": "SOMETIMES", "WaitIntervalInSeconds": 0}, "[ALL_AT_ONCE, CANARY, LINEAR]"),
        ({"Type": "CANARY", "WaitIntervalInSeconds": 0, "CanarySize": {"Type": "x", "Value": 1}}, "INSTANCE_COUNT"),
    ],
)
def test_botocore_parses_a_refusal_into_its_code(stage: Any, config: dict[str, Any], message: str) -> None:
    policy = {"BlueGreenUpdatePolicy": {"TrafficRoutingConfiguration": config}}
    with pytest.raises(stage.sm.exceptions.ClientError) as refused:
        stage.sm.update_endpoint(EndpointName="e", EndpointConfigName="c", DeploymentConfig=policy)
    error = refused.value.response["Error"]
    assert error["Code"] == "ValidationException"
    assert message in error["Message"]
    assert refused.value.response["ResponseMetadata"]["HTTPStatusCode"] == 400


def test_a_key_is_refused_for_instances_with_disks_of_their_own(stage: Any) -> None:
    variant = {
        "VariantName": "v",
        "ModelName": stage.model(),
        "InstanceType": "ml.g5.xlarge",
        "InitialInstanceCount": 1,
    }
    with pytest.raises(stage.sm.exceptions.ClientError, match="have local storage"):
        stage.sm.create_endpoint_config(EndpointConfigName="disks", ProductionVariants=[variant], KmsKeyId="alias/k")


def test_runtime_errors_are_those_of_the_runtimes_model(stage: Any) -> None:
    endpoint = stage.endpoint(stage.config(stage.model({"mode.txt": "error-400"})))
    with pytest.raises(stage.runtime.exceptions.ModelError) as model_error:
        stage.invoke(endpoint)
    assert model_error.value.response["OriginalStatusCode"] == 400
    assert model_error.value.response["LogStreamArn"].endswith(f"/aws/sagemaker/Endpoints/{endpoint}")
    with pytest.raises(stage.runtime.exceptions.ValidationError):
        stage.invoke("nobody")
    began = time.monotonic()
    with pytest.raises(stage.runtime.exceptions.ServiceUnavailable):
        stage.invoke(endpoint, b"die")
    assert time.monotonic() - began < 10
