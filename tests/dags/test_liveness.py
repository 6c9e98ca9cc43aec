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
        assert (dag_id, run_id) == ("train__flights", "other")
        if isinstance(answer, int):
            raise AirflowRuntimeError(ErrorResponse(error=ErrorType.API_SERVER_ERROR, detail={"status_code": answer}))
        return str(answer)

    return SimpleNamespace(get_dagrun_state=state)


@pytest.mark.parametrize(
    ("answer", "live"), [("running", True), ("queued", True), ("failed", False), ("success", False), (404, False)]
)
def test_who_is_alive(answer: Any, live: bool) -> None:
    assert is_active(asking(answer), "train__flights/other") == live


@pytest.mark.parametrize("run_id", ["a/b", "manual__2026-01-01T00:00:00+00:00"])
def test_the_run_asked_about_is_the_owner_s_own(run_id: str) -> None:
    asked = []
    ti = SimpleNamespace(get_dagrun_state=lambda **run: asked.append(run) or "running")
    assert is_active(ti, f"train__iris/{run_id}")
    assert asked == [{"dag_id": "train__iris", "run_id": run_id}]


@pytest.mark.parametrize("owner", ["scheduled__2026-01-01T00:00:00+00:00", "manual__1", ""])
def test_an_owner_of_an_old_release_is_at_work_no_more_and_nobody_is_asked(owner: str) -> None:
    def refuse(**run: str) -> str:
        raise AssertionError(f"asked about {run}")

    assert is_active(SimpleNamespace(get_dagrun_state=refuse), owner) is False


def test_an_answer_that_says_nothing_about_life_is_an_error() -> None:
    from airflow.sdk.exceptions import AirflowRuntimeError

    with pytest.raises(AirflowRuntimeError):
        is_active(asking(500), "train__flights/other")
