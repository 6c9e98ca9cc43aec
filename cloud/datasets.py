"""Which datasets an environment has, and their DAGs, by what the configuration says."""

from __future__ import annotations

from typing import Any

from cloud.environments import Environment
from cloud.errors import CloudError
from local.platform.home import use_dag_library

use_dag_library()

from mlplatform.config.loading import enabled_datasets, model_names, serving_settings, starts_paused  # noqa: E402
from mlplatform.config.names import dag_id, dag_ids  # noqa: E402
from mlplatform.config.pools import Pool  # noqa: E402
from mlplatform.errors import ConfigError  # noqa: E402

__all__ = ["Pool", "configured", "dag_id", "dag_ids", "enabled", "serving", "starting_paused"]


def configured(environment: Environment) -> list[str]:
    """Return all datasets that have a file, also those without DAGs in an environment, sorted."""
    return model_names(environment.root)


def enabled(environment: Environment) -> list[str]:
    """Return the datasets that have DAGs in an environment, sorted.

    Raises:
        CloudError: a dataset's file is refused.
    """
    try:
        return enabled_datasets(environment.name, environment.root)
    except ConfigError as error:
        raise CloudError(str(error)) from None


def starting_paused(environment: Environment) -> list[str]:
    """Return the datasets with DAGs in an environment that start paused there, by the configuration, sorted.

    Raises:
        CloudError: a file of the configuration is refused.
    """
    datasets = enabled(environment)
    try:
        return [name for name in datasets if starts_paused(name, environment.name, environment.root)]
    except ConfigError as error:
        raise CloudError(str(error)) from None


def serving(environment: Environment, dataset: str) -> dict[str, Any]:
    """Return what the files say of a dataset's endpoint in an environment.

    Raises:
        CloudError: a file is refused.
    """
    try:
        return serving_settings(dataset, environment.name, environment.root)
    except ConfigError as error:
        raise CloudError(str(error)) from None
