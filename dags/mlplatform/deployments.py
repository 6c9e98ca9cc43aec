"""One deployment, or one step back: who asked for it, whether it may be, its documents. No Airflow import.

Everything of it is under ``s3://<data>/deployments/<dataset>/<id>/``: ``request.json`` (written here), ``config.json``
(what the step ``deploy`` works with), ``intent.json``, ``result.json``, ``error.json`` (the step's).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Literal

from pydantic import ValidationError

from mlplatform import audit, notifications, registry, reports, storage
from mlplatform.approval import ApprovedModel
from mlplatform.config import Candidate, Deployment, Experiment, RunConfig, Settings, Strict, digest, load_model
from mlplatform.results import DeployResult, EvaluateResult, StepFailure
from mlplatform.steps import ERROR, RESULT, Refused


class Challenger(Strict):
    """The second version of an A/B test."""

    model: ApprovedModel
    weight: float
    """Share of the requests that it answers."""


class Request(Strict):
    """``request.json``: what is to be done, who wants it and why."""

    schema_version: Literal[1] = 1
    purpose: Literal["deploy", "rollback"]
    model: ApprovedModel
    by: str
    reason: str
    dag_run: str
    """``<DAG>/<run>``."""
    champion: str | None
    """Champion when it was asked for."""
    on_approval: bool = False
    """Whether the approval itself started it, and not a person later."""
    forced: bool = False
    """Whether it is to be done without approval."""
    challenger: Challenger | None = None


@dataclass(frozen=True)
class DeploymentPaths:
    """Addresses of a deployment's documents."""

    prefix: str

    @classmethod
    def of(cls, settings: Settings, dataset: str, name: str, dag_run: str) -> DeploymentPaths:
        """Return the addresses of what a DAG run does; a task tried again finds them again.

        Args:
            settings: of the environment.
            dataset: it is about.
            name: of what is done: ``v<version>`` or ``rollback``.
            dag_run: ``<DAG>/<run>``.
        """
        return cls(f"s3://{settings.buckets.data}/deployments/{dataset}/{name}-{digest(dag_run)[:10]}")

    def document(self, name: str) -> str:
        """Return the address of a document."""
        return storage.join(self.prefix, name)

    @property
    def request(self) -> str:
        """`Request`."""
        return self.document("request.json")

    @property
    def config(self) -> str:
        """`RunConfig` of the step."""
        return self.document("config.json")


# --- Rules, without any I/O ---------------------------------------------------------------------


def newest(extras: Iterable[Mapping[str, Any]]) -> list[ApprovedModel]:
    """Return the models that events of the asset are about: of each dataset the last one.

    Args:
        extras: of the events, oldest first.

    Raises:
        Refused: an event says nothing about a model; somebody made it by hand.
    """
    models: dict[str, ApprovedModel] = {}
    for extra in extras:
        try:
            model = ApprovedModel.model_validate(dict(extra))
        except ValidationError as error:
            wrong = ", ".join(".".join(map(str, problem["loc"])) for problem in error.errors())
            raise Refused(
                f"an event of the asset approved-models does not name a model ({wrong}); to deploy one by hand, "
                "trigger deploy_model with dataset and version"
            ) from None
        models[model.dataset] = model
    return list(models.values())


def problems(
    model: ApprovedModel,
    tags: Mapping[str, str],
    approvals: Sequence[audit.AuditEntry],
    champion: str | Literal[False] | None,
) -> list[str]:
    """Return why a version may not be deployed; empty if it may.

    Args:
        model: that is to be deployed.
        tags: of its version in the registry.
        approvals: the audit log's approvals of the version.
        champion: the present one, which must still be the one compared with; False where that does not matter.
    """
    name = f"version {model.version} of {model.registered_model}"
    if tags.get("approval") != "approved":
        return [f"{name} is not approved (tag approval: {tags.get('approval', 'none')})"]
    found = []
    if tags.get("approval_evaluation_digest") != tags.get("evaluation_digest"):
        found.append(f"{name} was evaluated again after its approval")
    if model.evaluation_digest != tags.get("evaluation_digest"):
        found.append(f"{name} was approved on evaluation {model.evaluation_digest}, which is not its present one")
    if model.model_digest != tags.get("model_digest"):
        found.append(f"the files of {name} are not those that were approved")
    approval = next(
        (
            entry
            for entry in approvals
            if (entry.registered_model, entry.evaluation_digest, entry.model_digest)
            == (model.registered_model, model.evaluation_digest, model.model_digest)
        ),
        None,
    )
    if approval is None:
        found.append(f"the audit log has no approval of {name} on evaluation {model.evaluation_digest}")
    elif champion is not False and champion not in (approval.details.get("champion_version") or None, model.version):
        found.append(
            f"the champion is now {f'version {champion}' if champion else 'none'}, and not the one that {name} was "
            "compared with; train and evaluate again"
        )
    return found


# --- What the tasks do --------------------------------------------------------------------------


def requested(
    settings: Settings, events: Sequence[Mapping[str, Any]], params: Mapping[str, Any], dag_run: str, by: str
) -> list[str]:
    """Write down what a run of ``deploy_model`` is to do.

    Args:
        settings: of the environment.
        events: extras of the asset events that started it, oldest first; empty if a person did.
        params: of the run: dataset, version, force, reason, challenger, challenger_weight.
        dag_run: ``<DAG>/<run>``.
        by: who started it by hand.

    Returns:
        The S3 prefix of each deployment.

    Raises:
        Refused: no version is named, or there is no such version, or force is not allowed here.
    """
    if events:
        return [
            _write_request(
                settings,
                Request(
                    purpose="deploy",
                    model=model,
                    by=model.approved_by,
                    reason=model.reason,
                    dag_run=dag_run,
                    champion=_champion(settings, model.registered_model),
                    on_approval=True,
                ),
            )
            for model in newest(events)
        ]
    dataset, version, forced = params["dataset"], params["version"], bool(params["force"])
    reason = (params["reason"] or "").strip()
    if not version:
        raise Refused("version: name the model version to deploy, or wait for an approval to start this DAG")
    if forced and not settings.approval.allow_force:
        raise Refused(f"force: not allowed in {settings.environment} (approval.allow_force); have the version approved")
    if forced and not reason:
        raise Refused("reason: a version without approval needs one; it is kept in the audit log")
    name = load_model(dataset).registered_model
    challenger = None
    if params["challenger"]:
        if params["challenger"] == version:
            raise Refused(f"challenger: version {version} cannot be tested against itself")
        second = registered(settings, dataset, name, params["challenger"])
        challenger = Challenger(model=second, weight=params["challenger_weight"])
    request = Request(
        purpose="deploy",
        model=registered(settings, dataset, name, version),
        by=by,
        reason=reason or "by hand",
        dag_run=dag_run,
        champion=_champion(settings, name),
        forced=forced,
        challenger=challenger,
    )
    return [_write_request(settings, request)]


def rollback_requested(settings: Settings, dataset: str, reason: str, dag_run: str, by: str) -> str:
    """Write down that the version before is wanted back, and return the deployment's S3 prefix.

    Raises:
        Refused: there is no version before.
    """
    paths = DeploymentPaths.of(settings, dataset, "rollback", dag_run)
    if storage.try_read_document(paths.request, Request) is not None:
        return paths.prefix  # tried again: one step back is meant, not another one
    name = load_model(dataset).registered_model
    uri = settings.mlflow.tracking_uri
    previous = registry.version_with_alias(uri, name, registry.PREVIOUS)
    champion = _champion(settings, name)
    if previous is None or previous == champion:
        raise Refused(
            f"{name}: there is no version to go back to (alias previous: {previous or 'none'}, champion: "
            f"{champion or 'none'}); deploy_model puts any approved version live"
        )
    model = registered(settings, dataset, name, previous)
    request = Request(purpose="rollback", model=model, by=by, reason=reason, dag_run=dag_run, champion=champion)
    storage.write_document(paths.request, request, new=True)
    return paths.prefix


def registered(settings: Settings, dataset: str, name: str, version: str) -> ApprovedModel:
    """Return what the registry says of a version, approved or not.

    Raises:
        Refused: there is no such version, or the pipeline did not make it.
    """
    found = registry.get_version(settings.mlflow.tracking_uri, name, version)
    missing = [tag for tag in ("run_prefix", "model_digest", "evaluation_digest") if tag not in found.tags]
    if missing:
        raise Refused(f"version {version} of {name} has no tag {', '.join(missing)}: train_model did not evaluate it")
    return ApprovedModel(
        dataset=dataset,
        registered_model=name,
        version=found.version,
        run_id=found.run_id,
        model_digest=found.tags["model_digest"],
        evaluation_digest=found.tags["evaluation_digest"],
        prefix=found.tags["run_prefix"],
        approved_by=found.tags.get("approved_by", ""),
        reason=found.tags.get("approval_reason", ""),
    )


def prepare(settings: Settings, prefix: str) -> dict[str, str]:
    """Verify the approval of a request and write the configuration of its step.

    Returns:
        ``config``, ``input`` and ``output`` of the step, and ``dataset`` and ``run_key`` for its labels.

    Raises:
        Refused: it may not be deployed; the reason is in ``error.json`` too.
    """
    paths = DeploymentPaths(prefix)
    request = storage.read_document(paths.request, Request)
    try:
        config = _config(settings, request)
    except Refused as refused:
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


def conclude(settings: Settings, prefix: str) -> notifications.Message:
    """Write what became of a deployment into the audit log, and return what people shall be told."""
    paths = DeploymentPaths(prefix)
    request = storage.read_document(paths.request, Request)
    live = storage.read_document(paths.document(RESULT), DeployResult)
    details = {
        "endpoint": live.endpoint_name,
        "endpoint_config": live.endpoint_config_name,
        "previous_version": live.previous_version or "",
    }
    kind: audit.Kind = "deployed" if request.purpose == "deploy" else "rolled-back"
    audit.append(settings, _entry(request, kind, live.finished_at, request.reason, details))
    links = [registry.page(settings.mlflow.tracking_uri, request.model.registered_model, request.model.version)]
    evaluation = storage.try_read_document(storage.join(request.model.prefix, "evaluate", RESULT), EvaluateResult)
    if evaluation is not None:
        links.append(f"Report: {reports.page(evaluation.report_uri)}")
    tell = notifications.deployed if request.purpose == "deploy" else notifications.rolled_back
    return tell(
        request.model.dataset,
        live.model_version,
        live.endpoint_name,
        request.by,
        request.reason,
        request.champion,
        links,
    )


def failed(settings: Settings, prefix: str, log_url: str | None) -> notifications.Message:
    """Write a deployment that did not come about into the audit log, and return what people shall be told.

    A task tried again finds the entry that it wrote: a deployment fails once for the same reason.
    """
    paths = DeploymentPaths(prefix)
    request = storage.read_document(paths.request, Request)
    failure = storage.try_read_document(paths.document(ERROR), StepFailure)
    reason = failure.message if failure else "the deployment ended without a result; its log says why"
    details = {"purpose": request.purpose, "wanted": request.reason}
    entry = _entry(request, "deployment-failed", datetime.now(UTC), reason, details)
    written = audit.entries(settings, entry.dataset, entry.kind, entry.model_version)
    if (entry.dag_run, reason) not in [(one.dag_run, one.reason) for one in written]:
        audit.append(settings, entry)
    return notifications.deployment_failed(
        request.model.dataset, request.model.version, request.purpose, request.dag_run, reason, log_url
    )


def _config(settings: Settings, request: Request) -> RunConfig:
    """Return the step's configuration.

    Raises:
        Refused: the version may not be deployed.
    """
    model = request.model
    if request.purpose == "deploy" and not request.forced:
        present = _champion(settings, model.registered_model)
        wanted: list[tuple[ApprovedModel, str | Literal[False] | None]] = [(model, present)]
        if not request.on_approval:  # a person may go back to a version that was compared with an earlier champion
            wanted = [(model, False)]
        if request.challenger:
            wanted.append((request.challenger.model, False))
        for one, champion in wanted:
            tags = registry.get_version(settings.mlflow.tracking_uri, one.registered_model, one.version).tags
            approvals = audit.entries(settings, one.dataset, "approved", one.version)
            if found := problems(one, tags, approvals, champion):
                raise Refused("; ".join(found))
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
    except storage.StorageError as error:
        raise Refused(f"version {model.version} of {model.registered_model}: {error}") from None
    if evaluation.candidate.model_version != model.version:
        raise Refused(
            f"{model.prefix}: the evaluation there is of version {evaluation.candidate.model_version}, "
            f"not of version {model.version}"
        )
    return config, evaluation.examples_uri


def _remove(uri: str) -> None:
    bucket, key = storage.split_uri(uri)
    storage.client().delete_object(Bucket=bucket, Key=key)


def _champion(settings: Settings, name: str) -> str | None:
    return registry.version_with_alias(settings.mlflow.tracking_uri, name, registry.CHAMPION)


def _write_request(settings: Settings, request: Request) -> str:
    model = request.model
    paths = DeploymentPaths.of(settings, model.dataset, f"v{model.version}", request.dag_run)
    # A run tried again keeps what was asked for first: the champion may be another by now.
    storage.write_document(paths.request, request, new=True)
    return paths.prefix


def _entry(request: Request, kind: audit.Kind, at: datetime, reason: str, details: dict[str, str]) -> audit.AuditEntry:
    model = request.model
    forced = {"forced": "true"} if request.forced else {}
    return audit.AuditEntry(
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
