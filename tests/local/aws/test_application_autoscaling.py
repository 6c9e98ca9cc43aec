"""Scalable targets, policies, scheduled actions and tags."""

from __future__ import annotations

from typing import Any

import pytest
from botocore.exceptions import ClientError

DIMENSION = "sagemaker:variant:DesiredInstanceCount"
TRACKING = {
    "TargetValue": 100.0,
    "PredefinedMetricSpecification": {"PredefinedMetricType": "SageMakerVariantInvocationsPerInstance"},
}


@pytest.fixture
def scaling(stage: Any) -> Any:
    return stage.aws.client("application-autoscaling")


@pytest.fixture
def target(stage: Any, scaling: Any) -> dict[str, str]:
    endpoint = stage.endpoint(stage.config(stage.model()))
    where = {
        "ServiceNamespace": "sagemaker",
        "ResourceId": f"endpoint/{endpoint}/variant/variant-0",
        "ScalableDimension": DIMENSION,
    }
    scaling.register_scalable_target(**where, MinCapacity=1, MaxCapacity=4, Tags={"a": "b"})
    return where


def described(scaling: Any, target: dict[str, str]) -> dict[str, Any]:
    found = scaling.describe_scalable_targets(ServiceNamespace="sagemaker", ResourceIds=[target["ResourceId"]])
    (row,) = found["ScalableTargets"]
    row_: dict[str, Any] = row
    return row_


def code_of(error: pytest.ExceptionInfo[ClientError]) -> str:
    code: str = error.value.response["Error"]["Code"]
    return code


def test_a_target_is_registered_and_changed(scaling: Any, target: dict[str, str]) -> None:
    first = described(scaling, target)
    assert (first["MinCapacity"], first["MaxCapacity"]) == (1, 4)
    assert first["RoleARN"].endswith("AWSServiceRoleForApplicationAutoScaling_SageMakerEndpoint")
    scaling.register_scalable_target(**target, MaxCapacity=6)
    second = described(scaling, target)
    assert (second["MinCapacity"], second["MaxCapacity"]) == (1, 6)
    assert second["ScalableTargetARN"] == first["ScalableTargetARN"]


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"MinCapacity": 3, "MaxCapacity": 2}, "MinCapacity must not be negative or greater"),
        ({"ResourceId": "endpoint/nothing/variant/variant-0"}, "There is no endpoint nothing"),
        ({"ResourceId": "endpoint/nothing"}, "must be of the form"),
        ({"ScalableDimension": "ecs:service:DesiredCount"}, "Unsupported service namespace"),
    ],
)
def test_a_target_that_cannot_be(scaling: Any, target: dict[str, str], change: dict[str, Any], why: str) -> None:
    scaling.deregister_scalable_target(**target)
    with pytest.raises(ClientError, match=why) as refused:
        scaling.register_scalable_target(**({**target, "MinCapacity": 1, "MaxCapacity": 2} | change))
    assert code_of(refused) == "ValidationException"


def test_tags(scaling: Any, target: dict[str, str]) -> None:
    arn = described(scaling, target)["ScalableTargetARN"]
    scaling.tag_resource(ResourceARN=arn, Tags={"c": "d", "a": "e"})
    assert scaling.list_tags_for_resource(ResourceARN=arn)["Tags"] == {"a": "e", "c": "d"}
    scaling.untag_resource(ResourceARN=arn, TagKeys=["a", "never"])
    assert scaling.list_tags_for_resource(ResourceARN=arn)["Tags"] == {"c": "d"}
    with pytest.raises(ClientError) as refused:
        scaling.list_tags_for_resource(ResourceARN=f"{arn[:-4]}0000")
    assert code_of(refused) == "ResourceNotFoundException"


def test_a_policy_lives_and_dies_with_its_target(scaling: Any, target: dict[str, str]) -> None:
    policy = {**target, "PolicyName": "invocations", "PolicyType": "TargetTrackingScaling"}
    made = scaling.put_scaling_policy(**policy, TargetTrackingScalingPolicyConfiguration=TRACKING)
    again = scaling.put_scaling_policy(
        **policy, TargetTrackingScalingPolicyConfiguration={**TRACKING, "TargetValue": 5}
    )
    assert again["PolicyARN"] == made["PolicyARN"]
    (found,) = scaling.describe_scaling_policies(**target)["ScalingPolicies"]
    assert found["TargetTrackingScalingPolicyConfiguration"]["TargetValue"] == 5
    scaling.deregister_scalable_target(**target)
    assert scaling.describe_scaling_policies(**target)["ScalingPolicies"] == []
    with pytest.raises(ClientError) as refused:
        scaling.put_scaling_policy(**policy, TargetTrackingScalingPolicyConfiguration=TRACKING)
    assert code_of(refused) == "ObjectNotFoundException"


def test_a_policy_needs_its_configuration(scaling: Any, target: dict[str, str]) -> None:
    with pytest.raises(ClientError, match="TargetTrackingScalingPolicyConfiguration is required"):
        scaling.put_scaling_policy(**target, PolicyName="x", PolicyType="TargetTrackingScaling")


def test_scheduled_actions(scaling: Any, target: dict[str, str]) -> None:
    action = {**target, "ScheduledActionName": "night"}
    scaling.put_scheduled_action(**action, Schedule="cron(0 20 * * ? *)", ScalableTargetAction={"MaxCapacity": 1})
    scaling.put_scheduled_action(**action, Timezone="Europe/Berlin")
    (found,) = scaling.describe_scheduled_actions(**target)["ScheduledActions"]
    assert (found["Schedule"], found["Timezone"]) == ("cron(0 20 * * ? *)", "Europe/Berlin")
    scaling.delete_scheduled_action(**action)
    with pytest.raises(ClientError) as refused:
        scaling.delete_scheduled_action(**action)
    assert code_of(refused) == "ObjectNotFoundException"


def test_requests_are_checked_against_the_service_model(stage: Any) -> None:
    body = {"ServiceNamespace": "sagemakers"}
    answer = stage.aws.http.post(
        "/",
        json=body,
        headers={
            "X-Amz-Target": "AnyScaleFrontendService.DescribeScalableTargets",
            "Authorization": "AWS4-HMAC-SHA256 Credential=x/20260101/us-east-1/application-autoscaling/aws4_request",
        },
    )
    assert answer.status_code == 400
    assert "Member must satisfy enum value set" in answer.json()["message"]
