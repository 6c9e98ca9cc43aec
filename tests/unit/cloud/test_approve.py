"""`make approve`: the question it answers, in whose name, and what it refuses."""

from __future__ import annotations

from typing import Any

import botocore.exceptions
import pytest

from cloud.approve import TASK, answer
from cloud.environments import Environment
from cloud.errors import CloudError

ARN = "arn:aws:sts::123456789012:assumed-role/MlApprovers/jane"
DAG = "train__flights"


def question(run: str, dag: str = DAG, state: str = "deferred", task: str = TASK) -> dict[str, Any]:
    return {
        "task_instance": {"dag_id": dag, "dag_run_id": run, "task_id": task, "state": state},
        "subject": f"May {run} go live?",
        "body": "roc_auc is 0.05 better",
        "options": ["Approve", "Reject"],
        "response_received": False,
    }


class Aws:
    """An account whose Airflow takes answers as Airflow 3.2 does, behind `InvokeRestApi`."""

    def __init__(self, *questions: dict[str, Any]) -> None:
        self.questions = list(questions)
        self.answers: dict[str, dict[str, Any]] = {}
        self.refusal: tuple[int, str] | None = None
        self.denied = ""
        self.mode = "PUBLIC_ONLY"

    def client(self, service: str) -> Any:
        assert service in ("mwaa", "sts", "ec2"), "who approves may have no other right, least to Terraform's state"
        return self

    def get_caller_identity(self) -> dict[str, str]:
        return {"Arn": ARN}

    def _see_the_right_to(self, operation: str, code: str = "AccessDeniedException") -> None:
        if self.denied == operation:
            raise botocore.exceptions.ClientError({"Error": {"Code": code, "Message": "no"}}, operation)

    def get_environment(self, Name: str) -> dict[str, Any]:
        self._see_the_right_to("GetEnvironment")
        found = {"WebserverAccessMode": self.mode, "WebserverUrl": "airflow.invalid"}
        return {"Environment": {"Name": Name, **found}}

    def describe_instances(self, **_: Any) -> dict[str, Any]:
        self._see_the_right_to("DescribeInstances", "UnauthorizedOperation")
        return {"Reservations": []}

    def invoke_rest_api(
        self, *, Name: str, Method: str, Path: str, QueryParameters: Any = None, Body: Any = None
    ) -> dict[str, Any]:
        assert Name == "ml-platform-prod"
        self._see_the_right_to("InvokeRestApi")
        status, document = self._airflow(Method, Path.strip("/").split("/"), QueryParameters or {}, Body)
        answer = {"RestApiStatusCode": status, "RestApiResponse": document}
        if status >= 400:
            error = {**answer, "Error": {"Code": "RestApiClientException", "Message": ""}}
            raise botocore.exceptions.ClientError(error, "InvokeRestApi")  # type: ignore[arg-type]
        return answer

    def _airflow(self, method: str, path: list[str], query: dict[str, str], body: Any) -> tuple[int, Any]:
        match method, path:
            case "GET", ["dags", "~", "dagRuns", "~", "hitlDetails"]:
                assert query["response_received"] == "false"
                return 200, {"hitl_details": self.questions, "total_entries": len(self.questions)}
            case "PATCH", ["dags", dag, "dagRuns", run, "taskInstances", task, "-1", "hitlDetails"]:
                asked = {(one["task_instance"]["dag_id"], one["task_instance"]["dag_run_id"]) for one in self.questions}
                if (dag, run) not in asked or task != TASK:
                    return 404, {"detail": "was not found"}
                if self.refusal:
                    return self.refusal[0], {"detail": self.refusal[1]}
                assert set(body) == {"chosen_options", "params_input"}
                assert set(body["chosen_options"]) <= {"Approve", "Reject"}
                self.answers[run] = body
                who = {"id": "12", "name": "assumed-role/MlApprovers"}
                return 200, dict(body, responded_by=who, responded_at="2026-11-29T12:00:00Z")
        return 405, {"detail": "Method Not Allowed"}


def ask(aws: Aws, monkeypatch: pytest.MonkeyPatch, **given: Any) -> list[str]:
    environment = Environment("prod")
    monkeypatch.setattr(environment, "client", aws.client)
    said: list[str] = []
    confirmed = given.pop("confirmed", True)

    def confirm(asked: str) -> bool:
        said.append(asked)
        return bool(confirmed)

    defaults: dict[str, Any] = {"approve": True, "reason": "read the report", "run": None}
    answer(environment, given.pop("dataset", "flights"), **{**defaults, **given}, confirm=confirm, say=said.append)
    return said


def test_the_question_is_shown_and_answered_in_the_caller_s_name(monkeypatch: pytest.MonkeyPatch) -> None:
    aws = Aws(question("r1"))
    said = ask(aws, monkeypatch)
    assert said == [
        "May r1 go live?\n\nroc_auc is 0.05 better\n",
        "Approve?",
        "Approve: recorded by Airflow as assumed-role/MlApprovers; r1 goes on within minutes",
    ]
    # Airflow knows the role; which person had it is in the reason, which the audit log keeps.
    assert aws.answers == {
        "r1": {
            "chosen_options": ["Approve"],
            "params_input": {"reason": f"read the report (by {ARN}, with make approve)"},
        }
    }


def test_a_rejection_is_an_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    aws = Aws(question("r1"))
    ask(aws, monkeypatch, approve=False)
    assert aws.answers["r1"]["chosen_options"] == ["Reject"]


def test_who_says_no_to_the_last_question_has_answered_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    aws = Aws(question("r1"))
    with pytest.raises(CloudError, match="not answered; the question waits on"):
        ask(aws, monkeypatch, confirmed=False)
    assert aws.answers == {}


def test_only_open_questions_of_the_dataset_count(monkeypatch: pytest.MonkeyPatch) -> None:
    others = question("other", dag="train__iris"), question("late", state="failed"), question("else", task="mine.ask")
    with pytest.raises(CloudError, match="no question about flights waits in prod: `make status ENV=prod` tells"):
        ask(Aws(*others), monkeypatch)
    aws = Aws(*others, question("r1"))
    ask(aws, monkeypatch)
    assert set(aws.answers) == {"r1"}


def test_several_questions_want_a_run(monkeypatch: pytest.MonkeyPatch) -> None:
    aws = Aws(question("r2"), question("r1"))
    with pytest.raises(CloudError, match=r"name one with RUN=…: r1, r2"):
        ask(aws, monkeypatch)
    ask(aws, monkeypatch, run="r2")
    assert set(aws.answers) == {"r2"}
    with pytest.raises(CloudError, match="no question of run r3 about flights waits"):
        ask(aws, monkeypatch, run="r3")


@pytest.mark.parametrize(
    ("status", "words"),
    [
        (403, "you are not among approval.approvers"),
        (404, "the question is gone"),
        (409, "somebody answered before you"),
        (500, "Airflow refused"),
    ],
)
def test_a_refusal_of_airflow_says_what_it_means(monkeypatch: pytest.MonkeyPatch, status: int, words: str) -> None:
    aws = Aws(question("r1"))
    aws.refusal = status, "its own words"
    with pytest.raises(CloudError, match=words) as refused:
        ask(aws, monkeypatch)
    assert "its own words" in str(refused.value)


@pytest.mark.parametrize(
    ("operation", "mode", "takes"),
    [
        ("GetEnvironment", "PRIVATE_ONLY", "airflow:GetEnvironment on the environment ml-platform-prod"),
        ("InvokeRestApi", "PUBLIC_ONLY", "airflow:InvokeRestApi on its role User"),
        ("DescribeInstances", "PRIVATE_ONLY", "the policy ml-platform-prod-bastion-forward"),
    ],
)
def test_who_may_not_use_airflow_is_told_what_it_takes(
    monkeypatch: pytest.MonkeyPatch, operation: str, mode: str, takes: str
) -> None:
    monkeypatch.setattr("cloud.access.forwards.cli", lambda: "aws")
    aws = Aws(question("r1"))
    aws.denied, aws.mode = operation, mode
    with pytest.raises(CloudError, match=f"you may not use Airflow's API: it takes {takes}"):
        ask(aws, monkeypatch)


def test_a_private_page_that_nothing_leads_to_is_no_missing_right(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cloud.access.forwards.cli", lambda: "aws")
    aws = Aws(question("r1"))
    aws.mode = "PRIVATE_ONLY"
    with pytest.raises(CloudError, match="is private, and AWS takes calls") as refused:
        ask(aws, monkeypatch)
    assert "you may not" not in str(refused.value)


def test_a_reason_is_wanted(monkeypatch: pytest.MonkeyPatch) -> None:
    aws = Aws(question("r1"))
    with pytest.raises(CloudError, match="say why"):
        ask(aws, monkeypatch, reason=" ")
    assert aws.answers == {}


def test_a_dataset_without_dags_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(CloudError, match="DATASET=flight has no DAGs in prod: choose from"):
        ask(Aws(), monkeypatch, dataset="flight")
