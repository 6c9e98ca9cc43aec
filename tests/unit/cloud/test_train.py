from __future__ import annotations

from collections.abc import Callable
from typing import Any

import botocore.exceptions
import httpx
import pytest

from cloud.airflow_api import MwaaTransport
from cloud.datasets import dag_ids
from cloud.environments import Environment
from cloud.errors import CloudError
from cloud.train import follow, train
from local.pipeline.airflow_client import AirflowClient

Answer = tuple[int, Any]


class Mwaa:
    """`InvokeRestApi` as MWAA has it: Airflow's refusals come as an error of the client."""

    def __init__(self, answer: Callable[[dict[str, Any]], Answer]) -> None:
        self.answer = answer
        self.calls: list[dict[str, Any]] = []

    def get_environment(self, Name: str) -> dict[str, Any]:
        return {"Environment": {"Name": Name, "WebserverAccessMode": "PUBLIC_ONLY"}}

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


class Airflow:
    """An environment whose Airflow has some DAGs paused, and in which every run succeeds at once."""

    def __init__(self, *paused: str) -> None:
        self.dags = {name: name in paused for name in (*dag_ids("flights"), "train__iris", "deploy__iris")}
        self.started: list[str] = []

    def answer(self, call: dict[str, Any]) -> Answer:
        match call["Method"], call["Path"].strip("/").split("/"):
            case "GET", ["dags"]:
                dags = [{"dag_id": name, "is_paused": paused} for name, paused in self.dags.items()]
                return 200, {"dags": dags, "total_entries": len(dags)}
            case "PATCH", ["dags", name]:
                self.dags[name] = call["Body"]["is_paused"]
                return 200, {}
            case "POST", ["dags", name, "dagRuns"]:
                assert not self.dags[name], "it would stay queued"
                self.started.append(name)
                return 200, {}
            case "GET", [*_, "taskInstances"]:
                return 200, {"task_instances": [], "total_entries": 0}
        return 200, {"state": "success"}


@pytest.fixture
def train_in(monkeypatch: pytest.MonkeyPatch) -> Callable[..., list[str]]:
    """Return a function that trains flights in an environment with such an Airflow and returns what was said."""

    def run(airflow: Airflow, month: int | None = None, *, unpause: bool = False) -> list[str]:
        environment, said = Environment("dev"), list[str]()
        outputs = {"airflow_environment": "env", "endpoint_names": {}}
        monkeypatch.setitem(environment.__dict__, "outputs", outputs)
        mwaa = Mwaa(airflow.answer)
        monkeypatch.setattr(environment, "client", {"mwaa": mwaa}.__getitem__)  # of nothing else: S3 is not asked
        train(environment, "flights", month, said.append, unpause=unpause, poll_seconds=0)
        return said

    return run


def test_a_paused_training_is_refused_before_anything_is_landed(train_in: Callable[..., list[str]]) -> None:
    airflow = Airflow("train__flights", "deploy__flights")
    with pytest.raises(CloudError) as refused:
        train_in(airflow, month=1)
    assert str(refused.value) == (
        "train__flights is paused, so the run would stay queued: unpause it in Airflow, or add UNPAUSE=1, which "
        "unpauses deploy__flights too; nothing was landed or started"
    )
    assert (airflow.started, airflow.dags["train__flights"]) == ([], True)


def test_training_and_deployment_are_unpaused_when_asked_and_no_others(train_in: Callable[..., list[str]]) -> None:
    airflow = Airflow("train__flights", "deploy__flights", "monitor__flights", "deploy__iris")
    said = train_in(airflow, unpause=True)
    assert said[:2] == ["unpaused train__flights", "unpaused deploy__flights"]
    assert [name for name, paused in airflow.dags.items() if paused] == ["monitor__flights", "deploy__iris"]
    assert airflow.started == ["train__flights"]


def test_a_paused_deployment_is_told_before_the_run(train_in: Callable[..., list[str]]) -> None:
    airflow = Airflow("deploy__flights", "train__iris")
    first, second, *_ = train_in(airflow)
    assert first.startswith("warning: deploy__flights is paused: unpause it before the model is approved, or it is not")
    assert second.startswith("started by-hand-")
    assert airflow.dags["deploy__flights"], "nobody asked for more"


def test_nothing_is_said_where_nothing_is_paused(train_in: Callable[..., list[str]]) -> None:
    first, *_ = train_in(Airflow("deploy__iris", "train__iris"))
    assert first.startswith("started by-hand-")


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
