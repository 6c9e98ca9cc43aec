from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from mlplatform.orchestration.dag_runs import is_active


def asking(answer: Any) -> Any:
    """Return a task instance whose question about a DAG run is answered so; a number is an HTTP error."""
    from airflow.sdk.exceptions import AirflowRuntimeError, ErrorType
    from airflow.sdk.execution_time.comms import ErrorResponse

    def state(dag_id: str, run_id: str) -> str:
        if isinstance(answer, int):
            raise AirflowRuntimeError(ErrorResponse(error=ErrorType.API_SERVER_ERROR, detail={"status_code": answer}))
        return str(answer)

    return SimpleNamespace(get_dagrun_state=state)


@pytest.mark.parametrize(
    ("answer", "live"), [("running", True), ("queued", True), ("failed", False), ("success", False), (404, False)]
)
def test_who_is_alive(answer: Any, live: bool) -> None:
    assert is_active(asking(answer), "train_model", "other") == live


def test_an_answer_that_says_nothing_about_life_is_an_error() -> None:
    from airflow.sdk.exceptions import AirflowRuntimeError

    with pytest.raises(AirflowRuntimeError):
        is_active(asking(500), "train_model", "other")
