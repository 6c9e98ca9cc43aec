"""Start every task warm: load what tasks import once, in the process that they are forked from.

LocalExecutor's workers are forks of the scheduler, and each task is a fork of a worker; the DAG processor
forks for every file. What the parent has imported, they have too, in memory they share. Without this each
task of a pod spends its first seconds importing the Kubernetes client.

Airflow imports this module from ``$AIRFLOW_HOME/config`` in every process; only those that are parents of
many are told to preload. Code of this project is left out: an edit should reach the next task.
"""

from __future__ import annotations

import importlib
import os

__all__: list[str] = []  # no Airflow setting is overridden here

_MODULES = (
    "airflow.sdk",
    "airflow.sdk.execution_time.supervisor",
    "airflow.sdk.execution_time.task_runner",
    "airflow.providers.cncf.kubernetes.operators.pod",
    "airflow.providers.amazon.aws.sensors.s3",
    "airflow.providers.amazon.aws.triggers.s3",
    "airflow.providers.standard.operators.python",
    "airflow.providers.standard.operators.empty",
    "boto3",
    "yaml",
)


def _preload() -> None:
    # Removed, so that commands a task may start do not preload in their turn.
    if not os.environ.pop("ML_PLATFORM_PRELOAD", None):
        return
    for module in _MODULES:
        importlib.import_module(module)


_preload()
