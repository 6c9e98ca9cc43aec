"""What the Python tasks of ``train_model`` do, with S3 and MLflow but without Airflow."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Literal, cast

from mlplatform import gate, landing, notifications, registry, runs, search, selection, storage
from mlplatform.config import (
    Candidate,
    ConfigError,
    Deployment,
    Family,
    InputManifest,
    ModelConfig,
    Policy,
    RunConfig,
    Settings,
    Strict,
    digest,
    load_model,
)
from mlplatform.results import (
    DeployResult,
    EvaluateResult,
    PrepareResult,
    StepFailure,
    StepResult,
    TrainResult,
    ValidateResult,
)
from mlplatform.runs import RunPaths
from mlplatform.steps import ERROR, RESULT, Refused

log = logging.getLogger(__name__)

RESULTS: dict[str, type[StepResult]] = {
    "validate": ValidateResult,
    "prepare": PrepareResult,
    "train": TrainResult,
    "evaluate": EvaluateResult,
    "deploy": DeployResult,
}
_PARALLEL = 16


class Request(Strict):
    """The parameters of a DAG run, as the trigger form gives them."""

    dataset: str
    family: Family
    trials: int
    seed: int
    wait_for_new_data: bool
    minimum_quality: float | None = None
    minimum_improvement: float | None = None

    @classmethod
    def of(cls, params: Mapping[str, Any]) -> Request:
        """Read the parameters of a run."""
        return cls.model_validate({name: params[name] for name in cls.model_fields})

    def policy(self, model: ModelConfig) -> Policy:
        """Return the model's policy with the thresholds this run was given instead."""
        chosen = {"minimum_quality": self.minimum_quality, "minimum_improvement": self.minimum_improvement}
        return model.policy.model_copy(update={name: value for name, value in chosen.items() if value is not None})


class Selection(Strict):
    """``selection.json``: all trials of a run, and which one goes on."""

    version: Literal[1] = 1
    metric: str
    best: int
    trials: list[TrainResult]
    failed: dict[int, str]


@dataclass(frozen=True)
class Resolved:
    """What a run will do, or why it has nothing to do."""

    paths: RunPaths
    granted: bool
    message: str


def check_request(params: Mapping[str, Any]) -> tuple[Request, ModelConfig]:
    """Read a run's parameters against the configuration.

    Raises:
        ConfigError: the dataset is not configured, or not for this model family.
    """
    request = Request.of(params)
    model = load_model(request.dataset)
    if request.family not in model.families:
        raise ConfigError(
            f"family: {request.family!r} is not configured for the dataset {request.dataset!r} "
            f"(config/models/{request.dataset}.yaml: families has {', '.join(sorted(model.families))})"
        )
    return request, model


def awaited_key(settings: Settings, params: Mapping[str, Any]) -> str:
    """Return the S3 pattern of the files a run waits for."""
    request, model = check_request(params)
    start = settings.buckets.landing if request.wait_for_new_data else f"{settings.buckets.data}/raw"
    return f"s3://{start}/{request.dataset}/{model.trigger_table}/*.parquet"


def resolve_inputs(
    settings: Settings, params: Mapping[str, Any], owner: str, is_live: Callable[[str], bool]
) -> Resolved:
    """Fix what a run reads, and claim the run.

    Raises:
        Refused: a table has no file yet.
    """
    request, model = check_request(params)
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
    policy = request.policy(model)
    key = runs.run_key(plan.objects, model, request.family, request.trials, policy, request.seed, settings.images)
    paths = RunPaths.of(settings.buckets.data, model.name, key)
    record = runs.RunRecord(run_key=key, dataset=model.name, owner=owner, state="running", started_at=datetime.now(UTC))
    claim = runs.claim(paths, settings.buckets.data, record, is_live)
    landing.remove(plan.duplicates)
    if not claim.granted:
        return Resolved(paths, False, _why_nothing(claim.record))
    config = RunConfig(
        run_key=key,
        seed=request.seed,
        family=request.family,
        model=model,
        policy=policy,
        tracking_uri=settings.mlflow.tracking_uri,
        region=settings.aws.region,
        lineage={
            "environment": settings.environment,
            "git_sha": settings.git_sha,
            "image": settings.images.trainer,
            "data_digest": digest(sorted(item.content_id for item in plan.objects)),
            "config_digest": digest(model.model_dump(mode="json"), policy.model_dump(mode="json")),
            "dag_run_id": owner,
        },
    )
    storage.write_document(paths.config, config)
    storage.write_document(paths.inputs, InputManifest(objects=plan.objects))
    new = sum(item.new for item in plan.objects)
    return Resolved(paths, True, f"{len(plan.objects)} files, {new} of them new; run {key} in {paths.prefix}")


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
    """Draw the trials, write their configurations and return the arguments of their pods."""
    paths = _claimed(prefix)
    config = storage.read_document(paths.config, RunConfig)
    trials = search.generate_trials(config.model.families[config.family], count, config.seed)
    if len(trials) < count:
        log.warning("%d trials instead of %d: the search space has no more distinct points", len(trials), count)

    def write(trial: search.Trial) -> list[str]:
        uri = paths.trial(trial.index, "config.json")
        storage.write_document(uri, config.model_copy(update={"trial": trial}))
        return ["train", "--config", uri, "--input", paths.step("prepare"), "--output", paths.trial(trial.index)]

    with ThreadPoolExecutor(_PARALLEL) as pool:
        return list(pool.map(write, trials))


def select_best(settings: Settings, prefix: str, count: int) -> dict[str, Any]:
    """Read all trials' results, keep the table, and return the best one's facts.

    Args:
        settings: of the environment.
        prefix: of the run.
        count: how many trials there were.

    Raises:
        Refused: too few trials succeeded, or none was ever made.
    """
    paths = _claimed(prefix)
    if not count:
        raise Refused("no trial was generated: an earlier step failed, see its log")
    config = storage.read_document(paths.config, RunConfig)

    def read(index: int) -> tuple[TrainResult | None, str | None]:
        result = storage.try_read_document(paths.trial(index, RESULT), TrainResult)
        if result is not None:
            return result, None
        failure = storage.try_read_document(paths.trial(index, ERROR), StepFailure)
        return None, failure.message if failure else None

    with ThreadPoolExecutor(_PARALLEL) as pool:
        results, reasons = zip(*pool.map(read, range(count)), strict=True)
    metric = config.model.metric
    best = selection.select_best(results, reasons, metric, settings.training.minimum_successful_share)
    storage.write_document(
        storage.join(prefix, "selection.json"),
        Selection(
            metric=metric,
            best=best.trial,
            trials=[result for result in results if result is not None],
            failed={
                index: reasons[index] or "no result; see the log of its task"
                for index, result in enumerate(results)
                if result is None
            },
        ),
    )
    log.info("trial %d of %d is best: %s %s", best.trial, count, metric, best.metrics[metric])
    return {"trial": best.trial, "metric": metric, "value": best.metrics[metric], "run_id": best.run_id}


def register(settings: Settings, prefix: str) -> dict[str, str]:
    """Register the best trial's model and prepare its evaluation; doing it again finds the same version."""
    paths = _claimed(prefix)
    config = storage.read_document(paths.config, RunConfig)
    selected = storage.read_document(storage.join(prefix, "selection.json"), Selection)
    best = next(trial for trial in selected.trials if trial.trial == selected.best)
    version = registry.register(
        settings.mlflow.tracking_uri,
        config.model.registered_model,
        description=config.model.description,
        source=best.model_uri,
        run_id=best.run_id,
        tags={
            **config.lineage,
            "run_key": config.run_key,
            "trial": str(best.trial),
            "dataset": config.model.name,
            "family": best.family,
            "model_digest": best.model_digest,
            "run_prefix": prefix,
        },
    )
    candidate = Candidate(version=version, run_id=best.run_id, model_digest=best.model_digest)
    storage.write_document(paths.step("evaluate", "config.json"), config.model_copy(update={"candidate": candidate}))
    _drop_stale_evaluation(settings, paths, config, version)
    log.info("version %s of %s is trial %d", version, config.model.registered_model, best.trial)
    return {"version": version, "run_id": best.run_id}


def decide(settings: Settings, prefix: str) -> gate.Decision:
    """Let the gate judge the evaluation; write the decision down, and the deployment if there is one.

    Raises:
        Refused: the evaluation is not of this candidate, or not against the present champion.
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
    compared = evaluation.champion.model_version if evaluation.champion else None
    present = registry.version_with_alias(settings.mlflow.tracking_uri, name, registry.CHAMPION)
    if present not in (compared, candidate.version):
        raise Refused(
            f"{name}: the champion is now version {present}, but the evaluation compared with "
            f"{f'version {compared}' if compared else 'none'}; clear the task register and all after it"
        )
    decision = gate.decide(
        evaluation.candidate, evaluation.champion, config.policy, config.model.metric, evaluation.evaluation_digest
    )
    storage.write_document(paths.decision, decision)
    registry.tag_version(
        settings.mlflow.tracking_uri,
        name,
        candidate.version,
        {
            "gate_outcome": decision.outcome,
            "gate_reasons": "\n".join(decision.reasons),
            "evaluation_digest": decision.evaluation_digest,
        },
    )
    if decision.outcome == "promote":
        serving = settings.serving
        deployment = Deployment(
            endpoint_name=serving.endpoint_name.format(dataset=config.model.name),
            serving_image=settings.images.serving,
            execution_role_arn=serving.execution_role_arn,
            instance_type=serving.instance_type,
            instance_count=serving.instance_count,
            startup_timeout_seconds=serving.startup_timeout_seconds,
            artifacts_bucket=settings.buckets.artifacts,
            examples_uri=evaluation.examples_uri,
        )
        storage.write_document(
            paths.step("deploy", "config.json"), config.model_copy(update={"deployment": deployment})
        )
    log.info("%s: %s", decision.outcome, "; ".join(decision.reasons))
    return decision


def conclude(settings: Settings, prefix: str, owner: str, nothing_to_do: str | None) -> notifications.Message:
    """Close a run's record and return what people shall be told.

    Args:
        settings: of the environment.
        prefix: of the run.
        owner: the DAG run.
        nothing_to_do: why there was nothing to do, None if there was.
    """
    paths = _claimed(prefix)
    dataset = prefix.rsplit("/", 2)[-2]
    if nothing_to_do is not None:
        return notifications.nothing_to_do(dataset, nothing_to_do)
    config = storage.read_document(paths.step("evaluate", "config.json"), RunConfig)
    decision = storage.read_document(paths.decision, gate.Decision)
    page = registry.page(settings.mlflow.tracking_uri, config.model.registered_model, decision.candidate_version)
    promoted = decision.outcome == "promote"
    if promoted:
        live = storage.read_document(paths.step("deploy", RESULT), DeployResult)
        message = notifications.deployed(dataset, live.model_version, decision.reasons, live.endpoint_name, page)
    else:
        message = notifications.rejected(dataset, decision.candidate_version, decision.reasons, page)
    closed = runs.finish(
        paths,
        owner,
        state="finished",
        outcome="promoted" if promoted else "rejected",
        model_version=decision.candidate_version,
        reasons=decision.reasons,
        failed_task=None,
    )
    if closed is None:
        log.warning("%s belongs to another DAG run by now; it is left as it is", paths.record)
    return message


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
