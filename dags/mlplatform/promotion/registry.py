"""The model registry: versions, their files, their lineage as tags, and aliases.

What the DAGs, the trainer and the deployer ask of it. What MLflow's error codes mean is known here only.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from mlplatform.errors import NonRetryableError

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities.model_registry import ModelVersion
    from mlflow.exceptions import MlflowException

CHALLENGER = "challenger"
CHAMPION = "champion"
PREVIOUS = "previous"
# MLflow refuses longer tag values.
TAG_LIMIT = 5000
MODEL_TAGS = frozenset({"dataset", "owner"})
"""Tags of a version that its registered model has too, as the latest registration says."""


@dataclass(frozen=True)
class Version:
    """A version of a registered model.

    Attributes:
        run_id: of the run that it comes from.
        source: address of its files.
    """

    name: str
    version: str
    run_id: str
    source: str
    tags: Mapping[str, str]


@cache
def client(tracking_uri: str) -> MlflowClient:
    """Return the process's client of the tracking server and registry."""
    from mlflow import MlflowClient

    return MlflowClient(tracking_uri=tracking_uri, registry_uri=tracking_uri)


def register(
    tracking_uri: str,
    name: str,
    *,
    description: str,
    source: str,
    run_id: str,
    tags: Mapping[str, str],
) -> str:
    """Make a model version, or find the one made before for the same ``run_key`` and ``trial`` tags.

    Returns:
        The version's number, as MLflow writes it.
    """
    mlflow = client(tracking_uri)
    _ensure_model(mlflow, name, description)
    for key in MODEL_TAGS & tags.keys():
        mlflow.set_registered_model_tag(name, key, tags[key][:TAG_LIMIT])
    same = [f"tags.`{key}` = '{tags[key]}'" for key in ("run_key", "trial")]
    found = mlflow.search_model_versions(" and ".join([f"name = '{name}'", *same]), max_results=1)
    if found:
        version = str(found[0].version)
    else:
        made = mlflow.create_model_version(
            name,
            source=_resolve(mlflow, source),
            run_id=run_id,
            tags={key: value[:TAG_LIMIT] for key, value in tags.items()},
            description=description,
            model_id=source.rsplit("/", 1)[-1] if source.startswith("models:/m-") else None,
        )
        version = str(made.version)
    return version


def version_with_alias(tracking_uri: str, name: str, alias: str) -> str | None:
    """Return the number of the version an alias points to, None if there is no such model or alias."""
    found = _with_alias(tracking_uri, name, alias)
    return None if found is None else str(found.version)


def get_version_with_alias(tracking_uri: str, name: str, alias: str) -> Version | None:
    """Return what the registry knows of the version an alias points to, None if there is no such model or alias."""
    found = _with_alias(tracking_uri, name, alias)
    return None if found is None else _version(found)


def get_version(tracking_uri: str, name: str, version: str) -> Version:
    """Return what the registry knows of a model version.

    Raises:
        NonRetryableError: there is no such version.
    """
    from mlflow.exceptions import MlflowException

    try:
        found = client(tracking_uri).get_model_version(name, version)
    except MlflowException as error:
        if _is_missing(error, "version"):
            raise NonRetryableError(f"models:/{name}/{version}: no such version in the registry") from None
        raise
    return _version(found)


def tagged_versions(tracking_uri: str, name: str, key: str, value: str) -> list[str]:
    """Return the numbers of the versions that have a tag of this value."""
    found = client(tracking_uri).search_model_versions(f"name = '{name}' and tags.`{key}` = '{value}'")
    return [str(version.version) for version in found]


def tag_version(tracking_uri: str, name: str, version: str, tags: Mapping[str, str]) -> None:
    """Set tags on a model version."""
    for key, value in tags.items():
        client(tracking_uri).set_model_version_tag(name, version, key, value[:TAG_LIMIT])


def set_alias(tracking_uri: str, name: str, alias: str, version: str) -> None:
    """Let an alias point to a version, wherever it pointed before."""
    client(tracking_uri).set_registered_model_alias(name, alias, version)


def delete_alias(tracking_uri: str, name: str, alias: str) -> None:
    """Remove an alias; one that is not set is no error."""
    client(tracking_uri).delete_registered_model_alias(name, alias)


def download(tracking_uri: str, source: str, folder: Path) -> Path:
    """Copy a version's files, or a folder of them, into a folder on disk, and return where they are.

    Args:
        source: `Version.source`, or an address below it.
    """
    from mlflow.artifacts import download_artifacts

    return Path(download_artifacts(artifact_uri=source, dst_path=str(folder), tracking_uri=tracking_uri))


def page(tracking_uri: str, name: str, version: str) -> str:
    """Return the address of a model version's page."""
    return f"{tracking_uri.rstrip('/')}/#/models/{name}/versions/{version}"


def _with_alias(tracking_uri: str, name: str, alias: str) -> ModelVersion | None:
    from mlflow.exceptions import MlflowException

    try:
        return client(tracking_uri).get_model_version_by_alias(name, alias)
    except MlflowException as error:
        if _is_missing(error, "alias"):
            return None
        raise


def _is_missing(error: MlflowException, what: str) -> bool:
    """Tell whether MLflow says that there is no such model, version or alias.

    The first is RESOURCE_DOES_NOT_EXIST. An alias that is not set, and a version that is no number, are
    INVALID_PARAMETER_VALUE as is much else, so its message has to name what is meant.
    """
    code = error.error_code
    return code == "RESOURCE_DOES_NOT_EXIST" or (code == "INVALID_PARAMETER_VALUE" and what in str(error).lower())


def _version(found: ModelVersion) -> Version:
    return Version(
        name=found.name,
        version=str(found.version),
        run_id=str(found.run_id or ""),
        source=str(found.source),
        tags=dict(found.tags),
    )


def _ensure_model(mlflow: MlflowClient, name: str, description: str) -> None:
    from mlflow.exceptions import MlflowException

    try:
        mlflow.create_registered_model(name, description=description)
    except MlflowException as error:
        if error.error_code != "RESOURCE_ALREADY_EXISTS":
            raise


def _resolve(mlflow: MlflowClient, source: str) -> str:
    """Return where the artifacts really are: a version's source must not depend on a run's address."""
    if source.startswith("runs:/"):
        run_id, _, path = source.removeprefix("runs:/").partition("/")
        return f"{mlflow.get_run(run_id).info.artifact_uri}/{path}".rstrip("/")
    if source.startswith("models:/m-"):
        location = mlflow.get_logged_model(source.rsplit("/", 1)[-1]).artifact_location
        return str(location)
    return source
