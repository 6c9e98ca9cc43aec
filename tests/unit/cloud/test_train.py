from __future__ import annotations

from collections.abc import Callable
from typing import Any

import botocore.exceptions
import httpx
import pytest

from cloud.environments import Environment
from cloud.errors import CloudError
from cloud.train import MwaaTransport, follow, train
from local.pipeline.airflow_client import AirflowClient

Answer = tuple[int, Any]


class Mwaa:
    """`InvokeRestApi` as MWAA has it: Airflow's refusals come as an error of the client."""

    def __init__(self, answer: Callable[[dict[str, Any]], Answer]) -> None:
        self.answer = answer
        self.calls: list[dict[str, Any]] = []

    def invoke_rest_api(self, **call: Any) -> dict[str, Any]:
        self.calls.append(call)
        status, content = self.answer(call)
        answer = {"RestApiStatusCode": status, "RestApiResponse": content}
        if status >= 400:
            error = {"Error": {"Code": "RestApiClientException", "Message": ""}, **answer}
            raise botocore.exceptions.ClientError(error, "InvokeRestApi")  # type: ignore[arg-type]
        return answer


def client(mwaa: Mwaa) -> AirflowClient:
    return AirflowClient(httpx.Client(transport=MwaaTransport(mwaa, "env"), base_url="https://mwaa.invalid"))


def run(states: list[str], task_state: str = "success") -> Mwaa:
    """A run that goes through the given states, with one task."""
    task = {
        "task_id": "data.validate",
        "map_index": -1,
        "state": task_state,
        "try_number": 1,
        "start_date": "2026-11-01T00:00:00Z",
        "end_date": "2026-11-01T00:00:05Z",
        "operator": "StepPodOperator",
    }

    def answer(call: dict[str, Any]) -> Answer:
        if call["Path"].endswith("/taskInstances"):
            return 200, {"task_instances": [task], "total_entries": 1}
        return 200, {"state": states.pop(0) if len(states) > 1 else states[0]}

    return Mwaa(answer)


def test_requests_go_as_mwaa_wants_them() -> None:
    mwaa = Mwaa(lambda _: (200, {}))
    client(mwaa).trigger("train__flights", "r1", {"trials": 2})
    assert mwaa.calls == [
        {
            "Name": "env",
            "Method": "POST",
            "Path": "/dags/train__flights/dagRuns",
            "Body": {"dag_run_id": "r1", "logical_date": None, "conf": {"trials": 2}},
        }
    ]


def test_airflows_refusal_keeps_its_status_and_words() -> None:
    with pytest.raises(httpx.HTTPStatusError) as refused:
        client(Mwaa(lambda _: (409, {"detail": "taken"}))).trigger("train__flights", "r1", {})
    assert refused.value.response.status_code == 409
    assert "taken" in refused.value.response.text


def test_a_refusal_by_aws_itself_is_not_hidden() -> None:
    def denied(_: dict[str, Any]) -> Answer:
        raise botocore.exceptions.ClientError({"Error": {"Code": "AccessDeniedException"}}, "InvokeRestApi")

    with pytest.raises(botocore.exceptions.ClientError, match="AccessDenied"):
        client(Mwaa(denied)).run("train__flights", "r1")


def test_a_run_is_followed_to_its_end() -> None:
    said: list[str] = []
    mwaa = run(["running", "running", "success"])
    follow(client(mwaa), "train__flights", "r1", said.append, poll_seconds=0)
    assert said == ["data.validate: success, 5 s", "run r1 succeeded"]
    assert {"limit": "100", "offset": "0"} in [call.get("QueryParameters") for call in mwaa.calls]


def test_a_run_that_fails_names_the_tasks() -> None:
    with pytest.raises(CloudError, match=r"ended as failed: see the log of data\.validate"):
        follow(client(run(["failed"], "failed")), "train__flights", "r1", lambda _: None, poll_seconds=0)


@pytest.mark.parametrize(
    ("dataset", "month", "named"),
    [
        ("moons", None, r"DATASET=moons has no DAGs in dev: choose from .*flights"),
        ("iris", 1, r"MONTH=1 lands flights, not iris"),
    ],
)
def test_a_choice_that_does_not_exist_starts_nothing(dataset: str, month: int | None, named: str) -> None:
    with pytest.raises(CloudError, match=named):
        train(Environment("dev"), dataset, month, lambda _: None)
