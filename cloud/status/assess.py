"""From what was read to what is told. Pure functions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from itertools import groupby

from cloud.status import facts, report
from cloud.status.facts import AirflowFacts, Alarm, DatasetFacts, Facts, Read, Unread
from mlplatform.config.names import DEPLOYMENT_POOL, dag_id, dag_ids, dataset_of, training_pool
from mlplatform.documents.decisions import AuditEntry
from mlplatform.documents.monitoring import MonitorResult

WAITS_FOR_DATA, WAITS_FOR_TURN = "ingest.wait_for_data", "ingest.take_turn"
UNWELL = frozenset({"Failed", "UpdateRollbackFailed", "OutOfService", "Deleting"})
GRACE = timedelta(hours=1)
"""How late a run of monitoring may be, and how long it may take."""


def assess(read: Facts) -> report.Report:
    """Return the report on an environment."""
    enabled = [one for one in read.datasets if one.enabled is True]
    alarms = _by_endpoint(read.alarms, [one.endpoint_name for one in enabled if one.endpoint_name])
    return report.Report(
        environment=read.environment,
        at=read.at,
        datasets=[_dataset(one, read, alarms) for one in enabled],
        disabled=[one.name for one in read.datasets if one.enabled is False],
        refused={one.name: one.enabled.reason for one in read.datasets if isinstance(one.enabled, Unread)},
    )


def _dataset(one: DatasetFacts, read: Facts, alarms: Read[Mapping[str, Sequence[Alarm]]]) -> report.DatasetStatus:
    airflow = _of_dataset(read.airflow, one.name)
    live = _live(one, airflow)
    return report.DatasetStatus(
        dataset=one.name,
        live=live,
        endpoint=_endpoint(one, alarms, is_live=bool(live.versions)),
        activity=_activity(one.name, airflow),
        waiting=_waiting(one, airflow),
        monitoring=_monitoring(one, airflow, read.at, is_live=bool(live.versions)),
    )


def _of_dataset(airflow: AirflowFacts, dataset: str) -> AirflowFacts:
    """Return what Airflow says of one dataset."""

    def mine[T: facts.Run | facts.Task | facts.OpenQuestion](found: Read[Sequence[T]]) -> Read[Sequence[T]]:
        return found if isinstance(found, Unread) else [one for one in found if dataset_of(one.dag) == dataset]

    dags = airflow.dags
    if not isinstance(dags, Unread):
        dags = {name: dags[name] for name in dag_ids(dataset) if name in dags}
    return AirflowFacts(
        url=airflow.url,
        dags=dags,
        runs=mine(airflow.runs),
        tasks=mine(airflow.tasks),
        questions=mine(airflow.questions),
        failed_monitoring=mine(airflow.failed_monitoring),
        pools=airflow.pools,
    )


def _by_endpoint(alarms: Read[Sequence[Alarm]], endpoints: Sequence[str]) -> Read[Mapping[str, Sequence[Alarm]]]:
    """Return the alarms of each endpoint; those that name none in their dimensions have its name before their own."""
    if isinstance(alarms, Unread):
        return alarms
    found: dict[str, list[Alarm]] = {name: [] for name in endpoints}
    longest_first = sorted(endpoints, key=len, reverse=True)  # one endpoint's name may begin with another's
    for alarm in alarms:
        of = alarm.endpoint or next((name for name in longest_first if alarm.name.startswith(f"{name}-")), None)
        if of in found:
            found[of].append(alarm)
    return found


# --- What is live ---------------------------------------------------------------------------------


def _live(one: DatasetFacts, airflow: AirflowFacts) -> report.Live:
    wrong: list[str] = []
    unknown: list[str] = []
    note = None
    entry, endpoint = one.put_live, one.endpoint
    if isinstance(entry, Unread):
        unknown.append(f"who put it live, and when: {entry.reason}")
        entry = None
    if isinstance(endpoint, Unread):
        unknown.append(f"what is live: {endpoint.reason}")
        return report.Live(unknown=unknown)  # what was put live once need not be live
    if endpoint is None:
        if entry is not None:
            wrong.append(f"nothing is live, though {_was_put_live(entry)}")
        return report.Live(wrong=wrong, unknown=unknown)
    versions, more = _versions(one, endpoint)
    if not versions:
        if entry is not None:
            wrong.append(f"no model is live, though {_was_put_live(entry)}")
        return report.Live(wrong=wrong, unknown=unknown)
    told = _told_by(entry) if entry else {}
    if problem := _not_logged(one, endpoint):
        told = {}
        if isinstance(airflow.runs, Unread):
            unknown.append(f"{problem}; whether a deployment is at work: {airflow.runs.reason}")
        elif any(run.dag.startswith(("deploy__", "rollback__")) for run in airflow.runs):
            note, more = f"{problem}; a deployment is at work, and is written down when it is done", []
        else:
            wrong.append(problem)
    known = {**told, "versions": versions, "note": note, "wrong": wrong, "unknown": [*unknown, *more]}
    return report.Live.model_validate(known)


def _not_logged(one: DatasetFacts, endpoint: facts.Endpoint) -> str | None:
    """Return how what is live differs from the audit log's last word; None where it does not, or nobody knows."""
    if one.put_live is None:
        return f"live is {endpoint.config_name}, and the audit log does not say who put it there"
    if isinstance(one.put_live, Unread):
        return None
    last = one.put_live.details.get("endpoint_config", endpoint.config_name)
    if last == endpoint.config_name:
        return None
    return f"live is {endpoint.config_name}, the audit log's last is {last}"


def _versions(one: DatasetFacts, endpoint: facts.Endpoint) -> tuple[list[report.LiveVersion], list[str]]:
    unknown: list[str] = []
    total = sum(variant.weight for variant in endpoint.variants)
    versions = []
    for variant in endpoint.variants:
        if variant.version is None:
            continue
        family, approval = one.families.get(variant.version), one.approvals.get(variant.version)
        for what, found in (("family", family), ("approval", approval)):
            if isinstance(found, Unread):
                unknown.append(f"{what} of version {variant.version}: {found.reason}")
        versions.append(
            report.LiveVersion(
                variant=variant.name,
                version=variant.version,
                family=family if isinstance(family, str) else None,
                share=variant.weight / total if total else 0.0,
                approval=_approval(approval),
            )
        )
    return versions, unknown


def _was_put_live(entry: AuditEntry) -> str:
    return f"version {entry.model_version} was {entry.kind} at {_moment(entry.at)}"


def _told_by(entry: AuditEntry) -> dict[str, object]:
    return {
        "registered_model": entry.registered_model,
        "since": entry.at,
        "how": entry.kind,
        "by": entry.by,
        "reason": entry.reason,
        "dag_run": entry.dag_run,
    }


def _approval(found: Read[AuditEntry | None] | None) -> report.Approval | None:
    if found is None or isinstance(found, Unread):
        return None
    return report.Approval(by=found.by, at=found.at, reason=found.reason)


# --- The endpoint ---------------------------------------------------------------------------------


def _endpoint(one: DatasetFacts, alarms: Read[Mapping[str, Sequence[Alarm]]], *, is_live: bool) -> report.Endpoint:
    name, found, settings = one.endpoint_name, one.endpoint, one.settings
    wrong: list[str] = []
    unknown: list[str] = []
    if isinstance(settings, Unread) or name is None:
        return report.Endpoint(unknown=[f"endpoint: {settings.reason if isinstance(settings, Unread) else 'no name'}"])
    status, rollout, configuration = None, None, None
    if isinstance(found, Unread):
        unknown.append(f"endpoint {name}: {found.reason}")
    elif found is None:
        status = "absent"
    else:
        status, configuration = found.status, found.config_name
        if status in UNWELL:
            wrong.append(f"endpoint {name} is {status}" + (f": {found.failure}" if found.failure else ""))
        if found.update is not None:
            rollout = report.Rollout(
                version=found.update.version,
                configuration=found.update.config_name,
                stage=found.update.stage,
                since=found.update.since,
                bake_seconds=settings.serving.rollout.bake_seconds,
            )
    ringing: list[Alarm] = []
    missing: list[str] = []
    if isinstance(alarms, Unread):
        unknown.append(f"alarms: {alarms.reason}")
    else:
        mine = alarms.get(name, [])
        ringing = [alarm for alarm in mine if alarm.state == "ALARM"]
        wrong += [f"alarm {alarm.name} rings" for alarm in ringing]
        wanted = settings.serving.alarms.get(one.name, [])
        missing = sorted(set(wanted) - {alarm.name for alarm in mine})
        if missing:
            wrong.append(f"rollback alarms are missing: {', '.join(missing)}")
        if is_live and not wanted:
            wrong.append("no alarms roll a deployment back: none are configured for it")
    return report.Endpoint(
        name=name,
        status=status,
        configuration=configuration,
        rollout=rollout,
        alarms=[report.RingingAlarm(name=alarm.name, since=alarm.since) for alarm in ringing],
        missing_rollback_alarms=missing,
        wrong=wrong,
        unknown=unknown,
    )


# --- What runs, and what waits --------------------------------------------------------------------


def _activity(dataset: str, airflow: AirflowFacts) -> report.Activity:
    wrong: list[str] = []
    unknown: list[str] = []
    paused: list[str] = []
    if isinstance(airflow.dags, Unread):
        unknown.append(f"DAGs: {airflow.dags.reason}")
    else:
        paused = sorted(name for name, dag in airflow.dags.items() if dag.paused)
        if gone := [name for name in dag_ids(dataset) if name not in airflow.dags]:
            wrong.append(f"Airflow has no DAG {', '.join(gone)}")
    if isinstance(airflow.pools, Unread):
        unknown.append(f"pools: {airflow.pools.reason}")
    elif shut := [name for name in (training_pool(dataset), DEPLOYMENT_POOL) if airflow.pools.get(name, 0) == 0]:
        wrong.append(f"Airflow has no pool {', '.join(shut)}, or one without slots: its tasks never start")
    if isinstance(airflow.runs, Unread):
        return report.Activity(wrong=wrong, unknown=[*unknown, f"runs: {airflow.runs.reason}"], paused=paused)
    if isinstance(airflow.tasks, Unread) and airflow.runs:
        unknown.append(f"tasks: {airflow.tasks.reason}")
    tasks = [] if isinstance(airflow.tasks, Unread) else airflow.tasks
    runs = [
        report.CurrentRun(
            dag=run.dag,
            run=run.run,
            state=run.state,
            since=run.since,
            tasks=_tasks([task for task in tasks if (task.dag, task.run) == (run.dag, run.run)]),
        )
        for run in sorted(airflow.runs, key=lambda run: (run.dag, run.run))
    ]
    wrong += [f"run {run.run} of {run.dag} is queued, and the DAG is paused" for run in runs if _is_stuck(run, paused)]
    return report.Activity(runs=runs, paused=paused, wrong=wrong, unknown=unknown)


def _is_stuck(run: report.CurrentRun, paused: Sequence[str]) -> bool:
    return run.state == "queued" and run.dag in paused


def _tasks(tasks: Sequence[facts.Task]) -> list[report.CurrentTasks]:
    found = []
    for (task, state), same in groupby(sorted(tasks, key=_name_and_state), key=_name_and_state):
        begun = [one.since for one in same]
        first = min((since for since in begun if since), default=None)
        found.append(report.CurrentTasks(task=task, state=state, count=len(begun), since=first))
    return found


def _name_and_state(task: facts.Task) -> tuple[str, str]:
    return task.task, task.state


def _waiting(one: DatasetFacts, airflow: AirflowFacts) -> report.Waiting:
    unknown: list[str] = []
    questions: list[report.Question] = []
    runs: list[report.WaitingRun] = []
    if isinstance(airflow.questions, Unread):
        unknown.append(f"questions: {airflow.questions.reason}")
    else:
        questions, more = _questions(one, airflow.questions, airflow.url)
        unknown += more
    if isinstance(airflow.tasks, Unread):
        unknown.append(f"what runs wait for: {airflow.tasks.reason}")
    else:
        for task in sorted(airflow.tasks, key=lambda task: (task.dag, task.run)):
            if task.task == WAITS_FOR_DATA:
                runs.append(_waiting_run(task, "data"))
            elif task.task == WAITS_FOR_TURN:
                if isinstance(one.turn, Unread):
                    unknown.append(f"whose turn it is: {one.turn.reason}")
                runs.append(_waiting_run(task, "turn", None if isinstance(one.turn, Unread) else one.turn))
    return report.Waiting(questions=questions, runs=runs, unknown=unknown)


def _waiting_run(task: facts.Task, what: str, held_by: str | None = None) -> report.WaitingRun:
    found = {"dag": task.dag, "run": task.run, "waits_for": what, "since": task.since, "held_by": held_by}
    return report.WaitingRun.model_validate(found)


def _questions(
    one: DatasetFacts, asked: Sequence[facts.OpenQuestion], url: str
) -> tuple[list[report.Question], list[str]]:
    unknown = []
    settings = None if isinstance(one.settings, Unread) else one.settings
    oldest_first = sorted(asked, key=lambda question: question.asked_at)
    newest = oldest_first[-1] if oldest_first else None
    if asked and settings is None:
        assert isinstance(one.settings, Unread)
        unknown.append(f"deadlines: {one.settings.reason}")
    questions = []
    for question in oldest_first:
        if isinstance(question.version, Unread):
            unknown.append(f"version that {question.run} asks about: {question.version.reason}")
        assert newest is not None
        superseded = None if question is newest else (_version(newest.version) or f"that of {newest.run}")
        hours = timedelta(hours=settings.approval.deadline_hours) if settings else None
        questions.append(
            report.Question(
                version=_version(question.version),
                dag=question.dag,
                run=question.run,
                asked_at=question.asked_at,
                deadline=question.asked_at + hours if hours else None,
                who=list(question.who),
                where=f"{url.rstrip('/')}/dags/{question.dag}/runs/{question.run}/tasks/{question.task}/required_actions",
                in_mlflow_too=settings.approval.from_mlflow if settings else None,
                superseded_by=superseded,
            )
        )
    return questions, unknown


def _version(found: Read[str]) -> str | None:
    return None if isinstance(found, Unread) else found


# --- Monitoring -----------------------------------------------------------------------------------


def _monitoring(one: DatasetFacts, airflow: AirflowFacts, now: datetime, *, is_live: bool) -> report.Monitoring:
    if isinstance(one.settings, Unread):
        return report.Monitoring(unknown=[f"monitoring: {one.settings.reason}"])
    limits, wrong, unknown = one.settings.monitoring, [], []
    found: dict[str, object] = {"schedule": limits.schedule}
    last = one.verdict
    if isinstance(last, Unread):
        unknown.append(f"verdict of monitoring: {last.reason}")
        last = None
    if last is not None:
        verdict = last.verdict
        found |= {"at": last.finished_at, "outcome": verdict.outcome, "reasons": verdict.reasons}
        found |= {"report": last.report_uri, "quality": _quality(last)}
        found["worst"] = _worst(last, limits.maximum_feature_psi, limits.maximum_prediction_psi)
        if verdict.outcome in ("drifted", "degraded") and is_live:
            wrong.append(f"the live model has {verdict.outcome}: {'; '.join(verdict.reasons)}")
    overdue: Read[str | None] = None
    if limits.schedule is not None and is_live:
        overdue = _overdue(dag_id("monitor", one.name), airflow, last.finished_at if last else None, now)
    if isinstance(overdue, Unread):
        unknown.append(f"whether monitoring is overdue: {overdue.reason}")
        found["overdue"] = None
    else:
        found["overdue"] = overdue is not None
        if overdue:
            wrong.append(f"monitoring is overdue: {overdue}")
    if not isinstance(airflow.dags, Unread) and (dag := airflow.dags.get(dag_id("monitor", one.name))):
        found["next_at"] = dag.next_run if limits.schedule is not None else None
    return report.Monitoring.model_validate({**found, "wrong": wrong, "unknown": unknown})


def _overdue(monitor: str, airflow: AirflowFacts, last: datetime | None, now: datetime) -> Read[str | None]:
    """Return why there should be a later verdict; None where there need not be."""
    if isinstance(airflow.dags, Unread):
        return airflow.dags
    dag = airflow.dags.get(monitor)
    if dag is None:
        return f"Airflow has no DAG {monitor}"
    if dag.paused:
        return f"{monitor} is paused"
    if dag.next_run is not None and dag.next_run + GRACE < now:
        return f"Airflow has not started the run that was due at {_moment(dag.next_run)}"
    if isinstance(airflow.runs, Unread):
        return airflow.runs
    for run in airflow.runs:
        if run.dag == monitor and run.since is not None and run.since + GRACE < now:
            return f"run {run.run} is {run.state} since {_moment(run.since)}"
    if isinstance(airflow.failed_monitoring, Unread):
        return airflow.failed_monitoring
    for run in airflow.failed_monitoring:
        if run.since is not None and (last is None or run.since > last):
            return f"run {run.run} failed at {_moment(run.since)}, and there is no verdict since"
    return None


def _worst(result: MonitorResult, feature_limit: float, prediction_limit: float) -> report.Worst | None:
    measured = []
    for watched in result.versions:
        if result.verdict.versions.get(watched.model_version, result.verdict.outcome) == "too-few":
            continue  # a few rows are far from anything
        moved = {name: (drift.psi, feature_limit) for name, drift in watched.features.items()}
        if watched.prediction is not None:
            moved["prediction"] = (watched.prediction.psi, prediction_limit)
        measured += [
            report.Worst(version=watched.model_version, name=name, psi=psi, limit=limit)
            for name, (psi, limit) in moved.items()
        ]
    return max(measured, key=lambda one: one.psi / one.limit, default=None)


def _quality(result: MonitorResult) -> list[report.Quality]:
    return [
        report.Quality(
            version=watched.model_version,
            metric=watched.quality.metric,
            value=watched.quality.value,
            evaluated=watched.quality.evaluated,
        )
        for watched in result.versions
        if watched.quality is not None and watched.quality.value is not None
    ]


def _moment(at: datetime) -> str:
    return f"{at:%Y-%m-%d %H:%M} UTC"
