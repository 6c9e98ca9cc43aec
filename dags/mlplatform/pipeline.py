"""What the Python tasks of ``train_model`` do, with S3 and MLflow but without Airflow."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, cast

from mlplatform import (
    approval,
    families,
    gate,
    landing,
    notifications,
    placement,
    registry,
    reports,
    runs,
    search,
    selection,
    storage,
    tracking,
)
from mlplatform.config import Candidate, InputManifest, RunConfig, Settings, Trial, digest
from mlplatform.request import Checked, check_request
from mlplatform.results import (
    DeployResult,
    EvaluateResult,
    MonitorResult,
    PrepareResult,
    StepFailure,
    StepResult,
    TrainResult,
    TrialResult,
    ValidateResult,
)
from mlplatform.runs import RunPaths
from mlplatform.selection import Selection
from mlplatform.steps import ERROR, RESULT, Refused

log = logging.getLogger(__name__)

RESULTS: dict[str, type[StepResult]] = {
    "validate": ValidateResult,
    "prepare": PrepareResult,
    "train": TrainResult,
    "evaluate": EvaluateResult,
    "deploy": DeployResult,
    "monitor": MonitorResult,
}
_PARALLEL = 16


@dataclass(frozen=True)
class Resolved:
    """What a run will do, or why it has nothing to do."""

    paths: RunPaths
    granted: bool
    message: str


def awaited_key(settings: Settings, params: Mapping[str, Any]) -> str:
    """Return the S3 pattern of the files a run waits for."""
    checked = check_request(settings, params)
    request, model = checked.request, checked.model
    start = settings.buckets.landing if request.wait_for_new_data else f"{settings.buckets.data}/raw"
    return f"s3://{start}/{request.dataset}/{model.trigger_table}/*.parquet"


def resolve_inputs(
    settings: Settings, params: Mapping[str, Any], owner: str, is_live: Callable[[str], bool]
) -> Resolved:
    """Fix what a run reads, and claim the run.

    Raises:
        ConfigError: see `check_request`.
        Refused: a table has no file yet.
    """
    checked = check_request(settings, params)
    model = checked.model
    landed = landing.list_inputs(settings.buckets.landing, model.name, model.tables, new=True)
    accepted = landing.list_inputs(settings.buckets.data, f"raw/{model.name}", model.tables, new=False)
    plan = landing.plan(landed, accepted)
    for item in plan.duplicates:
        log.info("%s was accepted before, byte for byte; it is removed from the landing bucket", item.uri)
    if missing := landing.missing_tables(plan.objects, model):
        raise Refused(
            f"{model.name}: the table {missing[0]!r} has no file yet; land one under "
            f"s3://{settings.buckets.landing}/{model.name}/{missing[0]}/ before those of {model.trigger_table!r}"
        )
    key = runs.run_key(plan.objects, _decisive(settings, checked), settings.images)
    paths = RunPaths.of(settings.buckets.data, model.name, key)
    record = runs.RunRecord(run_key=key, dataset=model.name, owner=owner, state="running", started_at=datetime.now(UTC))
    claim = runs.claim(paths, settings.buckets.data, record, is_live)
    landing.remove(plan.duplicates)
    if not claim.granted:
        return Resolved(paths, False, _why_nothing(claim.record))
    data_digest = digest(sorted(item.content_id for item in plan.objects))
    config = _run_config(settings, checked, key, {"data_digest": data_digest, "dag_run_id": owner})
    storage.write_document(paths.config, config)
    storage.write_document(paths.inputs, InputManifest(objects=plan.objects))
    new = sum(item.new for item in plan.objects)
    return Resolved(paths, True, f"{len(plan.objects)} files, {new} of them new; run {key} in {paths.prefix}")


def _decisive(settings: Settings, checked: Checked) -> dict[str, Any]:
    """Return what was chosen and decides the outcome of a run."""
    request = checked.request
    return {
        "model": checked.model.model_dump(mode="json"),
        "family": checked.family.model_dump(mode="json"),
        "policy": checked.policy.model_dump(mode="json"),
        "search": checked.search.model_dump(mode="json", exclude={"maximum_trials"}),  # that only limits the next
        "trials": request.trials,
        "device": request.device,
        "seed": request.seed,
        "pods_per_trial": settings.training.pods_per_trial,
        "engine": settings.preparation.engine,
    }


def _run_config(settings: Settings, checked: Checked, key: str, lineage: Mapping[str, str]) -> RunConfig:
    request, model = checked.request, checked.model
    policy = checked.policy
    chosen = [part.model_dump(mode="json") for part in (model, checked.family, policy, checked.search)]
    return RunConfig(
        run_key=key,
        seed=request.seed,
        family=checked.family,
        model=model,
        policy=policy,
        tracking_uri=settings.mlflow.tracking_uri,
        region=settings.aws.region,
        device=request.device,
        checkpoint_seconds=settings.training.checkpoint_seconds,
        search=checked.search,
        study_database=settings.training.study_database,
        preparation=settings.preparation,
        lineage={
            "environment": settings.environment,
            "git_sha": settings.git_sha,
            "image": placement.train_image(settings, checked.family, request.device),
            "config_digest": digest(*chosen),
            **lineage,
        },
    )


def settle_landing(settings: Settings, prefix: str) -> str:
    """Accept or quarantine a run's new files, as its validation found; return what was done.

    Raises:
        Refused: the run never got as far as knowing its files.
    """
    paths = _claimed(prefix)
    config = storage.read_document(paths.config, RunConfig)
    manifest = storage.read_document(paths.inputs, InputManifest)
    new = [item for item in manifest.objects if item.new]
    if storage.try_read_document(paths.step("validate", RESULT), ValidateResult) is not None:
        settled = landing.accept(manifest, settings.buckets.data, config.model.name)
        storage.write_document(paths.inputs, settled)
        return f"{len(new)} new files accepted"
    failure = storage.try_read_document(paths.step("validate", ERROR), StepFailure)
    if failure is None or failure.kind != "bad-input":
        return f"validation gave no verdict on the files; {len(new)} new ones stay in the landing bucket"
    moved = landing.quarantine(manifest, failure, config.run_key)
    names = ", ".join(item.uri for item in moved) or "no file"
    return f"moved to quarantine: {names}. Reason: {failure.message}"


def generate_trials(settings: Settings, prefix: str, count: int) -> list[list[str]]:
    """Choose the trials, write the configurations of their pods and return these pods' arguments.

    The MLflow run that the trials' runs are nested in is made here, or found again.

    Raises:
        ConfigError: the search space is not searched with so many trials.
    """
    paths = _claimed(prefix)
    config = storage.read_document(paths.config, RunConfig)
    method, space = config.search.method, families.search_space(config.model, config.family)
    fixed = config.model.families[config.family.name].params
    source = families.search_source(config.model, config.family)
    trials = search.generate_trials(fixed, space, method, count, config.seed, source)
    if len(trials) < count:
        log.warning("%d trials instead of %d: the search space has no more distinct points", len(trials), count)
    parent = tracking.open_search(
        config.tracking_uri,
        config.model.name,
        config.run_key,
        tags={**config.lineage, "dataset": config.model.name, "task": config.model.task, "run_prefix": prefix},
        params={
            "family": config.family.name,
            "search": method,
            "trials": str(len(trials)),
            "metric": config.model.metric,
            "seed": str(config.seed),
            "device": config.device,
        },
    )

    def write(pod: tuple[int, list[Trial]]) -> list[str]:
        index, pack = pod
        uri = paths.training_pod(index, "config.json")
        storage.write_document(uri, config.model_copy(update={"trials": pack, "parent_run_id": parent}))
        return ["train", "--config", uri, "--input", paths.step("prepare"), "--output", paths.training_pod(index)]

    pods = enumerate(search.packs(trials, config.search.trials_per_pod))
    with ThreadPoolExecutor(_PARALLEL) as pool:
        return list(pool.map(write, pods))


def select_best(settings: Settings, prefix: str, count: int) -> dict[str, Any]:
    """Read all trials' results, keep the table, close the search's MLflow run, and return the best one's facts.

    Args:
        settings: of the environment.
        prefix: of the run.
        count: how many training pods there were.

    Raises:
        Refused: too few trials succeeded, or none was ever made.
    """
    paths = _claimed(prefix)
    if not count:
        raise Refused("no trial was generated: an earlier step failed, see its log")
    config = storage.read_document(paths.config, RunConfig)

    def read(index: int) -> list[TrialResult]:
        planned = storage.read_document(paths.training_pod(index, "config.json"), RunConfig).trials
        result = storage.try_read_document(paths.training_pod(index, RESULT), TrainResult)
        failure = None
        if result is None:
            failure = storage.try_read_document(paths.training_pod(index, ERROR), StepFailure)
        return selection.outcomes(config.family.name, planned, result, failure.message if failure else None)

    with ThreadPoolExecutor(_PARALLEL) as pool:
        trials = [trial for pod in pool.map(read, range(count)) for trial in pod]
    metric = config.model.metric
    best = selection.select_best(trials, metric, settings.training.minimum_successful_share)
    hours, summary = selection.gpu_hours(trials), selection.summary(trials, metric)
    selected = Selection(metric=metric, best=best.trial, summary=summary, gpu_hours=hours, trials=trials)
    storage.write_document(paths.selection, selected)
    tracking.close_search(
        config.tracking_uri,
        config.model.name,
        config.run_key,
        "FINISHED",
        metrics={**{name: value for name, value in best.metrics.items() if value is not None}, "gpu_hours": hours},
        tags={"best_trial": str(best.trial), "best_run_id": cast("str", best.run_id), "trials": summary},
    )
    log.info("%s. Trial %d is best: %s %s", summary, best.trial, metric, best.metrics[metric])
    return {
        "trial": best.trial,
        "metric": metric,
        "value": best.metrics[metric],
        "run_id": best.run_id,
        "summary": summary,
        "gpu_hours": hours,
    }


def register(settings: Settings, prefix: str) -> dict[str, str]:
    """Register the best trial's model and prepare its evaluation; doing it again finds the same version."""
    paths = _claimed(prefix)
    config = storage.read_document(paths.config, RunConfig)
    best = _best(storage.read_document(paths.selection, Selection))
    run_id, model_digest = cast("str", best.run_id), cast("str", best.model_digest)
    validated = storage.try_read_document(paths.step("validate", RESULT), ValidateResult)
    version = registry.register(
        settings.mlflow.tracking_uri,
        config.model.registered_model,
        description=config.model.description,
        source=cast("str", best.model_uri),
        run_id=run_id,
        tags={
            **config.lineage,
            "run_key": config.run_key,
            "trial": str(best.trial),
            "dataset": config.model.name,
            "task": config.model.task,
            "family": best.family,
            "model_digest": model_digest,
            "run_prefix": prefix,
            **({"validation_report": validated.report_uri} if validated is not None else {}),
        },
    )
    candidate = Candidate(version=version, run_id=run_id, model_digest=model_digest)
    storage.write_document(paths.step("evaluate", "config.json"), config.model_copy(update={"candidate": candidate}))
    _drop_stale_evaluation(settings, paths, config, version)
    log.info("version %s of %s is trial %d", version, config.model.registered_model, best.trial)
    return {"version": version, "run_id": run_id}


def decide(settings: Settings, prefix: str) -> gate.Decision:
    """Let the gate judge the evaluation, and write the decision down.

    Raises:
        Refused: the evaluation is not of this candidate, not as it was written, or not against the present champion.
    """
    paths = _claimed(prefix)
    config = storage.read_document(paths.step("evaluate", "config.json"), RunConfig)
    evaluation = storage.read_document(paths.step("evaluate", RESULT), EvaluateResult)
    candidate = cast("Candidate", config.candidate)
    name = config.model.registered_model
    if evaluation.candidate.model_version != candidate.version:
        raise Refused(
            f"{paths.step('evaluate', RESULT)} is about version {evaluation.candidate.model_version} of {name}, "
            f"not about the candidate, version {candidate.version}; clear the task register and all after it"
        )
    if evaluation.evaluation_digest != evaluation.digest_of(name, candidate.model_digest):
        raise Refused(
            f"{paths.step('evaluate', RESULT)}: its numbers do not have the digest {evaluation.evaluation_digest} "
            "that it was written with, so it was changed since; delete it and clear the task evaluate"
        )
    compared = evaluation.champion.model_version if evaluation.champion else None
    present = registry.version_with_alias(settings.mlflow.tracking_uri, name, registry.CHAMPION)
    if present not in (compared, candidate.version):
        raise Refused(
            f"{name}: the champion is now version {present}, but the evaluation compared with "
            f"{f'version {compared}' if compared else 'none'}; clear the task register and all after it"
        )
    validation = storage.try_read_document(paths.step("validate", RESULT), ValidateResult)
    decision = gate.decide(evaluation, validation, config.policy, config.model.task, config.model.metric)
    storage.write_document(paths.decision, decision)
    registry.tag_version(
        settings.mlflow.tracking_uri,
        name,
        candidate.version,
        {
            "gate_outcome": decision.outcome,
            "gate_reasons": "\n".join(decision.reasons),
            "evaluation_digest": decision.evaluation_digest,
            "evaluation_report": evaluation.report_uri,
        },
    )
    log.info("%s: %s", decision.outcome, "; ".join(decision.reasons))
    return decision


def question(settings: Settings, prefix: str) -> approval.Question:
    """Return what an approval of a run's candidate is about."""
    paths = _claimed(prefix)
    config = storage.read_document(paths.step("evaluate", "config.json"), RunConfig)
    decision = storage.read_document(paths.decision, gate.Decision)
    candidate = cast("Candidate", config.candidate)
    return approval.Question(
        dataset=config.model.name,
        registered_model=config.model.registered_model,
        version=candidate.version,
        run_id=candidate.run_id,
        model_digest=candidate.model_digest,
        evaluation_digest=decision.evaluation_digest,
        champion_version=decision.champion_version,
        prefix=prefix,
    )


def ask(settings: Settings, prefix: str) -> dict[str, str]:
    """Return ``subject`` and ``body`` of the question that a person is asked, in Markdown."""
    paths, asked = _claimed(prefix), question(settings, prefix)
    evaluation = storage.read_document(paths.step("evaluate", RESULT), EvaluateResult)
    decision = storage.read_document(paths.decision, gate.Decision)
    report, page = reports.page(evaluation.report_uri), _page(settings, asked)
    champion = f"instead of version {asked.champion_version}" if asked.champion_version else "as the first model"
    return {
        "subject": f"Deploy version {asked.version} of {asked.dataset} {champion}?",
        "body": approval.body(asked, decision, evaluation, report, page),
    }


def tell_that_approval_is_wanted(settings: Settings, prefix: str, link: str) -> None:
    """Tell people that a candidate waits for one of them."""
    asked = question(settings, prefix)
    decision = storage.read_document(_claimed(prefix).decision, gate.Decision)
    links = [f"Answer: {link}", *_links(settings, prefix, asked)]
    hours = settings.approval.deadline_hours
    message = notifications.approval_wanted(asked.dataset, asked.version, decision.reasons, hours, links)
    notifications.send(settings, message)


def approve_automatically(settings: Settings, prefix: str) -> approval.Answer:
    """Return the policy's answer, which asks nobody.

    Raises:
        Refused: the gate did not leave it to the policy.
    """
    decision = storage.read_document(_claimed(prefix).decision, gate.Decision)
    if decision.outcome != "promote":
        raise Refused(f"the gate's outcome is {decision.outcome}: only promote needs no person")
    return approval.by_policy(decision)


def record_approval(settings: Settings, prefix: str, answer: Mapping[str, Any], dag_run: str) -> approval.Recorded:
    """Verify an answer and make it the one that holds; see `mlplatform.approval.record`.

    Raises:
        Refused: the gate rejected the candidate, or the approval does not hold any more.
    """
    decision = storage.read_document(_claimed(prefix).decision, gate.Decision)
    if decision.outcome == "reject":
        raise Refused(f"the gate rejected version {decision.candidate_version}: nobody can approve it")
    given = approval.Answer.model_validate(answer)
    return approval.record(settings, question(settings, prefix), given, dag_run)


def conclude(
    settings: Settings, prefix: str, owner: str, nothing_to_do: str | None, answer: Mapping[str, Any] | None
) -> notifications.Message:
    """Close a run's record and return what people shall be told.

    Args:
        settings: of the environment.
        prefix: of the run.
        owner: the DAG run.
        nothing_to_do: why there was nothing to do, None if there was.
        answer: that holds for the candidate; None if the gate rejected it.
    """
    paths = _claimed(prefix)
    dataset = prefix.rsplit("/", 2)[-2]
    if nothing_to_do is not None:
        return notifications.nothing_to_do(dataset, nothing_to_do)
    decision = storage.read_document(paths.decision, gate.Decision)
    asked = question(settings, prefix)
    links = _links(settings, prefix, asked)
    summary = storage.read_document(paths.selection, Selection).summary
    said = approval.Answer.model_validate(answer) if answer is not None else None
    reasons = decision.reasons
    if said is None and decision.outcome != "reject":
        raise Refused(f"the gate's outcome is {decision.outcome}, but nobody has answered; clear the tasks in approval")
    if said is not None and said.outcome == "approved":
        told = [*reasons, summary]
        message = notifications.approved(dataset, asked.version, said.by, said.reason, told, links)
    elif said is not None and said.outcome == "expired":
        reasons = [said.reason]
        message = notifications.expired(dataset, asked.version, said.reason, links)
    else:
        reasons = [f"{said.by} said no: {said.reason}"] if said is not None else reasons
        message = notifications.rejected(dataset, asked.version, [*reasons, summary], links)
    closed = runs.finish(
        paths,
        owner,
        state="finished",
        outcome="promoted" if message.event == "approved" else "rejected",
        model_version=asked.version,
        reasons=reasons,
        failed_task=None,
    )
    if closed is None:
        log.warning("%s belongs to another DAG run by now; it is left as it is", paths.record)
    return message


def _page(settings: Settings, asked: approval.Question) -> str:
    return registry.page(settings.mlflow.tracking_uri, asked.registered_model, asked.version)


def _links(settings: Settings, prefix: str, asked: approval.Question) -> list[str]:
    """Return where people read more."""
    evaluation = storage.read_document(RunPaths(prefix).step("evaluate", RESULT), EvaluateResult)
    return [_page(settings, asked), f"Report: {reports.page(evaluation.report_uri)}"]


def _best(selected: Selection) -> TrialResult:
    return next(trial for trial in selected.trials if trial.trial == selected.best)


def _claimed(prefix: str | None) -> RunPaths:
    # A template of an XCom that was never pushed renders as "None".
    if not prefix or not prefix.startswith("s3://"):
        raise Refused("no run was claimed: an earlier step failed, see its log")
    return RunPaths(prefix)


def _why_nothing(record: runs.RunRecord) -> str:
    if record.state == "running":
        return f"the DAG run {record.owner} is at work on the same data and configuration (run {record.run_key})"
    version = f"version {record.model_version} was {record.outcome}"
    return (
        f"the same data and configuration were done before by {record.owner} (run {record.run_key}): {version}, "
        f"{'; '.join(record.reasons)}. Change a parameter, for example the seed, to train again"
    )


def _drop_stale_evaluation(settings: Settings, paths: RunPaths, config: RunConfig, version: str) -> None:
    """Remove an evaluation of an earlier attempt that compared with another champion than today's."""
    uri = paths.step("evaluate", RESULT)
    evaluation = storage.try_read_document(uri, EvaluateResult)
    if evaluation is None:
        return
    name = config.model.registered_model
    present = registry.version_with_alias(settings.mlflow.tracking_uri, name, registry.CHAMPION)
    compared = evaluation.champion.model_version if evaluation.champion else None
    if evaluation.candidate.model_version == version and present in (compared, version):
        return
    log.info("the evaluation in %s is out of date (the champion is version %s now); it is done again", uri, present)
    bucket, key = storage.split_uri(uri)
    storage.client().delete_object(Bucket=bucket, Key=key)
