"""What happens when a task or a run fails: it is written down and people are told. No Airflow import.

Callbacks run after the fact, some of them in the DAG processor with little context, and must never raise.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from functools import wraps
from typing import Any

from mlplatform import notifications, runs, tracking
from mlplatform.config import load_settings

log = logging.getLogger(__name__)

_MESSAGE_LIMIT = 4000


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
    paths = runs.paths_of_owner(load_settings().buckets.data, context["run_id"])
    if paths is None:  # failed before it claimed a run
        return
    index = getattr(instance, "map_index", -1)
    note = runs.FailureNote(
        task=instance.task_id if index is None or index < 0 else f"{instance.task_id}[{index}]",
        message=str(context.get("exception") or "the task's process ended without a reason")[:_MESSAGE_LIMIT],
        log_url=getattr(instance, "log_url", None),
        at=datetime.now(UTC),
    )
    runs.note_failure(paths, note)


@_never_raises
def run_failed(context: Mapping[str, Any]) -> None:
    """Mark the run's record as failed and tell people which task it was, and why."""
    settings = load_settings()
    run_id = context["run_id"]
    paths = runs.paths_of_owner(settings.buckets.data, run_id)
    dataset = (context.get("params") or {}).get("dataset") or settings.training.dataset
    reason = f"Airflow says: {context.get('reason') or 'no reason'}"
    instance = context.get("ti")
    task = getattr(instance, "task_id", None)
    log_url = getattr(instance, "log_url", None)
    record = None
    if paths is not None:
        note = runs.culprit(runs.failures(paths))
        if note is not None:
            task, reason, log_url = note.task, note.message, note.log_url
        record = runs.finish(paths, run_id, state="failed", failed_task=task, reasons=[reason])
        dataset = record.dataset if record else dataset
        runs.clear_failures(paths)
    notifications.send(settings, notifications.failed(dataset, run_id, task, reason, log_url))
    if record is not None:
        # Last: the tracking server may be what failed, and its client is patient.
        key = record.run_key
        if tracking.close_search(settings.mlflow.tracking_uri, dataset, key, "FAILED", tags={"failure": reason}):
            log.info("the MLflow run of the search %s was closed as failed", key)
