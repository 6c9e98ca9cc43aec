"""The tasks of the group ``ingest``: what a run reads, and what becomes of the files that landed."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from mlplatform import storage
from mlplatform.config.environment import Settings
from mlplatform.documents import digests
from mlplatform.documents.digests import digest
from mlplatform.documents.inputs import InputManifest
from mlplatform.documents.paths import RunPaths, paths_of_run
from mlplatform.documents.results import StepFailure, ValidateResult
from mlplatform.documents.run import RunConfig, RunRecord
from mlplatform.errors import NonRetryableError
from mlplatform.ingest import claims, landing
from mlplatform.steps import ERROR, RESULT
from mlplatform.training import placement
from mlplatform.training.request import CheckedRequest, check_request

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class ResolvedInputs:
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
) -> ResolvedInputs:
    """Fix what a run reads, and claim the run.

    Raises:
        ConfigError: see `check_request`.
        NonRetryableError: a table has no file yet.
    """
    checked = check_request(settings, params)
    model = checked.model
    landed = landing.list_inputs(settings.buckets.landing, model.name, model.tables, new=True)
    accepted = landing.list_inputs(settings.buckets.data, f"raw/{model.name}", model.tables, new=False)
    plan = landing.plan(landed, accepted)
    for item in plan.duplicates:
        log.info("%s was accepted before, byte for byte; it is removed from the landing bucket", item.uri)
    if missing := landing.missing_tables(plan.objects, model):
        raise NonRetryableError(
            f"{model.name}: the table {missing[0]!r} has no file yet; land one under "
            f"s3://{settings.buckets.landing}/{model.name}/{missing[0]}/ before those of {model.trigger_table!r}"
        )
    key = digests.run_key(plan.objects, _decisive(settings, checked), settings.images)
    paths = RunPaths.of(settings.buckets.data, model.name, key)
    record = RunRecord(run_key=key, dataset=model.name, owner=owner, state="running", started_at=datetime.now(UTC))
    claim = claims.claim(paths, settings.buckets.data, record, is_live)
    landing.remove(plan.duplicates)
    if not claim.granted:
        return ResolvedInputs(paths, False, _why_nothing(claim.record))
    data_digest = digest(sorted(item.content_id for item in plan.objects))
    config = _run_config(settings, checked, key, {"data_digest": data_digest, "dag_run_id": owner})
    storage.write_document(paths.config, config)
    storage.write_document(paths.inputs, InputManifest(objects=plan.objects))
    new = sum(item.new for item in plan.objects)
    return ResolvedInputs(paths, True, f"{len(plan.objects)} files, {new} of them new; run {key} in {paths.prefix}")


def _decisive(settings: Settings, checked: CheckedRequest) -> dict[str, Any]:
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


def _run_config(settings: Settings, checked: CheckedRequest, key: str, lineage: Mapping[str, str]) -> RunConfig:
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
        NonRetryableError: the run never got as far as knowing its files.
    """
    paths = paths_of_run(prefix)
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


def _why_nothing(record: RunRecord) -> str:
    if record.state == "running":
        return f"the DAG run {record.owner} is at work on the same data and configuration (run {record.run_key})"
    version = f"version {record.model_version} was {record.outcome}"
    return (
        f"the same data and configuration were done before by {record.owner} (run {record.run_key}): {version}, "
        f"{'; '.join(record.reasons)}. Change a parameter, for example the seed, to train again"
    )
