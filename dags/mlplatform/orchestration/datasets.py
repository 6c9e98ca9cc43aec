"""For which datasets a DAG file makes its DAGs."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

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
    if wanted is None:
        found: Iterable[Dataset | ConfigError] = _all()
    else:
        found = [load_dataset(name) for name in model_names() if wanted == dag_id(kind, name)]
    for one in found:
        if isinstance(one, Dataset) and one.enabled:
            yield one


def refusals() -> list[str]:
    """Return what is wrong with the datasets' files, a line for each mistake.

    Raises:
        ConfigError: the environment's own settings are refused.
    """
    load_settings()  # of these, one mistake is one line
    return list(dict.fromkeys(str(one) for one in _all() if isinstance(one, ConfigError)))


def _all() -> Iterator[Dataset | ConfigError]:
    """Return each dataset, or why it is refused: its file, or what it shares with one before it."""
    registered: dict[str, str] = {}
    for name in model_names():
        try:
            dataset = load_dataset(name)
        except ConfigError as error:
            yield error
            continue
        model = dataset.model.registered_model
        if (other := registered.setdefault(model, name)) != name:
            yield ConfigError(
                f"config/models/{name}.yaml: registered_model: {model!r} is that of {other} already; with one "
                "for both, each would be compared with the other's champion and go back to its versions"
            )
            continue
        yield dataset
