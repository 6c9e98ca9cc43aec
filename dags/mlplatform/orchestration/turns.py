"""At work on a dataset is one training run at a time; see `mlplatform.ingest.turns`."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from airflow.sdk.exceptions import AirflowException

from mlplatform.config.loading import Dataset
from mlplatform.config.names import owner_of_run
from mlplatform.ingest import turns
from mlplatform.orchestration.dag_runs import is_active


def whose_turn(dataset: Dataset, ti: Any, run_id: str) -> str | None:
    """Take a run's turn, and return None, or return whose turn it is."""
    owner = owner_of_run(ti.dag_id, run_id)
    return turns.take(dataset.settings.buckets.data, dataset.name, owner, partial(is_active, ti))


def give_back(dataset: Dataset, dag_id: str, run_id: str) -> None:
    """Let another run work."""
    turns.give_back(dataset.settings.buckets.data, dataset.name, owner_of_run(dag_id, run_id))


def in_turn(dataset: Dataset) -> Callable[[Any], None]:
    """Return what a task does before it works: it makes sure that it is its run's turn.

    It nearly always is, because the run has waited for it. A run some of whose tasks were cleared may have to wait
    again, and other tasks than a sensor can only be tried again.
    """

    def make_sure(context: Any) -> None:
        if holder := whose_turn(dataset, context["ti"], context["run_id"]):
            raise AirflowException(
                f"{dataset.name}: at work is {holder}, and it is one run at a time. Clear ingest.take_turn and all "
                "after it to wait for this run's turn; what has a result is not done again"
            )

    return make_sure
