"""The tasks of the group ``promotion``: the best trial becomes a model version, and the gate judges it."""

from __future__ import annotations

import logging
from typing import cast

from mlplatform import storage
from mlplatform.config.environment import Settings
from mlplatform.documents.decisions import Decision
from mlplatform.documents.evaluation import EvaluateResult
from mlplatform.documents.paths import RunPaths, paths_of_run
from mlplatform.documents.results import Selection, TrialResult, ValidateResult
from mlplatform.documents.run import Candidate, RunConfig
from mlplatform.errors import NonRetryableError
from mlplatform.promotion import gate, registry
from mlplatform.steps import RESULT

log = logging.getLogger(__name__)


def register(settings: Settings, prefix: str) -> dict[str, str]:
    """Register the best trial's model and prepare its evaluation; doing it again finds the same version."""
    paths = paths_of_run(prefix)
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
            "owner": config.model.owner,
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


def decide(settings: Settings, prefix: str) -> Decision:
    """Let the gate judge the evaluation, and write the decision down; what passes is the `challenger` from then on.

    Raises:
        NonRetryableError: the evaluation is not of this candidate, not as it was written, or not against the present
            champion.
    """
    paths = paths_of_run(prefix)
    config = storage.read_document(paths.step("evaluate", "config.json"), RunConfig)
    evaluation = storage.read_document(paths.step("evaluate", RESULT), EvaluateResult)
    candidate = cast("Candidate", config.candidate)
    name = config.model.registered_model
    if evaluation.candidate.model_version != candidate.version:
        raise NonRetryableError(
            f"{paths.step('evaluate', RESULT)} is about version {evaluation.candidate.model_version} of {name}, "
            f"not about the candidate, version {candidate.version}; clear the task register and all after it"
        )
    if evaluation.evaluation_digest != evaluation.digest_of(name, candidate.model_digest):
        raise NonRetryableError(
            f"{paths.step('evaluate', RESULT)}: its numbers do not have the digest {evaluation.evaluation_digest} "
            "that it was written with, so it was changed since; delete it and clear the task evaluate"
        )
    compared = evaluation.champion.model_version if evaluation.champion else None
    present = registry.version_with_alias(settings.mlflow.tracking_uri, name, registry.CHAMPION)
    if present not in (compared, candidate.version):
        raise NonRetryableError(
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
    if decision.outcome != "reject":
        # Last, because it voids the approval that an earlier candidate may wait for; a rejected one must not.
        registry.set_alias(settings.mlflow.tracking_uri, name, registry.CHALLENGER, candidate.version)
    log.info("%s: %s", decision.outcome, "; ".join(decision.reasons))
    return decision


def _best(selected: Selection) -> TrialResult:
    return next(trial for trial in selected.trials if trial.trial == selected.best)


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
