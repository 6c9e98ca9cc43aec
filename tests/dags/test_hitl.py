"""Asking a person, with Airflow's own database, execution API, operator and trigger; only MLflow and S3 are played."""

from __future__ import annotations

import asyncio
import copy
import json
import logging
import threading
import uuid
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from functools import cache
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import SimpleNamespace
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from mlplatform.config.environment import Approver, Settings
from mlplatform.config.loading import load_dataset
from mlplatform.documents.decisions import Answer, Question, RecordedAnswer
from mlplatform.errors import NonRetryableError
from mlplatform.orchestration import notifications
from mlplatform.people import messages
from mlplatform.people.messages import Message
from mlplatform.promotion import approval, audit, registry
from mlplatform.training import approvals

PREFIX = "s3://data-bucket/runs/iris/key"
TASK = "approval.ask"
QUESTION = Question(
    dataset="iris",
    registered_model="iris-species",
    version="2",
    run_id="run-2",
    model_digest="model",
    evaluation_digest="evaluation",
    champion_version="1",
    prefix=PREFIX,
)
IN_MLFLOW = {
    "approved_by": "jane",
    "approval_reason": "looks good",
    "approval_evaluation_digest": "evaluation",
    "approval": "approved",
}


# --- What is played -----------------------------------------------------------------------------


class MlflowServer(ThreadingHTTPServer):
    """The part of MLflow's REST API that an approval needs."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), MlflowHandler)
        self.tags = {number: {"evaluation_digest": "evaluation", "model_digest": "model"} for number in "123"}
        self.aliases = {"champion": "1", "challenger": "2"}


class MlflowHandler(BaseHTTPRequestHandler):
    """One request."""

    server: MlflowServer

    def do_GET(self) -> None:
        """Return the model, or a version of it by number or alias."""
        address = urlsplit(self.path)
        if address.path.endswith("/registered-models/get"):
            self.answer(200, {"registered_model": {"name": "iris-species"}})
            return
        query = {key: value for key, (value,) in parse_qs(address.query).items()}
        number = query.get("version") or self.server.aliases.get(query.get("alias", ""))
        if number not in self.server.tags:
            self.answer(404, {"error_code": "RESOURCE_DOES_NOT_EXIST", "message": "no such version"})
            return
        tags = [{"key": key, "value": value} for key, value in self.server.tags[number].items()]
        version = {"name": "iris-species", "version": number, "run_id": f"run-{number}", "tags": tags}
        self.answer(200, {"model_version": version})

    def do_POST(self) -> None:
        """Set a tag."""
        asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.server.tags[asked["version"]][asked["key"]] = asked["value"]
        self.answer(200, {})

    def answer(self, status: int, content: Any) -> None:
        """Send JSON."""
        body = json.dumps(content).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing."""


@pytest.fixture
def mlflow() -> Iterator[MlflowServer]:
    """A registry in which version 1 is champion, version 2 was evaluated against it, and there is a version 3."""
    server = MlflowServer()
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
    yield server
    server.shutdown()
    server.server_close()
    registry.client.cache_clear()


# --- What is Airflow's own ----------------------------------------------------------------------


@pytest.fixture(scope="module")
def database(dag: Any) -> Iterator[None]:
    """Airflow's database, with a training DAG in it, and one execution API for all tests: making one takes seconds."""
    from airflow.api_fastapi.app import create_auth_manager
    from airflow.dag_processing.bundles.manager import DagBundlesManager
    from airflow.dag_processing.collection import update_dag_parsing_results_in_db
    from airflow.sdk.execution_time import supervisor
    from airflow.serialization.serialized_objects import LazyDeserializedDAG
    from airflow.utils.db import initdb
    from airflow.utils.session import create_session

    initdb()
    with create_session() as session:
        DagBundlesManager().sync_bundles_to_db(session=session)
    with create_session() as session:
        parsed = [LazyDeserializedDAG.from_dag(dag)]
        update_dag_parsing_results_in_db("dags-folder", None, parsed, {}, None, set(), session)
    create_auth_manager()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(supervisor, "in_process_api_server", cache(supervisor.in_process_api_server))
        yield


class TriggererComms:
    """What a trigger may ask of its triggerer, answered by the execution API."""

    def send(self, msg: Any) -> Any:
        """Ask."""
        from airflow.jobs.triggerer_job_runner import HITLDetailResponseResult
        from airflow.sdk.execution_time.comms import GetHITLDetailResponse
        from airflow.sdk.execution_time.supervisor import InProcessTestSupervisor

        assert isinstance(msg, GetHITLDetailResponse)
        found = InProcessTestSupervisor._api_client().hitl.get_detail_response(ti_id=msg.ti_id)
        return HITLDetailResponseResult.from_api_response(response=found)


class Asked:
    """The task `approval.ask` of a new run of `train__flights`.

    Attributes:
        settings: of the environment, as a test wants them.
        told: messages that people got.
    """

    def __init__(self, dag: Any, settings: Settings, told: list[Message]) -> None:
        from airflow.models.xcom import XComModel
        from airflow.serialization.serialized_objects import DagSerialization
        from airflow.utils.session import create_session
        from airflow.utils.state import DagRunState
        from airflow.utils.types import DagRunTriggeredByType, DagRunType

        self.dag, self.settings, self.told = dag, settings, told
        self.run_id = f"manual__{uuid.uuid4().hex}"
        self.key = {"dag_id": "train__flights", "task_id": TASK, "run_id": self.run_id}
        question = {"subject": "Deploy version 2 of iris?", "body": "| candidate | champion |"}
        handed_on = [("ingest.resolve_inputs", "prefix", PREFIX), ("promotion.decide", "question", question)]
        with create_session() as session:
            DagSerialization.deserialize_dag(DagSerialization.serialize_dag(dag)).create_dagrun(
                run_id=self.run_id,
                run_after=datetime.now(UTC),
                run_type=DagRunType.MANUAL,
                triggered_by=DagRunTriggeredByType.TEST,
                state=DagRunState.RUNNING,
                session=session,
            )
            for task_id, key, value in handed_on:
                XComModel.set(key, value, **{**self.key, "task_id": task_id}, serialize=False, session=session)

    def row(self, session: Any) -> Any:
        """Return the task instance."""
        from airflow.models.taskinstance import TaskInstance

        return session.query(TaskInstance).filter_by(**self.key).one()

    def work(self) -> str:
        """Do what a worker does, from the beginning or from where an event woke the task up; return its state."""
        from airflow.sdk.api.datamodels._generated import TaskInstance
        from airflow.sdk.execution_time.supervisor import run_task_in_process
        from airflow.utils.session import create_session

        with create_session() as session:
            row = self.row(session)
            row.state = "queued"
            row.try_number = 1
            given = TaskInstance(
                id=uuid.UUID(str(row.id)),
                **self.key,
                try_number=1,
                map_index=-1,
                dag_version_id=uuid.UUID(str(row.dag_version_id)),
            )
        task = copy.deepcopy(self.dag.get_task(TASK))
        approval_settings = self.settings.approval
        whose = type(task)(
            task_id="new", settings=self.settings, prefix=PREFIX, params=task.params, subject="s", body="b"
        )
        for name in ("_settings", "assigned_users", "response_timeout"):
            setattr(task, name, getattr(whose, name))
        assert task.response_timeout.total_seconds() == pytest.approx(approval_settings.deadline_hours * 3600, abs=1e-3)
        result = run_task_in_process(ti=given, task=task)
        state: str = result.state.value
        return state

    def trigger(self) -> Any:
        """Return what a triggerer makes of the row in the database when it starts, or starts again."""
        from airflow.models.trigger import Trigger
        from airflow.sdk._shared.module_loading import import_string
        from airflow.utils.session import create_session

        with create_session() as session:
            found = session.get(Trigger, self.row(session).trigger_id)
            return import_string(found.classpath)(**found.kwargs)

    def watch(self, trigger: Any = None) -> dict[str, Any]:
        """Do what a triggerer does until the trigger's event, which wakes the task up; return the event."""
        from airflow.models.trigger import Trigger
        from airflow.sdk.execution_time.supervisor import set_supervisor_comms
        from airflow.utils.session import create_session

        async def first_event() -> Any:
            return await anext((trigger or self.trigger()).run())

        with set_supervisor_comms(TriggererComms()):
            event = asyncio.run(asyncio.wait_for(first_event(), timeout=60))
        with create_session() as session:
            Trigger.submit_event(self.row(session).trigger_id, event, session=session)
        payload: dict[str, Any] = event.payload
        return payload

    def says(self, option: str, reason: str = "", *, person: str = "jane", number: str = "7") -> None:
        """Answer in Airflow.

        Raises:
            HTTPException: somebody answered before (409), or the person may not (403).
        """
        from airflow.api_fastapi.core_api.datamodels.hitl import UpdateHITLDetailPayload
        from airflow.api_fastapi.core_api.routes.public.hitl import update_hitl_detail
        from airflow.utils.session import create_session

        payload = UpdateHITLDetailPayload(chosen_options=[option], params_input={"reason": reason})
        user: Any = SimpleNamespace(get_id=lambda: number, get_name=lambda: person)
        with create_session() as session:
            update_hitl_detail("train__flights", self.run_id, TASK, payload, user, session)

    def question(self) -> Any:
        """Return what people see in Airflow."""
        from airflow.models.hitl import HITLDetail
        from airflow.utils.session import create_session

        with create_session() as session:
            detail = session.query(HITLDetail).filter_by(ti_id=self.row(session).id).one()
            session.expunge(detail)
            return detail

    def answer(self) -> dict[str, Any]:
        """Return what the task handed on."""
        from airflow.models.xcom import XComModel
        from airflow.utils.session import create_session

        with create_session() as session:
            found = session.scalars(
                XComModel.get_many(run_id=self.run_id, key="return_value", task_ids=TASK, dag_ids="train__flights")
            ).one()
            handed_on: dict[str, Any] = found.value
            return handed_on

    def recorded(self) -> RecordedAnswer:
        """Do what the next task does."""
        given = Answer.model_validate(self.answer())
        return approval.record(self.settings, QUESTION, given, f"train__flights/{self.run_id}")


@pytest.fixture
def ask(
    dag: Any, database: None, mlflow: MlflowServer, objects: dict[str, bytes], monkeypatch: pytest.MonkeyPatch
) -> Callable[..., Asked]:
    """Return the function that puts the question; arguments are changes of `Settings.approval`."""
    told: list[Message] = []
    monkeypatch.setattr(notifications, "send", lambda settings, message: told.append(message))
    monkeypatch.setattr(approvals, "question", lambda settings, prefix: {PREFIX: QUESTION}[prefix])

    def wanted(settings: Settings, prefix: str, link: str) -> Message:
        return messages.approval_wanted("iris", "2", ["better"], settings.approval.deadline_hours, [link])

    monkeypatch.setattr(approvals, "approval_wanted", wanted)
    settings = load_dataset("flights").settings
    address = f"http://127.0.0.1:{mlflow.server_address[1]}"
    settings = settings.model_copy(update={"mlflow": settings.mlflow.model_copy(update={"tracking_uri": address})})

    def put(**changes: Any) -> Asked:
        changed = settings.approval.model_copy(update=changes)
        asked = Asked(dag, settings.model_copy(update={"approval": changed}), told)
        assert asked.work() == "deferred"
        return asked

    return put


# --- An answer in Airflow -----------------------------------------------------------------------


@pytest.mark.parametrize(("option", "outcome"), [("Approve", "approved"), ("Reject", "rejected")])
def test_an_answer_in_airflow_is_handed_on_with_name_and_reason(
    ask: Callable[..., Asked], mlflow: MlflowServer, option: str, outcome: str
) -> None:
    asked = ask()
    assert (asked.question().subject, asked.question().options) == ("Deploy version 2 of iris?", ["Approve", "Reject"])
    (message,) = asked.told
    assert message.event == "approval-wanted"
    assert f"/dags/train__flights/runs/{asked.run_id}/tasks/{TASK}" in message.text
    asked.says(option, "seen the report")
    asked.watch()
    assert asked.work() == "success"
    answer = asked.answer()
    assert (answer["outcome"], answer["by"], answer["reason"]) == (outcome, "jane", "seen the report")
    assert answer["source"] == "airflow"
    held = asked.recorded()
    assert (held.question.version, held.answer.outcome) == ("2", outcome)
    assert mlflow.tags["2"]["approval"] == outcome
    assert "approval" not in mlflow.tags["1"]
    assert [line.kind for line in audit.entries(asked.settings, "iris")] == [outcome]
    assert len(asked.told) == 1, "people are asked once"


def test_of_two_people_at_once_the_first_one_answers_and_the_second_one_is_told(ask: Callable[..., Asked]) -> None:
    asked = ask()
    asked.says("Reject", "too slow", person="jane", number="7")
    with pytest.raises(Exception, match="already been updated") as refused:
        asked.says("Approve", "looks good", person="john", number="8")
    assert getattr(refused.value, "status_code", None) == 409
    asked.watch()
    assert asked.work() == "success"
    assert (asked.answer()["outcome"], asked.answer()["by"]) == ("rejected", "jane")


def test_only_those_who_may_answer_can(ask: Callable[..., Asked]) -> None:
    asked = ask(approvers=[Approver(id="7", name="jane")])
    with pytest.raises(Exception, match="not a respondent") as refused:
        asked.says("Approve", person="mallory", number="666")
    assert getattr(refused.value, "status_code", None) == 403
    asked.says("Approve")
    asked.watch()
    assert asked.work() == "success"
    assert asked.answer()["by"] == "jane"


def test_an_answer_without_a_reason_says_so(ask: Callable[..., Asked]) -> None:
    asked = ask()
    asked.says("Approve")
    asked.watch()
    assert asked.work() == "success"
    assert asked.answer()["reason"] == "no reason given"


@pytest.mark.parametrize(
    ("change", "why"),
    [
        pytest.param(lambda mlflow: mlflow.tags["2"].update(evaluation_digest="new"), "evaluated again", id="digest"),
        pytest.param(lambda mlflow: mlflow.tags["2"].update(model_digest="new"), "the files of", id="files"),
        pytest.param(lambda mlflow: mlflow.aliases.pop("challenger"), "the challenger", id="version"),
        pytest.param(lambda mlflow: mlflow.aliases.update(champion="3"), "the champion", id="champion"),
    ],
)
def test_an_approval_of_what_is_not_there_any_more_does_not_count(
    ask: Callable[..., Asked], mlflow: MlflowServer, change: Callable[[MlflowServer], None], why: str
) -> None:
    asked = ask()
    change(mlflow)
    before = dict(mlflow.tags["2"])
    asked.says("Approve", "looks good")
    asked.watch()
    assert asked.work() == "success"
    with pytest.raises(NonRetryableError, match=why):
        asked.recorded()
    assert mlflow.tags["2"] == before
    assert audit.entries(asked.settings, "iris") == []


# --- An answer in MLflow ------------------------------------------------------------------------

AT_ONCE = {"poll_seconds": 1e-6}
"""The tags are looked at as soon as the trigger runs."""


def test_tags_of_the_right_evaluation_answer(ask: Callable[..., Asked], mlflow: MlflowServer) -> None:
    asked = ask(**AT_ONCE)
    mlflow.tags["2"].update(IN_MLFLOW)
    assert asked.watch()["error_type"] == "timeout"
    assert asked.work() == "success"
    answer = asked.answer()
    assert [answer[key] for key in ("outcome", "by", "reason", "source")] == [
        "approved",
        "jane",
        "looks good",
        "mlflow",
    ]
    assert asked.recorded().approved_model().evaluation_digest == "evaluation"


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        pytest.param({}, None, id="no-answer"),
        pytest.param({**IN_MLFLOW, "approval_evaluation_digest": "old"}, "is old, but", id="another-evaluation"),
        pytest.param({**IN_MLFLOW, "approved_by": "mallory"}, "not one of jane", id="not-an-approver"),
        pytest.param({**IN_MLFLOW, "approval": "yes"}, "only approved and rejected", id="not-an-answer"),
    ],
)
def test_tags_that_are_no_answer_are_told_and_the_question_stays(
    ask: Callable[..., Asked], mlflow: MlflowServer, changes: dict[str, str], told: str | None
) -> None:
    asked = ask(**AT_ONCE, approvers=[Approver(id="7", name="jane")])
    mlflow.tags["2"].update(changes)
    asked.watch()
    assert asked.work() == "deferred"
    assert (told is None) == (approval.INVALID_ANSWER_TAG not in mlflow.tags["2"])
    assert (told or "") in mlflow.tags["2"].get(approval.INVALID_ANSWER_TAG, "")
    assert not asked.question().response_received
    mlflow.tags["2"].update(IN_MLFLOW)
    asked.watch()
    assert asked.work() == "success"
    assert (asked.answer()["outcome"], asked.answer()["source"]) == ("approved", "mlflow")
    assert len(asked.told) == 1


def test_the_tags_of_another_version_are_no_answer(ask: Callable[..., Asked], mlflow: MlflowServer) -> None:
    asked = ask(**AT_ONCE)
    mlflow.tags["1"].update(IN_MLFLOW)
    asked.watch()
    assert asked.work() == "deferred"


def test_a_rejection_in_mlflow_is_an_answer(ask: Callable[..., Asked], mlflow: MlflowServer) -> None:
    asked = ask(**AT_ONCE)
    mlflow.tags["2"].update(approval="rejected", approval_reason="too slow")
    asked.watch()
    assert asked.work() == "success"
    assert asked.recorded().answer.outcome == "rejected"


def test_an_answer_in_airflow_between_two_looks_at_the_tags_is_found(ask: Callable[..., Asked]) -> None:
    asked = ask(**AT_ONCE)
    event = asked.watch()
    assert event["error_type"] == "timeout"
    asked.says("Approve", "looks good")
    assert asked.work() == "deferred"
    assert asked.watch()["chosen_options"] == ["Approve"]
    assert asked.work() == "success"
    assert asked.answer()["by"] == "jane"


def test_without_mlflow_the_answer_in_airflow_counts_all_the_same(
    ask: Callable[..., Asked], monkeypatch: pytest.MonkeyPatch
) -> None:
    def away(*args: object) -> None:
        raise ConnectionError("no route to MLflow")

    asked = ask(**AT_ONCE)
    with monkeypatch.context() as broken:
        broken.setattr(registry, "get_version", away)
        asked.watch()
        assert asked.work() == "deferred"
    asked.says("Approve")
    asked.watch()
    assert asked.work() == "success"


def test_where_mlflow_does_not_count_its_tags_are_no_answer(ask: Callable[..., Asked], mlflow: MlflowServer) -> None:
    asked = ask(**AT_ONCE, from_mlflow=False)
    mlflow.tags["2"].update(IN_MLFLOW)
    asked.watch()
    assert asked.work() == "deferred"
    asked.says("Reject", "too slow", person="john")
    asked.watch()
    assert asked.work() == "success"
    assert asked.answer()["by"] == "john"
    assert asked.recorded().answer.outcome == "rejected"


def test_one_in_airflow_and_one_in_mlflow_at_once_the_rejection_holds_and_the_other_is_told(
    ask: Callable[..., Asked], mlflow: MlflowServer, caplog: pytest.LogCaptureFixture
) -> None:
    asked = ask()
    asked.says("Approve", "looks good", person="john")
    mlflow.tags["2"].update(approval="rejected", approved_by="jane")
    asked.watch()
    assert asked.work() == "success"
    with caplog.at_level(logging.WARNING):
        assert asked.recorded().answer.by == "jane"
    assert "approved by john (airflow) does not count: it was rejected by jane (mlflow)" in caplog.text


# --- A candidate that another one takes the place of --------------------------------------------


@pytest.mark.parametrize("from_mlflow", [True, False])
def test_a_question_ends_when_another_candidate_has_passed_the_gate(
    ask: Callable[..., Asked], mlflow: MlflowServer, from_mlflow: bool
) -> None:
    asked = ask(**AT_ONCE, from_mlflow=from_mlflow)
    asked.watch()
    assert asked.work() == "deferred", "as long as there is none"
    mlflow.aliases["challenger"] = "3"
    asked.watch()
    assert asked.work() == "success"
    answer = asked.answer()
    assert [answer[key] for key in ("outcome", "by", "source")] == ["superseded", "version 3", "newer-candidate"]
    assert answer["reason"].startswith("version 3 passed the gate")
    before = dict(mlflow.tags["2"])
    assert asked.recorded().answer.outcome == "superseded"
    assert mlflow.tags["2"] == before
    assert [line.kind for line in audit.entries(asked.settings, "iris")] == ["superseded"]


def test_an_approval_of_a_candidate_that_lost_its_place_comes_too_late(
    ask: Callable[..., Asked], mlflow: MlflowServer, caplog: pytest.LogCaptureFixture
) -> None:
    asked = ask()
    mlflow.aliases["challenger"] = "3"
    asked.says("Approve", "looks good")
    asked.watch()
    assert asked.work() == "success"
    assert asked.answer()["outcome"] == "approved", "nobody looked between"
    with caplog.at_level(logging.WARNING):
        held = asked.recorded()
    assert (held.answer.outcome, held.answer.by) == ("superseded", "version 3")
    assert "approved by jane (airflow) comes too late: version 3 passed the gate" in caplog.text
    assert "approval" not in mlflow.tags["2"]
    assert [line.kind for line in audit.entries(asked.settings, "iris")] == ["superseded"]


def test_a_rejection_of_a_candidate_that_lost_its_place_is_one(ask: Callable[..., Asked], mlflow: MlflowServer) -> None:
    asked = ask()
    mlflow.aliases["challenger"] = "3"
    asked.says("Reject", "too slow")
    asked.watch()
    assert asked.work() == "success"
    assert asked.recorded().answer.outcome == "rejected"


# --- No answer ----------------------------------------------------------------------------------


@pytest.mark.parametrize("from_mlflow", [True, False])
def test_a_deadline_that_passes_is_an_answer_and_no_failure(ask: Callable[..., Asked], from_mlflow: bool) -> None:
    asked = ask(deadline_hours=1e-9, from_mlflow=from_mlflow)
    asked.watch()
    assert asked.work() == "success"
    answer = asked.answer()
    assert (answer["outcome"], answer["by"]) == ("expired", "deadline")
    assert "nobody answered within" in answer["reason"]
    assert asked.recorded().answer.outcome == "expired"
    assert [line.kind for line in audit.entries(asked.settings, "iris")] == ["expired"]


def test_an_approval_in_mlflow_at_the_last_moment_counts(ask: Callable[..., Asked], mlflow: MlflowServer) -> None:
    asked = ask(deadline_hours=1e-9)
    mlflow.tags["2"].update(IN_MLFLOW)
    asked.watch()
    assert asked.work() == "success"
    assert asked.answer()["outcome"] == "approved"


# --- A triggerer that dies ----------------------------------------------------------------------


def test_a_triggerer_that_starts_again_waits_for_the_same_answer_until_the_same_moment(
    ask: Callable[..., Asked],
) -> None:
    asked = ask(from_mlflow=False)
    before, after = asked.trigger(), asked.trigger()
    assert before is not after
    assert before.serialize() == after.serialize()
    assert before.timeout_datetime == after.timeout_datetime
    assert type(before).__module__.startswith("airflow."), "the triggerer need not import the DAG folder"
    asked.says("Approve", "looks good")
    asked.watch(after)
    assert asked.work() == "success"
    assert asked.answer()["by"] == "jane"


def test_the_deadline_is_that_of_the_question_however_often_the_task_wakes_up(ask: Callable[..., Asked]) -> None:
    from airflow.utils.session import create_session

    def deadline(asked: Asked) -> Any:
        with create_session() as session:
            return asked.row(session).next_kwargs["deadline"]

    asked = ask(**AT_ONCE)
    first = deadline(asked)
    for _ in range(2):
        asked.watch()
        assert asked.work() == "deferred"
        assert deadline(asked) == first
