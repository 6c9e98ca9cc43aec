"""The part of Airflow's public REST API (v2) that following a run needs."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import httpx

RUNNING_STATES = frozenset({"queued", "running"})


@dataclass(frozen=True)
class TaskInstance:
    """One task of a run; `map_index` is -1 unless the task is mapped."""

    task_id: str
    map_index: int
    state: str
    try_number: int
    started_at: datetime | None
    ended_at: datetime | None
    operator: str

    @property
    def label(self) -> str:
        """Name for people: the task, and which one of a mapped task."""
        return self.task_id if self.map_index < 0 else f"{self.task_id}[{self.map_index}]"

    @property
    def seconds(self) -> float:
        """Wall time from the first start to the end, waiting while deferred included; 0 if it did not run."""
        if self.started_at is None or self.ended_at is None:
            return 0.0
        return (self.ended_at - self.started_at).total_seconds()


class AirflowClient:
    """Airflow's API, by whatever HTTP client reaches it."""

    def __init__(self, http: httpx.Client) -> None:
        self._http = http

    @classmethod
    def on_this_machine(cls, url: str) -> AirflowClient:
        """Return a client of the local platform, which gives every caller on loopback an administrator's token."""
        http = httpx.Client(base_url=url, timeout=30, transport=httpx.HTTPTransport(retries=3))
        token = http.get("/auth/token").raise_for_status().json()["access_token"]
        http.headers["Authorization"] = f"Bearer {token}"
        return cls(http)

    def _get(self, path: str, **query: Any) -> Any:
        return self._http.get(f"/api/v2/{path}", params=query).raise_for_status().json()

    def _pages(self, path: str, key: str, **query: Any) -> list[dict[str, Any]]:
        """Return all entries of a list that Airflow gives in pages."""
        found: list[dict[str, Any]] = []
        total = 1
        while len(found) < total:
            page = self._get(path, limit=100, offset=len(found), **query)
            total = page["total_entries"]
            if not page[key]:
                break
            found += page[key]
        return found

    def dags(self) -> list[str]:
        """Return the ids of all DAGs, sorted."""
        return sorted(dag["dag_id"] for dag in self.dag_details())

    def dag_details(self) -> list[dict[str, Any]]:
        """Return all DAGs as Airflow describes them (dag_id, is_paused, next_dagrun_run_after, …)."""
        return self._pages("dags", "dags")

    def import_errors(self) -> list[dict[str, Any]]:
        """Return the DAG files that Airflow cannot import (filename, stack_trace, …)."""
        return self._pages("importErrors", "import_errors")

    def pause(self, dag_id: str, *, paused: bool) -> None:
        """Pause a DAG, or let it run again."""
        self._http.patch(f"/api/v2/dags/{dag_id}", json={"is_paused": paused}).raise_for_status()

    def parse_again(self, timeout: float) -> None:
        """Have Airflow read all DAG files again, as what they read was changed, and return when it has.

        DAGs that are gone by then are not waited for, nor those that are new.

        Raises:
            TimeoutError: it has not in `timeout` seconds.
        """
        before = {dag["dag_id"]: dag["last_parsed_time"] for dag in self.dag_details()}
        self.read_files()
        deadline = time.monotonic() + timeout
        while late := [
            dag["dag_id"] for dag in self.dag_details() if dag["last_parsed_time"] == before.get(dag["dag_id"])
        ]:
            if time.monotonic() > deadline:
                raise TimeoutError(f"not read again in {timeout:.0f} s: {', '.join(late)}")
            time.sleep(0.5)

    def read_files(self) -> None:
        """Ask Airflow to read all DAG files again soon, for DAGs that are new or changed."""
        for token in {dag["file_token"] for dag in self.dag_details()}:
            self._http.put(f"/api/v2/parseDagFile/{token}").raise_for_status()

    def pools(self) -> dict[str, dict[str, Any]]:
        """Return all pools by their name, as Airflow describes them (name, slots, include_deferred, …)."""
        return {pool["name"]: pool for pool in self._pages("pools", "pools")}

    def make_pool(self, **fields: Any) -> None:
        """Make a pool of which every field is said (name, slots, description, include_deferred).

        Raises:
            httpx.HTTPStatusError: Airflow refused it, for example because there is one of the name (409).
        """
        self._http.post("/api/v2/pools", json=fields).raise_for_status()

    def change_pool(self, *, name: str, **fields: Any) -> None:
        """Change the fields of a pool that is there.

        Raises:
            httpx.HTTPStatusError: Airflow refused it, for example because there is none of the name (404).
        """
        self._http.patch(f"/api/v2/pools/{name}", json={"pool": name, **fields}).raise_for_status()

    def trigger(self, dag_id: str, run_id: str, params: dict[str, Any]) -> None:
        """Start a run.

        Raises:
            httpx.HTTPStatusError: Airflow refused it, for example because the run id is taken (409).
        """
        body = {"dag_run_id": run_id, "logical_date": None, "conf": params}
        self._http.post(f"/api/v2/dags/{dag_id}/dagRuns", json=body).raise_for_status()

    def run(self, dag_id: str, run_id: str) -> dict[str, Any]:
        """Return the run as Airflow describes it (state, start_date, end_date, …)."""
        description: dict[str, Any] = self._get(f"dags/{dag_id}/dagRuns/{run_id}")
        return description

    def delete_run(self, dag_id: str, run_id: str) -> None:
        """Delete a run and what Airflow knows of it."""
        self._http.delete(f"/api/v2/dags/{dag_id}/dagRuns/{run_id}").raise_for_status()

    def runs(self, dag_id: str) -> list[str]:
        """Return the ids of a DAG's runs, oldest first."""
        return [run["dag_run_id"] for run in self._get(f"dags/{dag_id}/dagRuns", order_by="run_after")["dag_runs"]]

    def all_runs(self, state: str, **filters: Any) -> list[dict[str, Any]]:
        """Return the runs of all DAGs that are in a state, as Airflow describes them."""
        return self._pages("dags/~/dagRuns", "dag_runs", state=state, **filters)

    def all_tasks(self, state: str) -> list[dict[str, Any]]:
        """Return the task instances of all DAGs that are in a state, as Airflow describes them."""
        return self._pages("dags/~/dagRuns/~/taskInstances", "task_instances", state=state)

    def open_questions(self, since: datetime) -> list[dict[str, Any]]:
        """Return the questions to people without an answer that were put since a moment (created_at, …).

        A question that lapsed stays without one: the state of its `task_instance` tells.
        """
        asked = {"response_received": False, "created_at_gte": since.isoformat()}
        return self._pages("dags/~/dagRuns/~/hitlDetails", "hitl_details", **asked)

    def started_by(self, dag_id: str, run_id: str) -> list[tuple[str, str]]:
        """Return the DAG and the id of each run that the asset events of a run have started so far."""
        made = [made for event in self.asset_events(dag_id, run_id) for made in event["created_dagruns"]]
        return [(one["dag_id"], one["run_id"]) for one in made]

    def asset_events(self, dag_id: str, run_id: str) -> list[dict[str, Any]]:
        """Return the asset events that a run has emitted, as Airflow describes them (uri, extra, …)."""
        events: list[dict[str, Any]] = self._get("assets/events", source_dag_id=dag_id, source_run_id=run_id)[
            "asset_events"
        ]
        return events

    def answer(self, dag_id: str, run_id: str, task_id: str, option: str, **form: Any) -> dict[str, Any]:
        """Answer, as a person, the question that a task waits with, and return what was recorded (responded_by, …).

        Args:
            dag_id: of the run.
            run_id: of the run.
            task_id: that asks.
            option: that is chosen.
            form: what is filled in besides.

        Raises:
            httpx.HTTPStatusError: there is no such question, or it was answered before (409).
        """
        path = f"/api/v2/dags/{dag_id}/dagRuns/{run_id}/taskInstances/{task_id}/-1/hitlDetails"
        answer = self._http.patch(path, json={"chosen_options": [option], "params_input": form}).raise_for_status()
        recorded: dict[str, Any] = answer.json()
        return recorded

    def tasks(self, dag_id: str, run_id: str) -> list[TaskInstance]:
        """Return the run's task instances, in the order they started; those not started last."""
        entries = self._pages(f"dags/{dag_id}/dagRuns/{run_id}/taskInstances", "task_instances")
        found = [_task(entry) for entry in entries]
        late = datetime.max.timestamp()
        return sorted(found, key=lambda task: task.started_at.timestamp() if task.started_at else late)

    def xcom(self, dag_id: str, run_id: str, task_id: str, key: str = "return_value", map_index: int = -1) -> Any:
        """Return what a task handed on; None when it handed on nothing."""
        path = f"dags/{dag_id}/dagRuns/{run_id}/taskInstances/{task_id}/xcomEntries/{key}"
        answer = self._http.get(f"/api/v2/{path}", params={"map_index": map_index, "deserialize": False})
        if answer.status_code == httpx.codes.NOT_FOUND:
            return None
        return answer.raise_for_status().json()["value"]

    def log_of(self, dag_id: str, run_id: str, task: TaskInstance) -> str:
        """Return the log of a task's last try as text, or why there is none."""
        path = f"/api/v2/dags/{dag_id}/dagRuns/{run_id}/taskInstances/{task.task_id}/logs/{max(task.try_number, 1)}"
        try:
            answer = self._http.get(path, params={"map_index": task.map_index, "full_content": True})
            content = answer.raise_for_status().json()["content"]
        except (httpx.HTTPError, KeyError) as error:
            return f"(no log: {error})"
        return "\n".join(_log_lines(content))

    def wait(
        self,
        dag_id: str,
        run_id: str,
        timeout: float,
        until: Callable[[str, list[TaskInstance]], bool] | None = None,
        on_change: Callable[[str, list[TaskInstance]], None] | None = None,
        poll_seconds: float = 1.0,
    ) -> str:
        """Follow a run until it ends, or until a condition holds, and return its state.

        Raises:
            TimeoutError: neither happened in `timeout` seconds; the message lists the unfinished tasks.
        """
        deadline = time.monotonic() + timeout
        seen: list[TaskInstance] | None = None
        while True:
            state = self.run(dag_id, run_id)["state"]
            # The costlier question; nobody asks it who only waits for the end.
            tasks = self.tasks(dag_id, run_id) if on_change or until else []
            if on_change and tasks != seen:
                on_change(state, tasks)
            seen = tasks
            if (until and until(state, tasks)) or state not in RUNNING_STATES:
                return str(state)
            if time.monotonic() > deadline:
                tasks = self.tasks(dag_id, run_id)
                open_tasks = ", ".join(f"{task.label} {task.state}" for task in tasks if task.ended_at is None)
                raise TimeoutError(f"run {run_id} of {dag_id} is still {state} after {timeout:.0f} s: {open_tasks}")
            time.sleep(poll_seconds)


def _task(entry: dict[str, Any]) -> TaskInstance:
    return TaskInstance(
        task_id=entry["task_id"],
        map_index=entry["map_index"],
        state=entry["state"] or "none",
        try_number=entry["try_number"],
        started_at=_moment(entry["start_date"]),
        ended_at=_moment(entry["end_date"]),
        operator=entry.get("operator_name") or entry.get("operator") or "",
    )


def _moment(text: str | None) -> datetime | None:
    return datetime.fromisoformat(text) if text else None


def _log_lines(content: Any) -> Iterator[str]:
    """Airflow gives structured records, or plain strings where it has no more."""
    for record in content if isinstance(content, list) else [content]:
        if isinstance(record, str):
            yield record
            continue
        level = f"{record.get('level', '').upper()} " if record.get("level") else ""
        yield f"{record.get('timestamp') or ''} {level}{record.get('event', '')}".strip()
        for failure in record.get("error_detail") or []:
            yield f"  {failure.get('exc_type')}: {failure.get('exc_value')}"
