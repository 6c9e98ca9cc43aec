"""Answer, from a terminal, the question whether a dataset's candidate may go live.

By Airflow's API, through AWS: who may answer is IAM's and Airflow's to say.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import Any

import botocore.exceptions
import httpx

from cloud.airflow_api import airflow
from cloud.datasets import dag_id, enabled
from cloud.environments import Environment
from cloud.errors import CloudError
from cloud.status.airflow_reading import LONGEST_QUESTION, UNFINISHED
from local.pipeline.airflow_client import AirflowClient

TASK = "approval.ask"
OPTIONS = {True: "Approve", False: "Reject"}
_REFUSALS = {
    403: "you are not among approval.approvers, or your role in Airflow is too low",
    404: "the question is gone: it was asked anew, or its run was deleted",
    409: "somebody answered before you: the log of approval.record_approval says who",
}
_DENIED = ("AccessDeniedException", "UnauthorizedOperation")
Say = Callable[[str], None]
Question = dict[str, Any]


def answer(
    environment: Environment,
    dataset: str,
    *,
    approve: bool,
    reason: str,
    run: str | None,
    confirm: Callable[[str], bool],
    say: Say,
) -> None:
    """Show a dataset's open question, and answer it.

    Args:
        environment: in which.
        dataset: whose candidate.
        approve: or reject.
        reason: for the audit log.
        run: whose question, where several wait.
        confirm: asks a person who has read the question.
        say: tells people what happens.

    Raises:
        CloudError: no question waits, or several and no run is named; or Airflow does not take the answer.
    """
    if dataset not in (datasets := enabled(environment)):
        raise CloudError(f"DATASET={dataset} has no DAGs in {environment.name}: choose from {', '.join(datasets)}")
    if not reason.strip():
        raise CloudError('say why, as the audit log keeps it: REASON="…"')
    with _rights(environment), airflow(environment, say) as client:
        question = _the_question(_open(client, dag_id("train", dataset)), environment.name, dataset, run)
        say(f"{question['subject']}\n\n{question['body'] or ''}\n")
        verb = OPTIONS[approve]
        if not confirm(f"{verb}?"):
            raise CloudError("not answered; the question waits on")
        task = question["task_instance"]
        recorded = _recorded(client, task["dag_id"], task["dag_run_id"], verb, signed(reason, _caller(environment)))
        say(f"{verb}: recorded by Airflow as {recorded}; {task['dag_run_id']} goes on within minutes")


@contextlib.contextmanager
def _rights(environment: Environment) -> Iterator[None]:
    """Say which right is missing to whom AWS refuses something on the way to Airflow."""
    takes = {
        "GetEnvironment": f"airflow:GetEnvironment on the environment {environment.prefix}",
        "CreateWebLoginToken": "airflow:CreateWebLoginToken on its role User or a higher one",
        "InvokeRestApi": "airflow:InvokeRestApi on its role User or a higher one",
        "DescribeInstances": f"the policy {environment.prefix}-bastion-forward, as its page is private",
        "DescribeInstanceInformation": f"the policy {environment.prefix}-bastion-forward, as its page is private",
    }
    try:
        yield
    except botocore.exceptions.ClientError as error:
        if error.response["Error"]["Code"] not in _DENIED or error.operation_name not in takes:
            raise
        raise CloudError(f"you may not use Airflow's API: it takes {takes[error.operation_name]} ({error})") from None


def signed(reason: str, caller: str) -> str:
    """Return a reason with who gives it.

    Airflow knows its caller by the role, which many people may have, and cuts long names; AWS tells the session too.
    """
    return f"{reason.strip()} (by {caller}, with make approve)"


def _open(client: AirflowClient, dag: str) -> list[Question]:
    try:
        asked = client.open_questions(datetime.now(UTC) - LONGEST_QUESTION)
    except httpx.HTTPStatusError as error:
        raise CloudError(f"Airflow refused: {error.response.text}") from None
    return [
        one
        for one in asked
        if (one["task_instance"]["dag_id"], one["task_instance"]["task_id"]) == (dag, TASK)
        and one["task_instance"]["state"] in UNFINISHED
    ]


def _the_question(found: list[Question], environment: str, dataset: str, run: str | None) -> Question:
    runs = {one["task_instance"]["dag_run_id"]: one for one in found}
    if run is not None:
        runs = {name: one for name, one in runs.items() if name == run}
    if not runs:
        of_run = f" of run {run}" if run else ""
        raise CloudError(
            f"no question{of_run} about {dataset} waits in {environment}: `make status ENV={environment}` tells what "
            "does"
        )
    if len(runs) > 1:
        raise CloudError(f"several questions about {dataset} wait: name one with RUN=…: {', '.join(sorted(runs))}")
    return next(iter(runs.values()))


def _recorded(client: AirflowClient, dag: str, run: str, option: str, reason: str) -> str:
    """Answer, and return as whom Airflow has written it down."""
    try:
        response = client.answer(dag, run, TASK, option, reason=reason)
    except httpx.HTTPStatusError as error:
        words = _REFUSALS.get(error.response.status_code, "Airflow refused")
        raise CloudError(f"{words} ({error.response.text})") from None
    person = response["responded_by"]
    return str(person["name"] or person["id"])


def _caller(environment: Environment) -> str:
    arn: str = environment.client("sts").get_caller_identity()["Arn"]
    return arn
