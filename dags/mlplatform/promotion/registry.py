"""The model registry: versions, their lineage as tags, and aliases."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING

from mlplatform.errors import NonRetryableError

if TYPE_CHECKING:
    from mlflow import MlflowClient

CHALLENGER = "challenger"
CHAMPION = "champion"
PREVIOUS = "previous"
# MLflow refuses longer tag values.
TAG_LIMIT = 5000


@dataclass(frozen=True)
class Version:
    """A model version: the run it comes from, and its tags."""

    version: str
    run_id: str
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
    mlflow.set_registered_model_alias(name, CHALLENGER, version)
    return version


def version_with_alias(tracking_uri: str, name: str, alias: str) -> str | None:
    """Return the version an alias points to, None if there is no such model or alias."""
    from mlflow.exceptions import MlflowException

    try:
        return str(client(tracking_uri).get_model_version_by_alias(name, alias).version)
    except MlflowException as error:
        # An alias that is not set is INVALID_PARAMETER_VALUE, a model that does not exist the other one.
        if error.error_code in ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"):
            return None
        raise


def get_version(tracking_uri: str, name: str, version: str) -> Version:
    """Return what the registry knows of a model version.

    Raises:
        NonRetryableError: there is no such version.
    """
    from mlflow.exceptions import MlflowException

    try:
        found = client(tracking_uri).get_model_version(name, version)
    except MlflowException as error:
        if error.error_code in ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"):
            raise NonRetryableError(f"models:/{name}/{version}: no such version in the registry") from None
        raise
    return Version(version=str(found.version), run_id=str(found.run_id or ""), tags=dict(found.tags))


def tag_version(tracking_uri: str, name: str, version: str, tags: Mapping[str, str]) -> None:
    """Set tags on a model version."""
    for key, value in tags.items():
        client(tracking_uri).set_model_version_tag(name, version, key, value[:TAG_LIMIT])


def page(tracking_uri: str, name: str, version: str) -> str:
    """Return the address of a model version's page."""
    return f"{tracking_uri.rstrip('/')}/#/models/{name}/versions/{version}"


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
