"""Whether another DAG run is still at work."""

from __future__ import annotations

from typing import Any


def is_active(ti: Any, owner: str) -> bool:
    """Tell whether a DAG run is queued or running; one that is not there any more is not.

    Args:
        ti: the asking task instance, which reaches Airflow's API.
        owner: ``<DAG>/<run>`` of the run asked about. One without its DAG is of release 0.1.0, whose DAGs are gone:
            nobody runs its tasks any more, whatever state it was left in.
    """
    from airflow.sdk.exceptions import AirflowRuntimeError

    dag_id, named, run_id = owner.partition("/")
    if not named:
        return False
    try:
        return ti.get_dagrun_state(dag_id=dag_id, run_id=run_id) in ("queued", "running")
    except AirflowRuntimeError as error:
        if (error.error.detail or {}).get("status_code") == 404:
            return False
        raise
