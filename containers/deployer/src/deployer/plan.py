"""What is to be live: names, tags and settings, from the run's configuration. Pure functions."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from mlplatform import storage
from mlplatform.config import RunConfig, digest
from mlplatform.steps import Refused

VARIANT = "primary"
NAME_LENGTH = 63
"""SageMaker's limit for names of models, endpoint configurations and endpoints."""


@dataclass(frozen=True)
class Plan:
    """The wanted state of one endpoint.

    Names contain a hash of what they name, so the same wish has the same names, and an existing model or
    configuration of that name can be used as it is.
    """

    registered_model: str
    version: str
    model_digest: str
    region: str
    model_name: str
    config_name: str
    endpoint_name: str
    image: str
    model_data_url: str
    environment: dict[str, str]
    execution_role_arn: str
    instance_type: str
    instance_count: int
    startup_timeout_seconds: int
    tags: dict[str, str]


def make_plan(config: RunConfig) -> Plan:
    """Derive the wanted state.

    Raises:
        Refused: the run's configuration names no candidate or no deployment.
    """
    candidate, deployment = config.candidate, config.deployment
    if candidate is None or deployment is None:
        missing = "candidate" if candidate is None else "deployment"
        raise Refused(f"config.json: {missing}: is needed to deploy", kind="bad-config")
    registered_model = config.model.registered_model
    model_data_url = f"s3://{deployment.artifacts_bucket}/models/{registered_model}/{candidate.version}/model.tar.gz"
    storage.split_uri(model_data_url)
    environment = {"MODEL_VERSION": candidate.version, "MODEL_DIGEST": candidate.model_digest}
    model = (deployment.serving_image, model_data_url, environment, deployment.execution_role_arn)
    variant = (deployment.instance_type, deployment.instance_count, deployment.startup_timeout_seconds)
    lineage = {name: value for name, value in config.lineage.items() if name != "environment"}
    what = f"v{candidate.version}-{candidate.model_digest[:8]}"
    return Plan(
        registered_model=registered_model,
        version=candidate.version,
        model_digest=candidate.model_digest,
        region=config.region,
        # Begins as the endpoint's name does, because that is what the deployer's rights are limited to.
        model_name=resource_name(deployment.endpoint_name, f"{what}-{digest(model)[:8]}"),
        config_name=resource_name(deployment.endpoint_name, f"{what}-{digest(model, variant)[:8]}"),
        endpoint_name=deployment.endpoint_name,
        image=deployment.serving_image,
        model_data_url=model_data_url,
        environment=environment,
        execution_role_arn=deployment.execution_role_arn,
        instance_type=deployment.instance_type,
        instance_count=deployment.instance_count,
        startup_timeout_seconds=deployment.startup_timeout_seconds,
        tags=make_tags(
            {
                **lineage,
                # As Terraform tags what it makes: what this costs is counted with the rest of the environment.
                "Project": "ml-platform",
                "Environment": config.lineage.get("environment", "unknown"),
                "ManagedBy": "deployer",
                "dataset": config.model.name,
                "owner": config.model.owner,
                "registered-model": registered_model,
                "model-version": candidate.version,
                "model-digest": candidate.model_digest,
                "mlflow-run": candidate.run_id,
                "run-key": config.run_key,
            }
        ),
    )


def resource_name(prefix: str, suffix: str) -> str:
    """Join both to a name that SageMaker takes, cutting the prefix where it is too long."""
    clean = re.sub(r"[^A-Za-z0-9]+", "-", prefix).strip("-")
    return f"{clean[: NAME_LENGTH - len(suffix) - 1].rstrip('-')}-{suffix}"


def make_tags(values: Mapping[str, str]) -> dict[str, str]:
    """Return tags that AWS takes: at most 50, keys and values of allowed characters and length."""

    def clean(text: str, length: int) -> str:
        return re.sub(r"[^\w .:/=+@-]", "_", text)[:length]

    tags = {clean(key, 128): clean(value, 256) for key, value in values.items() if not key.lower().startswith("aws:")}
    return dict(list(tags.items())[-50:])
