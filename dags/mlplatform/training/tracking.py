"""The MLflow run that the runs of a search are nested in."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Literal

from mlplatform.errors import NonRetryableError
from mlplatform.promotion.registry import TAG_LIMIT, client

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run

KIND = "search"
"""Value of the tag ``kind`` of such a run; a trial's has none."""


def open_search(
    tracking_uri: str, experiment: str, run_key: str, tags: Mapping[str, str], params: Mapping[str, str]
) -> str:
    """Make the MLflow run of a search, or take up the one that was made before, and return its id.

    Args:
        tracking_uri: of the tracking server.
        experiment: name of the experiment, made if need be; the trials' runs are in it too.
        run_key: of the pipeline's run; there is one search of it, however often it is tried.
        tags: of a new run, besides those it is found by.
        params: what was searched, and how.

    Raises:
        NonRetryableError: the experiment was deleted.
    """
    from mlflow.entities import Param

    mlflow = client(tracking_uri)
    experiment_id = ensure_experiment(mlflow, experiment)
    found = _find(mlflow, experiment_id, run_key)
    if found is None:
        own = {**tags, "run_key": run_key, "kind": KIND}
        found = mlflow.create_run(experiment_id, tags=own, run_name=f"search-{run_key}")
    else:
        mlflow.update_run(found.info.run_id, status="RUNNING")
    mlflow.log_batch(found.info.run_id, params=[Param(key, value) for key, value in params.items()])
    return str(found.info.run_id)


def close_search(
    tracking_uri: str,
    experiment: str,
    run_key: str,
    status: Literal["FINISHED", "FAILED"],
    metrics: Mapping[str, float] | None = None,
    tags: Mapping[str, str] | None = None,
) -> bool:
    """End the MLflow run of a search.

    Args:
        tracking_uri: of the tracking server.
        experiment: name of the experiment.
        run_key: of the pipeline's run.
        status: how it ended. A search that is over does not fail for what failed after it.
        metrics: of the best trial, and of the search.
        tags: to be set.

    Returns:
        Whether there was one to end.
    """
    mlflow = client(tracking_uri)
    known = mlflow.get_experiment_by_name(experiment)
    found = _find(mlflow, known.experiment_id, run_key) if known is not None else None
    if found is None or (status == "FAILED" and found.info.status != "RUNNING"):
        return False
    run_id = found.info.run_id
    for key, value in (metrics or {}).items():
        mlflow.log_metric(run_id, key, value)
    for key, text in (tags or {}).items():
        mlflow.set_tag(run_id, key, text[:TAG_LIMIT])
    mlflow.set_terminated(run_id, status)
    return True


def _find(mlflow: MlflowClient, experiment_id: str, run_key: str) -> Run | None:
    query = f"tags.run_key = '{run_key}' and tags.kind = '{KIND}'"
    # The first one, should two have been made at once.
    found = mlflow.search_runs([experiment_id], query, max_results=1, order_by=["attributes.start_time ASC"])
    return found[0] if found else None


def ensure_experiment(mlflow: MlflowClient, name: str) -> str:
    """Return an experiment's id, making it if need be; several that start together may all try.

    Raises:
        NonRetryableError: it was deleted.
    """
    from mlflow.exceptions import MlflowException

    found = mlflow.get_experiment_by_name(name)
    if found is None:
        try:
            return str(mlflow.create_experiment(name))
        except MlflowException as error:
            if error.error_code != "RESOURCE_ALREADY_EXISTS":
                raise
        found = mlflow.get_experiment_by_name(name)
    if found is None or found.lifecycle_stage != "active":
        raise NonRetryableError(f"MLflow experiment {name!r} is deleted; restore it", kind="bad-config")
    return str(found.experiment_id)
