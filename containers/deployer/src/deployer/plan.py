"""What is to be live: names, tags and requests, from the run's configuration. Pure functions."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from mlplatform.documents.digests import digest
from mlplatform.documents.run import Candidate, Deployment, Experiment, RunConfig
from mlplatform.errors import NonRetryableError
from mlplatform.names import shortened
from mlplatform.storage import split_uri

VARIANT = "primary"
CHALLENGER = "challenger"
NAME_LENGTH = 63
"""SageMaker's limit for names of models, endpoint configurations and endpoints."""
MAKERS_TAGS = frozenset({"Project", "Environment", "ManagedBy"})
"""Keys of the tags that say by whom and where something was made."""


@dataclass(frozen=True)
class Variant:
    """A model version on the endpoint."""

    name: str
    version: str
    model_digest: str
    run_id: str
    weight: float
    """Share of the requests."""
    examples_uri: str | None
    model_name: str
    model: dict[str, Any]
    """What the model is, as SageMaker's ``CreateModel`` has it, without name and tags."""

    @property
    def model_data_url(self) -> str:
        """Where the packed model lies."""
        url: str = self.model["PrimaryContainer"]["ModelDataUrl"]
        return url


@dataclass(frozen=True)
class Plan:
    """The wanted state of one endpoint.

    Names contain a hash of what they name, so the same wish has the same names, and an existing model or
    configuration of that name can be used as it is. Weights are no part of it: they can change without a deployment.
    """

    registered_model: str
    region: str
    endpoint_name: str
    config_name: str
    config: dict[str, Any]
    """What the configuration is, as SageMaker's ``CreateEndpointConfig`` has it, without name and tags."""
    variants: tuple[Variant, ...]
    """The candidate first."""
    startup_timeout_seconds: int
    tags: dict[str, str]

    @property
    def candidate(self) -> Variant:
        """The version that is to be champion."""
        return self.variants[0]

    @property
    def challenger(self) -> Variant | None:
        """The other version of an experiment."""
        return self.variants[1] if len(self.variants) > 1 else None

    @property
    def version(self) -> str:
        """Of the candidate."""
        return self.candidate.version

    @property
    def present_tags(self) -> dict[str, str]:
        """Tags that change with every deployment of an endpoint: all but those of who made it, often Terraform."""
        return {key: value for key, value in self.tags.items() if key not in MAKERS_TAGS}

    @property
    def weights(self) -> dict[str, float]:
        """Shares of the requests by variant."""
        return {variant.name: variant.weight for variant in self.variants}

    def reuse(self, config_name: str, config: dict[str, Any], model: dict[str, Any] | None) -> Plan | None:
        """Return this plan with a configuration that exists, None where that is not of the candidate alone.

        Args:
            config_name: of the configuration.
            config: as SageMaker describes it.
            model: of its first variant, as SageMaker describes it; None where it is gone.
        """
        variants = config["ProductionVariants"]
        if model is None or len(variants) != 1 or variants[0]["VariantName"] != VARIANT:
            return None
        if model["PrimaryContainer"].get("Environment") != _environment(self.candidate):
            return None
        candidate = replace(self.candidate, model_name=variants[0]["ModelName"], model=model)
        return replace(self, config_name=config_name, config=config, variants=(candidate,))


def make_plan(config: RunConfig) -> Plan:
    """Derive the wanted state.

    Raises:
        NonRetryableError: the run's configuration names no candidate or no deployment, or does not make sense.
    """
    candidate, deployment = config.candidate, config.deployment
    if candidate is None or deployment is None:
        missing = "candidate" if candidate is None else "deployment"
        raise NonRetryableError(f"config.json: {missing}: is needed to deploy", kind="bad-config")
    experiment = deployment.experiment
    if experiment is not None and deployment.purpose == "rollback":
        raise NonRetryableError(
            "config.json: deployment.experiment: a rollback has none: leave it out", kind="bad-config"
        )
    if experiment is not None and experiment.version == candidate.version:
        raise NonRetryableError(
            f"config.json: deployment.experiment.version: {experiment.version} is the candidate itself: name another",
            kind="bad-config",
        )
    rest = 1.0 if experiment is None else 1.0 - experiment.weight
    variants = [_variant(config, deployment, candidate, VARIANT, rest, deployment.examples_uri)]
    if experiment is not None:
        variants.append(
            _variant(config, deployment, experiment, CHALLENGER, experiment.weight, experiment.examples_uri)
        )
    request = _config_request(deployment, variants)
    return Plan(
        registered_model=config.model.registered_model,
        region=config.region,
        endpoint_name=deployment.endpoint_name,
        config_name=resource_name(deployment.endpoint_name, f"{_what(candidate)}-{digest(_unweighted(request))[:8]}"),
        config=request,
        variants=tuple(variants),
        startup_timeout_seconds=deployment.startup_timeout_seconds,
        tags=_deployment_tags(config, deployment, candidate),
    )


def _variant(
    config: RunConfig,
    deployment: Deployment,
    version: Candidate | Experiment,
    name: str,
    weight: float,
    examples_uri: str | None,
) -> Variant:
    url = f"s3://{deployment.artifacts_bucket}/models/{config.model.registered_model}/{version.version}/model.tar.gz"
    split_uri(url)
    variant = Variant(name, version.version, version.model_digest, version.run_id, weight, examples_uri, "", {})
    model: dict[str, Any] = {
        "PrimaryContainer": {
            "Image": deployment.serving_image,
            "ModelDataUrl": url,
            "Environment": _environment(variant),
        },
        "ExecutionRoleArn": deployment.execution_role_arn,
        "EnableNetworkIsolation": deployment.network_isolation,
    }
    if deployment.vpc is not None:
        model["VpcConfig"] = {
            "SecurityGroupIds": list(deployment.vpc.security_groups),
            "Subnets": list(deployment.vpc.subnets),
        }
    # Begins as the endpoint's name does, because that is what the deployer's rights are limited to.
    model_name = resource_name(deployment.endpoint_name, f"{_what(version)}-{digest(model)[:8]}")
    return replace(variant, model_name=model_name, model=model)


def _environment(variant: Variant) -> dict[str, str]:
    return {"MODEL_VERSION": variant.version, "MODEL_DIGEST": variant.model_digest}


def _what(version: Candidate | Experiment) -> str:
    return f"v{version.version}-{version.model_digest[:8]}"


def _config_request(deployment: Deployment, variants: list[Variant]) -> dict[str, Any]:
    request: dict[str, Any] = {
        "ProductionVariants": [
            {
                "VariantName": variant.name,
                "ModelName": variant.model_name,
                "InstanceType": deployment.instance_type,
                "InitialInstanceCount": deployment.instance_count,
                "InitialVariantWeight": variant.weight,
                "ContainerStartupHealthCheckTimeoutInSeconds": deployment.startup_timeout_seconds,
            }
            for variant in variants
        ]
    }
    key, capture = deployment.kms_key_arn, deployment.capture
    if key is not None and deployment.encrypt_volumes:
        request["KmsKeyId"] = key
    if capture.uri is not None and capture.percentage > 0:
        request["DataCaptureConfig"] = {
            "EnableCapture": True,
            "InitialSamplingPercentage": capture.percentage,
            "DestinationS3Uri": capture.uri,
            **({"KmsKeyId": key} if key is not None else {}),
            "CaptureOptions": [{"CaptureMode": "Input"}, {"CaptureMode": "Output"}],
            # Without these the records are base64.
            "CaptureContentTypeHeader": {
                "CsvContentTypes": ["text/csv"],
                "JsonContentTypes": ["application/json"],
            },
        }
    return request


def _unweighted(request: Mapping[str, Any]) -> dict[str, Any]:
    variants = [
        {key: value for key, value in variant.items() if key != "InitialVariantWeight"}
        for variant in request["ProductionVariants"]
    ]
    return {**request, "ProductionVariants": variants}


def _deployment_tags(config: RunConfig, deployment: Deployment, candidate: Candidate) -> dict[str, str]:
    lineage = {name: value for name, value in config.lineage.items() if name != "environment"}
    return make_tags(
        {
            **lineage,
            # As Terraform tags what it makes: what this costs is counted with the rest of the environment.
            "Project": deployment.project,
            "Environment": config.lineage.get("environment", "unknown"),
            "ManagedBy": "deployer",
            "dataset": config.model.name,
            "owner": config.model.owner,
            "registered-model": config.model.registered_model,
            "model-version": candidate.version,
            "model-digest": candidate.model_digest,
            "mlflow-run": candidate.run_id,
            "run-key": config.run_key,
        }
    )


def resource_name(prefix: str, suffix: str) -> str:
    """Join both to a name that SageMaker takes, shortening the prefix where it is too long."""
    return f"{shortened(prefix, NAME_LENGTH - len(suffix) - 1)}-{suffix}"


def made_for(endpoint_name: str, name: str) -> bool:
    """Whether a model or configuration of this name was made by a deployment of this endpoint."""
    suffix = re.search(r"-(v[0-9]+-[0-9a-f]{8}-[0-9a-f]{8})$", name)
    return suffix is not None and resource_name(endpoint_name, suffix[1]) == name


def make_tags(values: Mapping[str, str]) -> dict[str, str]:
    """Return tags that AWS takes: at most 50, keys and values of allowed characters and length."""

    def clean(text: str, length: int) -> str:
        return shortened(re.sub(r"[^\w .:/=+@-]", "_", text), length)

    tags = {clean(key, 128): clean(value, 256) for key, value in values.items() if not key.lower().startswith("aws:")}
    return dict(list(tags.items())[-50:])
