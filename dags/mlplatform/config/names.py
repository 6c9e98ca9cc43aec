"""Names by which Airflow knows what belongs to a dataset: its DAGs and its pool."""

from __future__ import annotations

from typing import Literal, get_args

DagKind = Literal["train", "deploy", "rollback", "monitor"]
DEPLOYMENT_POOL = "deployment"
"""The pool of all tasks that put a model live or take it back, of every dataset: training cannot fill it."""


def dag_id(kind: DagKind | str, dataset: str) -> str:
    """Return the id of one of a dataset's DAGs."""
    return f"{kind}__{dataset}"


def dag_ids(dataset: str) -> list[str]:
    """Return the ids of all of a dataset's DAGs."""
    return [dag_id(kind, dataset) for kind in get_args(DagKind)]


def dataset_of(dag: str) -> str:
    """Return the dataset whose DAG this is, the DAG's own id if it is none's."""
    return dag.partition("__")[2] or dag


def owner_of_run(dag: str, run_id: str) -> str:
    """Return how documents name a DAG run: with its DAG, because runs of two datasets can have equal ids."""
    return f"{dag}/{run_id}"


def training_pool(dataset: str) -> str:
    """Return the pool that limits how many of a dataset's training pods there are at once."""
    return f"training__{dataset}"
