"""Asks Airflow what runs and what waits, of all DAGs at once: as many requests for a hundred datasets as for one."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from concurrent.futures import Executor
from datetime import datetime, timedelta
from functools import partial
from typing import Any

from cloud.status.attempts import attempt
from cloud.status.facts import AirflowFacts, Dag, OpenQuestion, Read, Run, Task
from local.pipeline.airflow_client import RUNNING_STATES, AirflowClient

UNFINISHED = (
    "running",
    "deferred",
    "queued",
    "scheduled",
    "restarting",
    "up_for_retry",
    "up_for_reschedule",
)
"""States of tasks that are at work, wait, or are about to begin."""
LONGEST_QUESTION = timedelta(days=8)
"""A question is open for a week at most (`approval.deadline_hours`)."""
LATELY = timedelta(days=8)
"""How far back failed runs of monitoring are looked for."""


def read_airflow(
    connect: Callable[[], AirflowClient], url: str, dataset_dags: frozenset[str], now: datetime, pool: Executor
) -> AirflowFacts:
    """Return what Airflow says of the datasets' DAGs.

    Args:
        connect: leads to it.
        url: of its page.
        dataset_dags: all that is asked about; an Airflow may have others.
        now: the moment of the report.
        pool: for requests at the same time.
    """
    client = attempt(connect)
    if not isinstance(client, AirflowClient):
        return AirflowFacts(url, client, client, client, client, client, client)

    def ours(entries: list[dict[str, Any]]) -> list[dict[str, Any]]:
        return [entry for entry in entries if entry["dag_id"] in dataset_dags]

    def dags() -> Mapping[str, Dag]:
        return {
            entry["dag_id"]: Dag(entry["is_paused"], _moment(entry["next_dagrun_run_after"]))
            for entry in ours(client.dag_details())
        }

    def runs() -> list[Run]:
        return [_run(entry) for state in sorted(RUNNING_STATES) for entry in ours(client.all_runs(state))]

    def tasks(state: str) -> list[Task]:
        return [_task(entry) for entry in ours(client.all_tasks(state))]

    def questions() -> list[OpenQuestion]:
        asked = client.open_questions(now - LONGEST_QUESTION)
        still = [one for one in asked if one["task_instance"]["state"] in UNFINISHED]
        return [_question(client, one) for one in still if one["task_instance"]["dag_id"] in dataset_dags]

    def failed() -> list[Run]:
        since = (now - LATELY).isoformat()
        found = client.all_runs("failed", dag_id_pattern="monitor__%", run_after_gte=since)
        return [_run(entry, "end_date") for entry in ours(found)]

    def pools() -> Mapping[str, int]:
        return {name: entry["slots"] for name, entry in client.pools().items()}

    # Each by itself: what a list of them would hold has no type that says which answer is which.
    asked_dags, asked_runs = pool.submit(attempt, dags), pool.submit(attempt, runs)
    asked_questions, asked_failed = pool.submit(attempt, questions), pool.submit(attempt, failed)
    asked_pools = pool.submit(attempt, pools)
    asked_tasks = [pool.submit(attempt, partial(tasks, state)) for state in UNFINISHED]
    all_tasks: Read[list[Task]] = []
    for future in asked_tasks:
        found = future.result()
        all_tasks = [*all_tasks, *found] if isinstance(all_tasks, list) and isinstance(found, list) else found
        if not isinstance(all_tasks, list):
            break
    return AirflowFacts(
        url=url,
        dags=asked_dags.result(),
        runs=asked_runs.result(),
        tasks=all_tasks,
        questions=asked_questions.result(),
        failed_monitoring=asked_failed.result(),
        pools=asked_pools.result(),
    )


def _run(entry: dict[str, Any], since: str = "start_date") -> Run:
    begun = entry[since] or entry["queued_at"] or entry["run_after"]
    return Run(entry["dag_id"], entry["dag_run_id"], entry["state"], _moment(begun))


def _task(entry: dict[str, Any]) -> Task:
    since = entry["start_date"] or entry["queued_when"] or entry["scheduled_when"]
    return Task(entry["dag_id"], entry["dag_run_id"], entry["task_id"], entry["state"], _moment(since))


def _question(client: AirflowClient, entry: dict[str, Any]) -> OpenQuestion:
    task = entry["task_instance"]
    dag, run = task["dag_id"], task["dag_run_id"]

    def version() -> str:
        decision = client.xcom(dag, run, "promotion.decide", "decision")
        return str(decision["candidate_version"])

    return OpenQuestion(
        dag=dag,
        run=run,
        task=task["task_id"],
        version=attempt(version),
        asked_at=datetime.fromisoformat(entry["created_at"]),
        who=[person["name"] or person["id"] for person in entry["assigned_users"]],
    )


def _moment(text: str | None) -> datetime | None:
    return datetime.fromisoformat(text) if text else None
