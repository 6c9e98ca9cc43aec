"""What happens when a task or a run fails: it is written down and people are told.

Callbacks run after the fact, some of them in the DAG processor with little context, and must never raise.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from functools import wraps
from typing import Any
from urllib.parse import quote

from mlplatform.config.environment import Settings
from mlplatform.config.loading import load_dataset, load_settings
from mlplatform.config.names import dataset_of, owner_of_run
from mlplatform.documents.paths import RunPaths
from mlplatform.documents.run import FailureNote
from mlplatform.errors import ConfigError
from mlplatform.ingest import claims, turns
from mlplatform.orchestration import notifications
from mlplatform.people import messages
from mlplatform.training import tracking

log = logging.getLogger(__name__)
_MESSAGE_LIMIT = 4000
DEPLOYMENT_STEPS = ("deployment.verify_approval", "deployment.deploy")
"""Tasks whose failure is told by another task."""


def _never_raises(callback: Callable[[Mapping[str, Any]], None]) -> Callable[[Mapping[str, Any]], None]:
    @wraps(callback)
    def guarded(context: Mapping[str, Any]) -> None:
        try:
            callback(context)
        except Exception:
            log.exception("%s failed; the run itself is not affected", callback.__name__)

    return guarded


@_never_raises
def task_failed(context: Mapping[str, Any]) -> None:
    """Keep why a task failed for good; the run's own callback does not know it."""
    instance = context["ti"]
    owner = owner_of_run(instance.dag_id, context["run_id"])
    paths = claims.paths_of_owner(load_settings().buckets.data, owner)
    if paths is None:  # failed before it claimed a run
        return
    claims.note_failure(paths, _note(instance, context))


@_never_raises
def run_failed(context: Mapping[str, Any]) -> None:
    """Mark the run's record as failed and tell people which task it was, and why."""
    run_id, dag_id = context["run_id"], context["dag"].dag_id
    dataset, owner = dataset_of(dag_id), owner_of_run(dag_id, run_id)
    settings = _settings_of(dataset)
    turns.give_back(settings.buckets.data, dataset, owner)
    paths = claims.paths_of_owner(settings.buckets.data, owner)
    task, reason, log_url = _what_airflow_says(context)
    record = None
    if paths is not None:
        note = claims.root_cause(claims.failures(paths))
        if note is not None:
            task, reason, log_url = note.task, note.message, note.log_url
        record = claims.finish(paths, owner, state="failed", failed_task=task, reasons=[reason])
        claims.clear_failures(paths)
    notifications.send(settings, messages.failed(dataset, run_id, task, reason, log_url, dag_id))
    if record is not None:
        # Last: the tracking server may be what failed, and its client is patient.
        key = record.run_key
        if tracking.close_search(settings.mlflow.tracking_uri, dataset, key, "FAILED", tags={"failure": reason}):
            log.info("the MLflow run of the search %s was closed as failed", key)


@_never_raises
def deployment_task_failed(context: Mapping[str, Any]) -> None:
    """Keep why a task that deploys, rolls back or monitors failed for good."""
    instance = context["ti"]
    claims.note_failure(
        _notes_of_deployments(load_settings(), instance.dag_id, context["run_id"]), _note(instance, context)
    )


@_never_raises
def deployment_run_failed(context: Mapping[str, Any]) -> None:
    """Tell people of a run that failed before there was a deployment, or after it.

    What fails within a deployment is told by its own task ``tell_failure``, which knows what it was about.
    """
    run_id, dag_id = context["run_id"], context["dag"].dag_id
    dataset = dataset_of(dag_id)
    settings = _settings_of(dataset)
    paths = _notes_of_deployments(settings, dag_id, run_id)
    notes = claims.failures(paths)
    untold = [note for note in notes if not note.task.startswith(DEPLOYMENT_STEPS)]
    claims.clear_failures(paths)
    if notes and not untold:
        return
    task, reason, log_url = _what_airflow_says(context)
    if untold:
        task, reason, log_url = untold[0].task, untold[0].message, untold[0].log_url
    notifications.send(settings, messages.failed(dataset, run_id, task, reason, log_url, dag_id))


def _settings_of(dataset: str) -> Settings:
    """Return a dataset's settings, or the environment's if its file was broken since: people are told all the same."""
    try:
        return load_dataset(dataset).settings
    except ConfigError:
        return load_settings()


def _notes_of_deployments(settings: Settings, dag_id: str, run_id: str) -> RunPaths:
    return RunPaths(f"s3://{settings.buckets.data}/deployments/_runs/{dag_id}/{quote(run_id, safe='')}")


def _note(instance: Any, context: Mapping[str, Any]) -> FailureNote:
    index = getattr(instance, "map_index", -1)
    return FailureNote(
        task=instance.task_id if index is None or index < 0 else f"{instance.task_id}[{index}]",
        message=str(context.get("exception") or "the task's process ended without a reason")[:_MESSAGE_LIMIT],
        log_url=getattr(instance, "log_url", None),
        at=datetime.now(UTC),
    )


def _what_airflow_says(context: Mapping[str, Any]) -> tuple[str | None, str, str | None]:
    """Return task, reason and log as far as Airflow knows them."""
    instance = context.get("ti")
    reason = f"Airflow says: {context.get('reason') or 'no reason'}"
    return getattr(instance, "task_id", None), reason, getattr(instance, "log_url", None)
