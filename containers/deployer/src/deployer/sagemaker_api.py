"""SageMaker by the resource classes of its Python SDK (version 3), and the two services that watch over endpoints."""

from __future__ import annotations

import importlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from boto3.session import Session
from botocore.exceptions import ClientError, ParamValidationError

from deployer.plan import Plan, Variant
from mlplatform.errors import NonRetryableError


@dataclass(frozen=True)
class LiveVariant:
    """A variant that an endpoint runs."""

    name: str
    weight: float
    instances: int
    images: tuple[str, ...] = ()


@dataclass(frozen=True)
class EndpointState:
    """What an endpoint says of itself."""

    status: str
    config_name: str
    failure_reason: str | None = None
    variants: tuple[LiveVariant, ...] = ()
    capture: dict[str, Any] | None = None


@dataclass(frozen=True)
class Made:
    """A model or an endpoint configuration that exists."""

    name: str
    created: datetime


@dataclass(frozen=True)
class AlarmState:
    """A CloudWatch alarm that exists."""

    value: str
    """``OK``, ``ALARM`` or ``INSUFFICIENT_DATA``."""
    seconds: int = 0
    """Nothing bad that lasts shorter turns it red; 0 where that cannot be told."""


class SageMaker:
    """The calls a deployment needs. Where the API is, is the environment's business (``AWS_ENDPOINT_URL``)."""

    def __init__(self, region: str) -> None:
        # Two seconds, so not before they are needed. Not `sagemaker.serve`: that takes ten and more.
        self._resources = importlib.import_module("sagemaker.core.resources")
        self._shapes = importlib.import_module("sagemaker.core.shapes")
        # From the API's names and dictionaries to the SDK's.
        self._transform: Any = importlib.import_module("sagemaker.core.utils.code_injection.codec").transform
        self._session = Session(region_name=region)
        self._clients: dict[str, Any] = {}
        # With both given, every resource object keeps them for its later calls.
        self._where: dict[str, Any] = {"session": self._session, "region": region}

    # The SDK's objects lose every 0 and False on their way to the API's names and back: a waiting time of 0, a network
    # isolation that is off. So what is compared or may be 0 goes by the client that is below them.

    def describe_model(self, name: str) -> dict[str, Any] | None:
        """Return what a model is, None where there is none of this name."""
        return self._describe("describe_model", ModelName=name)

    def describe_config(self, name: str) -> dict[str, Any] | None:
        """Return what an endpoint configuration is, None where there is none of this name."""
        return self._describe("describe_endpoint_config", EndpointConfigName=name)

    def create_model(self, plan: Plan, variant: Variant) -> None:
        """Create a variant's model.

        Raises:
            NonRetryableError: SageMaker refuses it.
        """
        content = self._transform(variant.model, "DescribeModelOutput")
        self._create(self._resources.Model, model_name=variant.model_name, **content, tags=self._tags(plan))

    def create_config(self, plan: Plan) -> None:
        """Create the endpoint configuration.

        Raises:
            NonRetryableError: SageMaker refuses it.
        """
        content = self._transform(plan.config, "DescribeEndpointConfigOutput")
        config = self._resources.EndpointConfig
        self._create(config, endpoint_config_name=plan.config_name, **content, tags=self._tags(plan))

    def endpoint(self, name: str) -> EndpointState | None:
        """Return an endpoint's state, or None where there is no such endpoint."""
        endpoint = self._describe("describe_endpoint", EndpointName=name)
        if endpoint is None:
            return None
        variants = [
            LiveVariant(
                variant["VariantName"],
                variant.get("DesiredWeight", variant.get("CurrentWeight", 0.0)),
                variant.get("DesiredInstanceCount", variant.get("CurrentInstanceCount", 0)),
                tuple(image["SpecifiedImage"] for image in variant.get("DeployedImages", [])),
            )
            for variant in endpoint.get("ProductionVariants", [])
        ]
        return EndpointState(
            endpoint["EndpointStatus"],
            endpoint.get("EndpointConfigName", ""),
            endpoint.get("FailureReason"),
            tuple(variants),
            endpoint.get("DataCaptureConfig"),
        )

    def create_endpoint(self, plan: Plan, config_name: str) -> None:
        """Ask for a new endpoint; does not wait."""
        self._resources.Endpoint.create(
            endpoint_name=plan.endpoint_name, endpoint_config_name=config_name, tags=self._tags(plan), **self._where
        )

    def update_endpoint(
        self, name: str, config_name: str, request: Mapping[str, Any] | None = None, *, keep_counts: bool = False
    ) -> None:
        """Ask an endpoint to change to another configuration; does not wait.

        Args:
            name: of the endpoint.
            config_name: of the configuration.
            request: SageMaker's ``DeploymentConfig``.
            keep_counts: whether variants of the same name keep their numbers of instances.
        """
        options: dict[str, Any] = {}
        if request is not None:
            options["DeploymentConfig"] = request
        if keep_counts:
            options["RetainAllVariantProperties"] = True
            options["ExcludeRetainedVariantProperties"] = [
                {"VariantPropertyType": kind} for kind in ("DesiredWeight", "DataCaptureConfig")
            ]
        self._client("sagemaker").update_endpoint(EndpointName=name, EndpointConfigName=config_name, **options)

    def tag_endpoint(self, name: str, tags: Mapping[str, str]) -> None:
        """Set tags of an endpoint that exists; others that it has are left alone."""
        arn = self._client("sagemaker").describe_endpoint(EndpointName=name)["EndpointArn"]
        self._client("sagemaker").add_tags(
            ResourceArn=arn, Tags=[{"Key": key, "Value": value} for key, value in tags.items()]
        )

    def update_weights(self, name: str, weights: Mapping[str, float]) -> None:
        """Ask an endpoint to share requests out otherwise among its variants; does not wait."""
        desired = [{"VariantName": variant, "DesiredWeight": weight} for variant, weight in weights.items()]
        self._client("sagemaker").update_endpoint_weights_and_capacities(
            EndpointName=name, DesiredWeightsAndCapacities=desired
        )

    def delete_endpoint(self, name: str) -> None:
        """Ask an endpoint to go; does not wait."""
        if endpoint := self._find(self._resources.Endpoint, endpoint_name=name):
            endpoint.delete()

    def invoke(self, name: str, variant: str, body: bytes) -> bytes:
        """Send a JSON body to a variant of a live endpoint and return what it answers."""
        endpoint = self._resources.Endpoint.get(endpoint_name=name, **self._where)
        answer = endpoint.invoke(
            body=body,
            content_type="application/json",
            accept="application/json",
            target_variant=variant,
            **self._where,
        ).body
        content: bytes = answer if isinstance(answer, bytes) else answer.read()
        return content

    # The SDK's own lists describe every item.

    def configs(self, name_contains: str) -> list[Made]:
        """Return the endpoint configurations with a text in their names."""
        pages = self._client("sagemaker").get_paginator("list_endpoint_configs").paginate(NameContains=name_contains)
        found = [item for page in pages for item in page["EndpointConfigs"]]
        return [Made(item["EndpointConfigName"], item["CreationTime"]) for item in found]

    def models(self, name_contains: str) -> list[Made]:
        """Return the models with a text in their names."""
        pages = self._client("sagemaker").get_paginator("list_models").paginate(NameContains=name_contains)
        return [Made(item["ModelName"], item["CreationTime"]) for page in pages for item in page["Models"]]

    def delete_config(self, name: str) -> None:
        """Delete an endpoint configuration, if it is there."""
        if config := self._find(self._resources.EndpointConfig, endpoint_config_name=name):
            config.delete()

    def delete_model(self, name: str) -> None:
        """Delete a model, if it is there."""
        if model := self._find(self._resources.Model, model_name=name):
            model.delete()

    def alarm_states(self, names: Sequence[str]) -> dict[str, AlarmState]:
        """Return the states of those alarms that exist."""
        if not names:
            return {}
        answer = self._client("cloudwatch").describe_alarms(
            AlarmNames=list(names), AlarmTypes=["MetricAlarm", "CompositeAlarm"]
        )
        found = [*answer.get("MetricAlarms", []), *answer.get("CompositeAlarms", [])]
        return {
            alarm["AlarmName"]: AlarmState(
                alarm["StateValue"],
                # An alarm on an expression has no period of its own, nor has one on other alarms.
                alarm.get("Period", 0) * alarm.get("DatapointsToAlarm", alarm.get("EvaluationPeriods", 0)),
            )
            for alarm in found
        }

    def is_scaled(self, name: str, variant: str) -> bool:
        """Whether autoscaling decides about a variant's number of instances."""
        answer = self._client("application-autoscaling").describe_scalable_targets(
            ServiceNamespace="sagemaker",
            ResourceIds=[f"endpoint/{name}/variant/{variant}"],
            ScalableDimension="sagemaker:variant:DesiredInstanceCount",
        )
        return bool(answer["ScalableTargets"])

    def _client(self, service: str) -> Any:
        if service not in self._clients:
            self._clients[service] = self._session.client(service)
        return self._clients[service]

    def _describe(self, operation: str, **name: str) -> dict[str, Any] | None:
        try:
            found: dict[str, Any] = getattr(self._client("sagemaker"), operation)(**name)
        except ClientError as error:
            if is_missing(error):
                return None
            raise
        del found["ResponseMetadata"]
        return found

    def _find(self, resource: Any, **name: str) -> Any:
        try:
            return resource.get(**name, **self._where)
        except ClientError as error:
            if is_missing(error):
                return None
            raise

    def _create(self, resource: Any, **request: Any) -> None:
        try:
            resource.create(**request, **self._where)
        except ParamValidationError as error:
            raise NonRetryableError(f"SageMaker: {' '.join(str(error).split())}", kind="bad-config") from None
        except ClientError as error:
            if error.response["Error"]["Code"] != "ValidationException":
                raise
            raise NonRetryableError(f"SageMaker: {error.response['Error']['Message']}", kind="bad-config") from None

    def _tags(self, plan: Plan) -> list[Any]:
        return [self._shapes.Tag(key=key, value=value) for key, value in plan.tags.items()]


def is_missing(error: ClientError) -> bool:
    """Whether an error says that a resource does not exist; SageMaker has no code of its own for that."""
    details = error.response["Error"]
    return details["Code"] == "ResourceNotFound" or (
        details["Code"] == "ValidationException" and "could not find" in details["Message"].lower()
    )
