"""What the tasks of every DAG have in common."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from copy import deepcopy
from datetime import timedelta
from typing import Any

from airflow.sdk import DAG, Param

from mlplatform.config.loading import Dataset
from mlplatform.names import shortened

TASK_MINUTES = 15
"""Longest time of a task that runs in Airflow itself; a step's pod has the step's own."""
TAG_LENGTH = 100
"""Longest tag that Airflow takes."""


def default_args(dataset: Dataset, on_failure: Callable[[Mapping[str, Any]], None]) -> dict[str, Any]:
    """Return a DAG's ``default_args``.

    Args:
        dataset: whose tasks they are.
        on_failure: called when a task has failed for good.
    """
    orchestration = dataset.settings.orchestration
    return {
        "owner": dataset.model.owner,
        "retries": orchestration.retries,
        "retry_delay": timedelta(seconds=orchestration.retry_delay_seconds),
        "execution_timeout": timedelta(minutes=TASK_MINUTES),
        "on_failure_callback": on_failure,
    }


def dag_options(dataset: Dataset, subject: str) -> dict[str, Any]:
    """Return the arguments that all DAGs of a dataset have in common.

    Args:
        dataset: whose DAG it is.
        subject: what the DAG is about, for a tag.
    """
    orchestration = dataset.settings.orchestration
    tags = [dataset.name, shortened(dataset.model.owner, TAG_LENGTH), *orchestration.tags]
    return {
        "catchup": False,
        "tags": list(dict.fromkeys(["ml-platform", subject, dataset.settings.environment, *tags])),
        # Said here, as MWAA has new DAGs start paused: then the first approval's event would be lost.
        "is_paused_upon_creation": orchestration.start_paused,
    }


def give_params(dag: DAG, params: Mapping[str, Param]) -> None:
    """Give a DAG that has its tasks the parameters of its runs.

    A DAG that has parameters before it has tasks copies them into each, and Airflow checks each copy's JSON schema when
    it parses the file: with many datasets that is most of the work. A run's tasks are given the DAG's in any case.
    """
    dag.params = deepcopy(dict(params))  # a value that one run gives them is no other DAG's
