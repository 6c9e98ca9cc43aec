"""What the tasks of every DAG have in common."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import timedelta
from typing import Any

from mlplatform.config.environment import Settings

TASK_MINUTES = 15
"""Longest time of a task that runs in Airflow itself; a step's pod has the step's own."""


def default_args(settings: Settings, on_failure: Callable[[Mapping[str, Any]], None]) -> dict[str, Any]:
    """Return a DAG's ``default_args``.

    Args:
        settings: of the environment.
        on_failure: called when a task has failed for good.
    """
    return {
        "owner": settings.orchestration.owner,
        "retries": settings.orchestration.retries,
        "retry_delay": timedelta(seconds=settings.orchestration.retry_delay_seconds),
        "execution_timeout": timedelta(minutes=TASK_MINUTES),
        "on_failure_callback": on_failure,
    }
