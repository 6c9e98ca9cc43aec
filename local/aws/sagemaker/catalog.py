"""Operations on models, endpoint configurations and tags."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from local.aws.sagemaker.errors import ValidationException
from local.aws.sagemaker.listing import page, select
from local.aws.sagemaker.model_data import ModelData
from local.aws.sagemaker.protocol import Operation
from local.aws.sagemaker.store import Record, Store, now

_TAGS_PER_RESOURCE = 50
_LOCAL_DISKS = re.compile(r"ml\.(m5d|c5d|r5d|g4dn|g5|g6e?|p4de?|p5|p5en?)\.")


class Catalog:
    """Models, endpoint configurations and tags; endpoints only as something that carries tags."""

    def __init__(self, store: Store, model_data: ModelData, endpoint_exists: Callable[[str], bool]) -> None:
        self._store = store
        self._model_data = model_data
        self._endpoint_exists = endpoint_exists

    def operations(self) -> dict[str, Operation]:
        """Return the operations by the names that the service gives them."""
        return {
            "CreateModel": self.create_model,
            "DescribeModel": self.describe_model,
            "ListModels": self.list_models,
            "DeleteModel": self.delete_model,
            "CreateEndpointConfig": self.create_config,
            "DescribeEndpointConfig": self.describe_config,
            "ListEndpointConfigs": self.list_configs,
            "DeleteEndpointConfig": self.delete_config,
            "AddTags": self.add_tags,
            "ListTags": self.list_tags,
            "DeleteTags": self.delete_tags,
        }

    def create_model(self, params: dict[str, Any]) -> dict[str, Any]:
        """Create a model of one container, after a look whether its data exists."""
        container = container_of(params)
        if url := container_data_url(container):
            self._model_data.check(url)
        arn = self._store.names.arn("model", params["ModelName"])
        return {"ModelArn": self._create(self._store.models, "model", params["ModelName"], arn, params)}

    def describe_model(self, params: dict[str, Any]) -> dict[str, Any]:
        """Return a model as it was created."""
        record = find_model(self._store, params["ModelName"])
        described = _without(record.request, "Tags")
        containers = ("PrimaryContainer", "Containers")
        described |= {key: _described_container(described[key]) for key in containers if key in described}
        described.setdefault("EnableNetworkIsolation", False)
        return {**described, "ModelArn": record.arn, "CreationTime": record.created}

    def list_models(self, params: dict[str, Any]) -> dict[str, Any]:
        """Return a page of models."""
        rows, token = self._page(self._store.models, params, "Model")
        return {"Models": rows, "NextToken": token}

    def delete_model(self, params: dict[str, Any]) -> None:
        """Delete a model, even one that an endpoint serves, as the real service does."""
        self._delete(self._store.models, find_model(self._store, params["ModelName"]))

    def create_config(self, params: dict[str, Any]) -> dict[str, Any]:
        """Create an endpoint configuration whose models all exist."""
        _refuse(params, "ShadowProductionVariants", "AsyncInferenceConfig", "CrossRegionTrafficConfig")
        variants = params["ProductionVariants"]
        names = [variant["VariantName"] for variant in variants]
        if len(set(names)) < len(names):
            raise ValidationException("Production variant names must be unique within an endpoint configuration.")
        for variant in variants:
            self._check_variant(variant)
        if sum(variant.get("InitialVariantWeight", 1.0) for variant in variants) <= 0:
            raise ValidationException("At least one production variant must have a weight greater than zero.")
        params = params | {"ProductionVariants": [{"InitialVariantWeight": 1.0, **variant} for variant in variants]}
        _check_key(params, variants)
        _check_capture(params.get("DataCaptureConfig", {}))
        name = params["EndpointConfigName"]
        arn = self._store.names.arn("endpoint-config", name)
        return {"EndpointConfigArn": self._create(self._store.configs, "endpoint configuration", name, arn, params)}

    def describe_config(self, params: dict[str, Any]) -> dict[str, Any]:
        """Return an endpoint configuration as it was created."""
        record = find_config(self._store, params["EndpointConfigName"])
        described = _without(record.request, "Tags")
        described.setdefault("EnableNetworkIsolation", False)
        return {**described, "EndpointConfigArn": record.arn, "CreationTime": record.created}

    def list_configs(self, params: dict[str, Any]) -> dict[str, Any]:
        """Return a page of endpoint configurations."""
        rows, token = self._page(self._store.configs, params, "EndpointConfig")
        return {"EndpointConfigs": rows, "NextToken": token}

    def delete_config(self, params: dict[str, Any]) -> None:
        """Delete a configuration, even the live one: the real service allows that too, and then refuses updates."""
        self._delete(self._store.configs, find_config(self._store, params["EndpointConfigName"]))

    def add_tags(self, params: dict[str, Any]) -> dict[str, Any]:
        """Add or overwrite tags."""
        with self._store.lock:
            tags = self._tags(params["ResourceArn"])
            merged = tags | as_tags(params["Tags"])
            if len(merged) > _TAGS_PER_RESOURCE:
                raise ValidationException(f"A resource can have at most {_TAGS_PER_RESOURCE} tags.")
            tags.update(merged)
            return {"Tags": _tag_list(tags)}

    def list_tags(self, params: dict[str, Any]) -> dict[str, Any]:
        """Return a page of tags."""
        with self._store.lock:
            rows, token = page(_tag_list(self._tags(params["ResourceArn"])), params, default=_TAGS_PER_RESOURCE)
        return {"Tags": rows, "NextToken": token}

    def delete_tags(self, params: dict[str, Any]) -> dict[str, Any]:
        """Remove tags; keys that are not there are no error."""
        with self._store.lock:
            tags = self._tags(params["ResourceArn"])
            for key in params["TagKeys"]:
                tags.pop(key, None)
        return {}

    def _check_variant(self, variant: dict[str, Any]) -> None:
        name = variant["VariantName"]
        _refuse(variant, "ServerlessConfig", "InstancePools", "ManagedInstanceScaling")
        if "ModelName" not in variant:
            raise ValidationException(
                f"Production variant {name} has no ModelName; inference components are not served."
            )
        if "InstanceType" not in variant or "InitialInstanceCount" not in variant:
            raise ValidationException(f"InstanceType and InitialInstanceCount are required for variant {name}.")
        find_model(self._store, variant["ModelName"])

    def _create(self, records: dict[str, Record], what: str, name: str, arn: str, params: dict[str, Any]) -> str:
        with self._store.lock:
            if name.lower() in records:
                raise ValidationException(f'Cannot create already existing {what} "{arn}".')
            self._store.tags[arn] = as_tags(params.get("Tags", []))
            records[name.lower()] = Record(name, arn, now(), params)
        return arn

    def _delete(self, records: dict[str, Record], record: Record) -> None:
        with self._store.lock:
            records.pop(record.name.lower(), None)
            self._store.tags.pop(record.arn, None)

    def _page(
        self, records: dict[str, Record], params: dict[str, Any], prefix: str
    ) -> tuple[list[dict[str, Any]], str | None]:
        name, arn = f"{prefix}Name", f"{prefix}Arn"
        with self._store.lock:
            rows = [{name: r.name, arn: r.arn, "CreationTime": r.created} for r in records.values()]
        keys: dict[str, Callable[[dict[str, Any]], Any]] = {
            "Name": lambda row: row[name],
            "CreationTime": lambda row: (row["CreationTime"], row[name]),
        }
        return page(select(rows, params, keys, name), params)

    def _tags(self, arn: str) -> dict[str, str]:
        kind, _, name = arn.rpartition(":")[2].partition("/")
        if arn == self._store.names.arn(kind, name):
            records = {"model": self._store.models, "endpoint-config": self._store.configs}.get(kind)
            known = name in records if records is not None else kind == "endpoint" and self._endpoint_exists(name)
            if known:
                return self._store.tags.setdefault(arn, {})
        raise ValidationException(f'Could not find resource "{arn}".')


def find_model(store: Store, name: str) -> Record:
    """Return a model, or raise as the service does."""
    with store.lock:
        if record := store.models.get(name.lower()):
            return record
    raise ValidationException(f'Could not find model "{store.names.arn("model", name)}".')


def find_config(store: Store, name: str) -> Record:
    """Return an endpoint configuration, or raise as the service does."""
    with store.lock:
        if record := store.configs.get(name.lower()):
            return record
    raise ValidationException(f'Could not find endpoint configuration "{store.names.arn("endpoint-config", name)}".')


def container_of(model: dict[str, Any]) -> dict[str, Any]:
    """Return the one container of a model."""
    containers = [model["PrimaryContainer"]] if "PrimaryContainer" in model else model.get("Containers", [])
    if "PrimaryContainer" in model and model.get("Containers"):
        raise ValidationException("PrimaryContainer and Containers cannot be given together.")
    if len(containers) != 1:
        raise ValidationException("A model needs exactly one container; inference pipelines are not served locally.")
    container: dict[str, Any] = containers[0]
    _refuse(container, "ModelPackageName", "MultiModelConfig", "AdditionalModelDataSources")
    if not container.get("Image"):
        raise ValidationException("The container of the model has no Image.")
    if container.get("Mode", "SingleModel") != "SingleModel":
        raise ValidationException("Multi-model containers are not served by the local SageMaker.")
    return container


def container_data_url(container: dict[str, Any]) -> str | None:
    """Return the S3 URI of the container's model.tar.gz, None of a container that needs none."""
    if source := container.get("ModelDataSource", {}).get("S3DataSource"):
        if (source["S3DataType"], source["CompressionType"]) != ("S3Object", "Gzip"):
            raise ValidationException("ModelDataSource: only an S3Object with Gzip compression is served locally.")
        return str(source["S3Uri"])
    return container.get("ModelDataUrl")


def _check_key(config: dict[str, Any], variants: list[dict[str, Any]]) -> None:
    for variant in variants:
        if config.get("KmsKeyId") and _LOCAL_DISKS.match(variant["InstanceType"]):
            raise ValidationException(
                f"KmsKeyId cannot be given for variant {variant['VariantName']}: instances of type "
                f"{variant['InstanceType']} have local storage, which is encrypted in hardware."
            )


def _check_capture(capture: dict[str, Any]) -> None:
    uri = capture.get("DestinationS3Uri", "s3://bucket")
    if not uri.startswith("s3://") or not uri.removeprefix("s3://").strip("/"):
        raise ValidationException(f"DestinationS3Uri {uri} must be of the form s3://BUCKET/PREFIX.")


def as_tags(tags: list[dict[str, str]]) -> dict[str, str]:
    """Return a request's tags as a dictionary."""
    return {tag["Key"]: tag["Value"] for tag in tags}


def _tag_list(tags: dict[str, str]) -> list[dict[str, str]]:
    return [{"Key": key, "Value": value} for key, value in sorted(tags.items())]


def _without(request: dict[str, Any], *keys: str) -> dict[str, Any]:
    return {key: value for key, value in request.items() if key not in keys}


def _described_container(value: Any) -> Any:
    if isinstance(value, list):
        return [_described_container(item) for item in value]
    return {"Mode": "SingleModel", "Environment": {}, **value}


def _refuse(params: dict[str, Any], *members: str) -> None:
    for member in members:
        if params.get(member):
            raise ValidationException(f"{member} is not served by the local SageMaker.")
