"""For which datasets a DAG file makes its DAGs."""

from __future__ import annotations

from collections.abc import Iterator

from airflow.sdk import get_parsing_context

from mlplatform.config.loading import Dataset, load_dataset, load_settings, model_names
from mlplatform.config.names import dag_id
from mlplatform.errors import ConfigError


def to_make(kind: str) -> Iterator[Dataset]:
    """Return the datasets whose DAG of this kind is wanted: in a task's process only its own, else all.

    A dataset whose file is refused has no DAGs; ``refused_datasets.py`` says so, and all others have theirs.

    Raises:
        ConfigError: the environment's own settings are refused, or the dataset whose task this process runs.
    """
    load_settings()
    wanted = get_parsing_context().dag_id
    for name in model_names():
        if wanted is not None and wanted != dag_id(kind, name):
            continue
        try:
            dataset = load_dataset(name)
        except ConfigError:
            if wanted is not None:
                raise
            continue
        if dataset.enabled:
            yield dataset


def refusals() -> list[str]:
    """Return what is wrong with the datasets' files, a line for each mistake.

    Raises:
        ConfigError: the environment's own settings are refused.
    """
    load_settings()  # of these, one mistake is one line
    found: list[str] = []
    for name in model_names():
        try:
            load_dataset(name)
        except ConfigError as error:
            found.append(str(error))
    return list(dict.fromkeys(found))
