"""Application Auto Scaling: scalable targets, their policies, schedules and tags, as records without effect.

moto's own lacks tags, which Terraform's provider asks for, and insists that an ECS service lives in the same moto.
"""

from __future__ import annotations

import threading
import uuid
from collections.abc import Callable
from typing import Any

from local.aws.sagemaker.errors import AwsError, ValidationException
from local.aws.sagemaker.listing import page
from local.aws.sagemaker.protocol import Operation
from local.aws.sagemaker.store import now

TARGET_PREFIX = "AnyScaleFrontendService."
SERVICE = "application-autoscaling"
_TAGS_PER_RESOURCE = 50
_PAGE = 50
_Key = tuple[str, str, str]  # namespace, resource id, dimension

VariantExists = Callable[[str, str], bool]


class ApplicationAutoScaling:
    """What has been registered. Nothing is ever scaled, and target tracking makes no CloudWatch alarms."""

    def __init__(self, region: str, account: str, variant_exists: VariantExists) -> None:
        self._prefix = f"arn:aws:application-autoscaling:{region}:{account}:scalable-target"
        self._resources = f"arn:aws:autoscaling:{region}:{account}"
        self._account = account
        self._variant_exists = variant_exists
        self._lock = threading.RLock()
        self._targets: dict[_Key, dict[str, Any]] = {}
        self._policies: dict[tuple[_Key, str], dict[str, Any]] = {}
        self._schedules: dict[tuple[_Key, str], dict[str, Any]] = {}
        self._tags: dict[str, dict[str, str]] = {}

    def operations(self) -> dict[str, Operation]:
        """Return the operations by the names that the service gives them."""
        operations: dict[str, Operation] = {
            "RegisterScalableTarget": self.register,
            "DescribeScalableTargets": self.describe_targets,
            "DeregisterScalableTarget": self.deregister,
            "PutScalingPolicy": self.put_policy,
            "DescribeScalingPolicies": self.describe_policies,
            "DeleteScalingPolicy": self.delete_policy,
            "PutScheduledAction": self.put_schedule,
            "DescribeScheduledActions": self.describe_schedules,
            "DeleteScheduledAction": self.delete_schedule,
            "ListTagsForResource": self.list_tags,
            "TagResource": self.tag,
            "UntagResource": self.untag,
        }
        return {name: self._locked(operation) for name, operation in operations.items()}

    def register(self, params: dict[str, Any]) -> dict[str, Any]:
        """Create a target or change an existing one; tags are for a new one only."""
        key = _key(params)
        known = self._targets.get(key)
        if known is None and not {"MinCapacity", "MaxCapacity"} <= set(params):
            raise ValidationException("MinCapacity and MaxCapacity are required for a new scalable target.")
        if known is not None and params.get("Tags"):
            raise ValidationException("Tags can be given for a new scalable target only; use TagResource.")
        target = {**(known or {}), **{name: value for name, value in params.items() if name != "Tags"}}
        if not 0 <= target["MinCapacity"] <= target["MaxCapacity"]:
            raise ValidationException("MinCapacity must not be negative or greater than MaxCapacity.")
        if known is None:
            self._check_resource(key)
            namespace = key[0]
            arn = f"{self._prefix}/{uuid.uuid4().hex[:27]}"
            target |= {"ScalableTargetARN": arn, "CreationTime": now()}
            target.setdefault("RoleARN", _service_linked_role(self._account, namespace))
            suspended = dict.fromkeys(
                ("DynamicScalingInSuspended", "DynamicScalingOutSuspended", "ScheduledScalingSuspended"), False
            )
            target.setdefault("SuspendedState", suspended)
            self._tags[arn] = dict(params.get("Tags", {}))
        self._targets[key] = target
        return {"ScalableTargetARN": target["ScalableTargetARN"]}

    def describe_targets(self, params: dict[str, Any]) -> dict[str, Any]:
        """Return a page of targets."""
        wanted = params.get("ResourceIds")
        rows = [row for key, row in self._targets.items() if _selected(key, params)]
        rows = [row for row in rows if wanted is None or row["ResourceId"] in wanted]
        return _answer("ScalableTargets", rows, params)

    def deregister(self, params: dict[str, Any]) -> dict[str, Any]:
        """Delete a target with its policies and schedules."""
        key = _key(params)
        target = self._target(key)
        self._tags.pop(target["ScalableTargetARN"], None)
        del self._targets[key]
        for records in (self._policies, self._schedules):
            for record in [record for record in records if record[0] == key]:
                del records[record]
        return {}

    def put_policy(self, params: dict[str, Any]) -> dict[str, Any]:
        """Create or replace a policy."""
        key = _key(params)
        self._target(key)
        known = self._policies.get((key, params["PolicyName"]), {})
        kind = params.get("PolicyType") or known.get("PolicyType") or "StepScaling"
        configuration = f"{kind}PolicyConfiguration"
        if not params.get(configuration):
            raise ValidationException(f"{configuration} is required for a policy of type {kind}.")
        arn = known.get("PolicyARN") or self._arn("scalingPolicy", key, f"policyName/{params['PolicyName']}")
        policy = {**params, "PolicyType": kind, "PolicyARN": arn, "Alarms": []}
        policy["CreationTime"] = known.get("CreationTime") or now()
        self._policies[key, params["PolicyName"]] = policy
        return {"PolicyARN": arn, "Alarms": []}

    def describe_policies(self, params: dict[str, Any]) -> dict[str, Any]:
        """Return a page of policies."""
        rows = _rows(self._policies, params, params.get("PolicyNames"))
        return _answer("ScalingPolicies", rows, params)

    def delete_policy(self, params: dict[str, Any]) -> dict[str, Any]:
        """Delete a policy."""
        if self._policies.pop((_key(params), params["PolicyName"]), None) is None:
            raise _not_found("scaling policy", params)
        return {}

    def put_schedule(self, params: dict[str, Any]) -> dict[str, Any]:
        """Create or change a scheduled action."""
        key = _key(params)
        self._target(key)
        name = params["ScheduledActionName"]
        known = self._schedules.get((key, name), {})
        schedule = {**known, **params}
        if not schedule.get("Schedule"):
            raise ValidationException("Schedule is required for a new scheduled action.")
        schedule.setdefault("ScheduledActionARN", self._arn("scheduledAction", key, f"scheduledActionName/{name}"))
        schedule.setdefault("CreationTime", now())
        self._schedules[key, name] = schedule
        return {}

    def describe_schedules(self, params: dict[str, Any]) -> dict[str, Any]:
        """Return a page of scheduled actions."""
        rows = _rows(self._schedules, params, params.get("ScheduledActionNames"))
        return _answer("ScheduledActions", rows, params)

    def delete_schedule(self, params: dict[str, Any]) -> dict[str, Any]:
        """Delete a scheduled action."""
        if self._schedules.pop((_key(params), params["ScheduledActionName"]), None) is None:
            raise _not_found("scheduled action", params)
        return {}

    def list_tags(self, params: dict[str, Any]) -> dict[str, Any]:
        """Return the tags of a target."""
        return {"Tags": dict(self._tags_of(params["ResourceARN"]))}

    def tag(self, params: dict[str, Any]) -> dict[str, Any]:
        """Add or overwrite tags of a target."""
        tags = self._tags_of(params["ResourceARN"])
        if len(tags | params["Tags"]) > _TAGS_PER_RESOURCE:
            message = f"A scalable target can have at most {_TAGS_PER_RESOURCE} tags."
            raise AwsError("TooManyTagsException", message, ResourceName=params["ResourceARN"])
        tags.update(params["Tags"])
        return {}

    def untag(self, params: dict[str, Any]) -> dict[str, Any]:
        """Remove tags of a target; keys that are not there are no error."""
        tags = self._tags_of(params["ResourceARN"])
        for key in params["TagKeys"]:
            tags.pop(key, None)
        return {}

    def _locked(self, operation: Operation) -> Operation:
        def run(params: dict[str, Any]) -> dict[str, Any] | None:
            with self._lock:
                return operation(params)

        return run

    def _check_resource(self, key: _Key) -> None:
        namespace, resource, dimension = key
        if not dimension.startswith(f"{namespace}:"):
            raise ValidationException(
                f"Unsupported service namespace, resource type or scalable dimension: {dimension}"
            )
        if dimension == "sagemaker:variant:DesiredInstanceCount":
            parts = resource.split("/")
            if len(parts) != 4 or parts[0] != "endpoint" or parts[2] != "variant":
                raise ValidationException(f"Resource ID {resource} must be of the form endpoint/NAME/variant/NAME.")
            if not self._variant_exists(parts[1], parts[3]):
                raise ValidationException(f"There is no endpoint {parts[1]} with a production variant {parts[3]}.")
        if dimension == "ecs:service:DesiredCount" and len(resource.split("/")) != 3:
            raise ValidationException(f"Resource ID {resource} must be of the form service/CLUSTER/SERVICE.")

    def _target(self, key: _Key) -> dict[str, Any]:
        if target := self._targets.get(key):
            return target
        message = f"No scalable target registered for service namespace: {key[0]}, resource ID: {key[1]}, "
        raise AwsError("ObjectNotFoundException", f"{message}scalable dimension: {key[2]}")

    def _tags_of(self, arn: str) -> dict[str, str]:
        if arn not in self._tags:
            raise AwsError("ResourceNotFoundException", f"The resource {arn} does not exist.", ResourceName=arn)
        return self._tags[arn]

    def _arn(self, kind: str, key: _Key, rest: str) -> str:
        return f"{self._resources}:{kind}:{uuid.uuid4()}:resource/{key[0]}/{key[1]}:{rest}"


def _key(params: dict[str, Any]) -> _Key:
    return params["ServiceNamespace"], params["ResourceId"], params["ScalableDimension"]


def _selected(key: _Key, params: dict[str, Any]) -> bool:
    names = ("ServiceNamespace", "ResourceId", "ScalableDimension")
    return all(params.get(name, value) == value for name, value in zip(names, key, strict=True))


def _rows(
    records: dict[tuple[_Key, str], dict[str, Any]], params: dict[str, Any], names: list[str] | None
) -> list[dict[str, Any]]:
    return [row for (key, name), row in records.items() if _selected(key, params) and (names is None or name in names)]


def _answer(member: str, rows: list[dict[str, Any]], params: dict[str, Any]) -> dict[str, Any]:
    shown, token = page(rows, params, default=_PAGE)
    return {member: shown, "NextToken": token}


def _not_found(what: str, params: dict[str, Any]) -> AwsError:
    name = params.get("PolicyName") or params.get("ScheduledActionName")
    return AwsError("ObjectNotFoundException", f"No {what} found for {params['ResourceId']} with the name {name}")


def _service_linked_role(account: str, namespace: str) -> str:
    suffix = {"ecs": "ECSService", "sagemaker": "SageMakerEndpoint"}.get(namespace, namespace)
    role = f"AWSServiceRoleForApplicationAutoScaling_{suffix}"
    return f"arn:aws:iam::{account}:role/aws-service-role/{namespace}.application-autoscaling.amazonaws.com/{role}"
