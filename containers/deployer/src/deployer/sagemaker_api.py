"""SageMaker by the resource classes of its Python SDK (version 3)."""

from __future__ import annotations

import importlib
from dataclasses import dataclass
from typing import Any

from boto3.session import Session
from botocore.exceptions import ClientError, ParamValidationError

from deployer.plan import VARIANT, Plan
from mlplatform.steps import Refused


@dataclass(frozen=True)
class EndpointState:
    """What an endpoint says of itself."""

    status: str
    config_name: str
    failure_reason: str | None


class SageMaker:
    """The calls a deployment needs. Where the API is, is the environment's business (``AWS_ENDPOINT_URL``)."""

    def __init__(self, region: str) -> None:
        # Two seconds, so not before they are needed. Not `sagemaker.serve`: that takes ten and more.
        self._resources = importlib.import_module("sagemaker.core.resources")
        self._shapes = importlib.import_module("sagemaker.core.shapes")
        # With both given, every resource object keeps them for its later calls.
        self._where: dict[str, Any] = {"session": Session(region_name=region), "region": region}

    def ensure_model(self, plan: Plan) -> None:
        """Create the model unless it is there.

        Raises:
            Refused: SageMaker refuses it, or there is another one of this name.
        """
        wanted = (plan.image, plan.model_data_url, plan.environment, plan.execution_role_arn)
        model = self._find(self._resources.Model, model_name=plan.model_name)
        if model is None:
            container = self._shapes.ContainerDefinition(
                image=plan.image, model_data_url=plan.model_data_url, environment=plan.environment
            )
            self._create(
                self._resources.Model,
                model_name=plan.model_name,
                primary_container=container,
                execution_role_arn=plan.execution_role_arn,
                tags=self._tags(plan),
            )
            return
        container = model.primary_container
        actual = (container.image, container.model_data_url, container.environment, model.execution_role_arn)
        _check_same("model", plan.model_name, wanted, actual)

    def ensure_config(self, plan: Plan) -> None:
        """Create the endpoint configuration unless it is there.

        Raises:
            Refused: SageMaker refuses it, or there is another one of this name.
        """
        wanted = (plan.model_name, plan.instance_type, plan.instance_count)
        config = self._find(self._resources.EndpointConfig, endpoint_config_name=plan.config_name)
        if config is None:
            variant = self._shapes.ProductionVariant(
                variant_name=VARIANT,
                model_name=plan.model_name,
                instance_type=plan.instance_type,
                initial_instance_count=plan.instance_count,
                initial_variant_weight=1.0,
                container_startup_health_check_timeout_in_seconds=plan.startup_timeout_seconds,
            )
            self._create(
                self._resources.EndpointConfig,
                endpoint_config_name=plan.config_name,
                production_variants=[variant],
                tags=self._tags(plan),
            )
            return
        (variant,) = config.production_variants
        actual = (variant.model_name, variant.instance_type, variant.initial_instance_count)
        _check_same("endpoint configuration", plan.config_name, wanted, actual)

    def endpoint(self, name: str) -> EndpointState | None:
        """Return an endpoint's state, or None where there is no such endpoint."""
        endpoint = self._find(self._resources.Endpoint, endpoint_name=name)
        if endpoint is None:
            return None
        reason = endpoint.failure_reason
        return EndpointState(
            endpoint.endpoint_status, endpoint.endpoint_config_name, reason if isinstance(reason, str) else None
        )

    def create_endpoint(self, plan: Plan, config_name: str) -> None:
        """Ask for a new endpoint; does not wait."""
        self._resources.Endpoint.create(
            endpoint_name=plan.endpoint_name, endpoint_config_name=config_name, tags=self._tags(plan), **self._where
        )

    def update_endpoint(self, name: str, config_name: str) -> None:
        """Ask an endpoint to change to another configuration; does not wait."""
        endpoint = self._resources.Endpoint.get(endpoint_name=name, **self._where)
        endpoint.endpoint_config_name = config_name
        endpoint.update()

    def delete_endpoint(self, name: str) -> None:
        """Ask an endpoint to go; does not wait."""
        if endpoint := self._find(self._resources.Endpoint, endpoint_name=name):
            endpoint.delete()

    def invoke(self, name: str, body: bytes) -> bytes:
        """Send a JSON body to a live endpoint and return what it answers."""
        endpoint = self._resources.Endpoint.get(endpoint_name=name, **self._where)
        answer = endpoint.invoke(
            body=body, content_type="application/json", accept="application/json", **self._where
        ).body
        content: bytes = answer if isinstance(answer, bytes) else answer.read()
        return content

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
            raise Refused(f"SageMaker: {' '.join(str(error).split())}", kind="bad-config") from None
        except ClientError as error:
            if error.response["Error"]["Code"] != "ValidationException":
                raise
            raise Refused(f"SageMaker: {error.response['Error']['Message']}", kind="bad-config") from None

    def _tags(self, plan: Plan) -> list[Any]:
        return [self._shapes.Tag(key=key, value=value) for key, value in plan.tags.items()]


def is_missing(error: ClientError) -> bool:
    """Whether an error says that a resource does not exist; SageMaker has no code of its own for that."""
    details = error.response["Error"]
    return details["Code"] == "ResourceNotFound" or (
        details["Code"] == "ValidationException" and "could not find" in details["Message"].lower()
    )


def _check_same(kind: str, name: str, wanted: tuple[Any, ...], actual: tuple[Any, ...]) -> None:
    if wanted != actual:
        raise Refused(
            f"there is a {kind} {name} with other content ({actual}, wanted {wanted}); delete it and try again",
            kind="bad-config",
        )
