"""What the tasks of one deployment do: verify it, write the step's configuration, conclude, tell of a failure."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Literal

from mlplatform import storage
from mlplatform.config.environment import Settings
from mlplatform.deployment.requests import present_champion
from mlplatform.deployment.rules import approval_problems
from mlplatform.documents.decisions import ApprovedModel, AuditEntry, AuditKind
from mlplatform.documents.deployment import DeploymentRequest, DeployResult
from mlplatform.documents.evaluation import EvaluateResult
from mlplatform.documents.paths import DeploymentPaths
from mlplatform.documents.results import StepFailure
from mlplatform.documents.run import Candidate, Deployment, Experiment, RunConfig
from mlplatform.errors import NonRetryableError, StorageError
from mlplatform.people import messages, report_links
from mlplatform.people.messages import Message
from mlplatform.promotion import audit, registry
from mlplatform.steps import ERROR, RESULT


def prepare(settings: Settings, prefix: str) -> dict[str, str]:
    """Verify the approval of a request and write the configuration of its step.

    Returns:
        ``config``, ``input`` and ``output`` of the step, and ``dataset`` and ``run_key`` for its labels.

    Raises:
        NonRetryableError: it may not be deployed; the reason is in ``error.json`` too.
    """
    paths = DeploymentPaths(prefix)
    request = storage.read_document(paths.request, DeploymentRequest)
    try:
        config = _config(settings, request)
    except NonRetryableError as refused:
        failure = StepFailure(step="verify_approval", kind="bad-input", message=str(refused))
        storage.write_document(paths.document(ERROR), failure)
        raise
    _remove(paths.document(ERROR))  # of an earlier attempt
    storage.write_document(paths.config, config)
    return {
        "config": paths.config,
        "input": storage.join(request.model.prefix, "evaluate"),
        "output": prefix,
        "dataset": request.model.dataset,
        "run_key": config.run_key,
    }


def conclude(settings: Settings, prefix: str) -> Message:
    """Write what became of a deployment into the audit log, and return what people shall be told."""
    paths = DeploymentPaths(prefix)
    request = storage.read_document(paths.request, DeploymentRequest)
    live = storage.read_document(paths.document(RESULT), DeployResult)
    details = {
        "endpoint": live.endpoint_name,
        "endpoint_config": live.endpoint_config_name,
        "previous_version": live.previous_version or "",
    }
    kind: AuditKind = "deployed" if request.purpose == "deploy" else "rolled-back"
    audit.append(settings, _entry(request, kind, live.finished_at, request.reason, details))
    links = [registry.page(settings.mlflow.tracking_uri, request.model.registered_model, request.model.version)]
    evaluation = storage.try_read_document(storage.join(request.model.prefix, "evaluate", RESULT), EvaluateResult)
    if evaluation is not None:
        links.append(f"Report: {report_links.page(evaluation.report_uri)}")
    tell = messages.deployed if request.purpose == "deploy" else messages.rolled_back
    return tell(
        request.model.dataset,
        live.model_version,
        live.endpoint_name,
        request.by,
        request.reason,
        request.champion,
        links,
    )


def failed(settings: Settings, prefix: str, log_url: str | None) -> Message:
    """Write a deployment that did not come about into the audit log, and return what people shall be told.

    A task tried again finds the entry that it wrote: a deployment fails once for the same reason.
    """
    paths = DeploymentPaths(prefix)
    request = storage.read_document(paths.request, DeploymentRequest)
    failure = storage.try_read_document(paths.document(ERROR), StepFailure)
    reason = failure.message if failure else "the deployment ended without a result; its log says why"
    details = {"purpose": request.purpose, "wanted": request.reason}
    entry = _entry(request, "deployment-failed", datetime.now(UTC), reason, details)
    written = audit.entries(settings, entry.dataset, entry.kind, entry.model_version)
    if (entry.dag_run, reason) not in [(one.dag_run, one.reason) for one in written]:
        audit.append(settings, entry)
    return messages.deployment_failed(
        request.model.dataset, request.model.version, request.purpose, request.dag_run, reason, log_url
    )


def _config(settings: Settings, request: DeploymentRequest) -> RunConfig:
    """Return the step's configuration.

    Raises:
        NonRetryableError: the version may not be deployed.
    """
    model = request.model
    if request.purpose == "deploy" and not request.forced:
        present = present_champion(settings, model.registered_model)
        wanted: list[tuple[ApprovedModel, str | Literal[False] | None]] = [(model, present)]
        if not request.on_approval:  # a person may go back to a version that was compared with an earlier champion
            wanted = [(model, False)]
        if request.challenger:
            wanted.append((request.challenger.model, False))
        for one, champion in wanted:
            tags = registry.get_version(settings.mlflow.tracking_uri, one.registered_model, one.version).tags
            approvals = audit.entries(settings, one.dataset, "approved", one.version)
            if found := approval_problems(one, tags, approvals, champion):
                raise NonRetryableError("; ".join(found))
    config, examples = _documents(model)
    experiment = None
    if request.challenger:
        second = request.challenger.model
        experiment = Experiment(
            version=second.version,
            run_id=second.run_id,
            model_digest=second.model_digest,
            weight=request.challenger.weight,
            examples_uri=_documents(second)[1],
        )
    return config.model_copy(
        update={
            # Where things are now, not where they were when the model was trained.
            "tracking_uri": settings.mlflow.tracking_uri,
            "region": settings.aws.region,
            "candidate": Candidate(version=model.version, run_id=model.run_id, model_digest=model.model_digest),
            "deployment": Deployment.of(
                settings, model.dataset, examples, purpose=request.purpose, experiment=experiment
            ),
        }
    )


def _documents(model: ApprovedModel) -> tuple[RunConfig, str]:
    """Return the configuration that a version was evaluated with, and the address of its examples."""
    try:
        config = storage.read_document(storage.join(model.prefix, "evaluate", "config.json"), RunConfig)
        evaluation = storage.read_document(storage.join(model.prefix, "evaluate", RESULT), EvaluateResult)
    except StorageError as error:
        raise NonRetryableError(f"version {model.version} of {model.registered_model}: {error}") from None
    if evaluation.candidate.model_version != model.version:
        raise NonRetryableError(
            f"{model.prefix}: the evaluation there is of version {evaluation.candidate.model_version}, "
            f"not of version {model.version}"
        )
    return config, evaluation.examples_uri


def _remove(uri: str) -> None:
    bucket, key = storage.split_uri(uri)
    storage.client().delete_object(Bucket=bucket, Key=key)


def _entry(
    request: DeploymentRequest, kind: AuditKind, at: datetime, reason: str, details: dict[str, str]
) -> AuditEntry:
    model = request.model
    forced = {"forced": "true"} if request.forced else {}
    return AuditEntry(
        kind=kind,
        at=at,
        dataset=model.dataset,
        registered_model=model.registered_model,
        model_version=model.version,
        model_digest=model.model_digest,
        evaluation_digest=model.evaluation_digest,
        by=request.by,
        reason=reason,
        dag_run=request.dag_run,
        details={**details, **forced},
    )
