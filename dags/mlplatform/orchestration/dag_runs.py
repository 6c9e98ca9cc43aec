"""Whether another DAG run is still at work."""

from __future__ import annotations

from typing import Any


def is_active(ti: Any, dag_id: str, run_id: str) -> bool:
    """Tell whether a DAG run is queued or running; one that is not there any more is not.

    Args:
        ti: the asking task instance, which reaches Airflow's API.
        dag_id: of the DAG asked about.
        run_id: of the DAG run asked about.
    """
    from airflow.sdk.exceptions import AirflowRuntimeError

    try:
        return ti.get_dagrun_state(dag_id=dag_id, run_id=run_id) in ("queued", "running")
    except AirflowRuntimeError as error:
        if (error.error.detail or {}).get("status_code") == 404:
            return False
        raise
