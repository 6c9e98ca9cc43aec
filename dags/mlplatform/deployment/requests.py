"""Who wants which version live, written down as a deployment's ``request.json``.

Everything of a deployment is under ``s3://<data>/deployments/<dataset>/<id>/``: ``request.json`` (written here),
``config.json`` (what the step ``deploy`` works with), ``intent.json``, ``result.json``, ``error.json`` (the step's).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from pydantic import ValidationError

from mlplatform import storage
from mlplatform.config.environment import Settings
from mlplatform.config.loading import load_model
from mlplatform.config.names import dag_id
from mlplatform.documents.decisions import ApprovedModel
from mlplatform.documents.deployment import Challenger, DeploymentRequest
from mlplatform.documents.paths import DeploymentPaths
from mlplatform.errors import NonRetryableError
from mlplatform.promotion import registry


def latest_approved(extras: Iterable[Mapping[str, Any]]) -> list[ApprovedModel]:
    """Return the models that events of the asset are about: of each dataset the last one.

    Args:
        extras: of the events, oldest first.

    Raises:
        NonRetryableError: an event says nothing about a model; somebody made it by hand.
    """
    models: dict[str, ApprovedModel] = {}
    for extra in extras:
        try:
            model = ApprovedModel.model_validate(dict(extra), extra="ignore")
        except ValidationError as error:
            wrong = ", ".join(".".join(map(str, problem["loc"])) for problem in error.errors())
            raise NonRetryableError(
                f"an event of the asset approved-models does not name a model ({wrong}); to deploy one by hand, "
                "trigger the dataset's DAG that deploys, with its version"
            ) from None
        models[model.dataset] = model
    return list(models.values())


def requested(
    settings: Settings, events: Sequence[Mapping[str, Any]], params: Mapping[str, Any], dag_run: str, by: str
) -> list[str]:
    """Write down what a deployment's DAG run is to do.

    Args:
        settings: of the environment.
        events: extras of the asset events that started it, oldest first; empty if a person did.
        params: of the run: dataset, version, force, reason, challenger, challenger_weight.
        dag_run: ``<DAG>/<run>``.
        by: who started it by hand.

    Returns:
        The S3 prefix of each deployment.

    Raises:
        NonRetryableError: no version is named, or there is no such version, or force is not allowed here.
    """
    if events:
        return [
            _write_request(
                settings,
                DeploymentRequest(
                    purpose="deploy",
                    model=model,
                    by=model.approved_by,
                    reason=model.reason,
                    dag_run=dag_run,
                    champion=present_champion(settings, model.registered_model),
                    on_approval=True,
                ),
            )
            for model in latest_approved(events)
        ]
    dataset, version, forced = params["dataset"], params["version"], bool(params["force"])
    reason = (params["reason"] or "").strip()
    if not version:
        raise NonRetryableError("version: name the model version to deploy, or wait for an approval to start this DAG")
    if forced and not settings.approval.allow_force:
        raise NonRetryableError(
            f"force: not allowed in {settings.environment} (approval.allow_force); have the version approved"
        )
    if forced and not reason:
        raise NonRetryableError("reason: a version without approval needs one; it is kept in the audit log")
    name = load_model(dataset).registered_model
    challenger = None
    if params["challenger"]:
        if params["challenger"] == version:
            raise NonRetryableError(f"challenger: version {version} cannot be tested against itself")
        second = registered_model(settings, dataset, name, params["challenger"])
        challenger = Challenger(model=second, weight=params["challenger_weight"])
    request = DeploymentRequest(
        purpose="deploy",
        model=registered_model(settings, dataset, name, version),
        by=by,
        reason=reason or "by hand",
        dag_run=dag_run,
        champion=present_champion(settings, name),
        forced=forced,
        challenger=challenger,
    )
    return [_write_request(settings, request)]


def rollback_requested(settings: Settings, dataset: str, reason: str, dag_run: str, by: str) -> str:
    """Write down that the version before is wanted back, and return the deployment's S3 prefix.

    Raises:
        NonRetryableError: there is no version before.
    """
    paths = DeploymentPaths.of(settings, dataset, "rollback", dag_run)
    if storage.try_read_document(paths.request, DeploymentRequest) is not None:
        return paths.prefix  # tried again: one step back is meant, not another one
    name = load_model(dataset).registered_model
    uri = settings.mlflow.tracking_uri
    previous = registry.version_with_alias(uri, name, registry.PREVIOUS)
    champion = present_champion(settings, name)
    if previous is None or previous == champion:
        raise NonRetryableError(
            f"{name}: there is no version to go back to (alias previous: {previous or 'none'}, champion: "
            f"{champion or 'none'}); {dag_id('deploy', dataset)} puts any approved version live"
        )
    model = registered_model(settings, dataset, name, previous)
    request = DeploymentRequest(
        purpose="rollback", model=model, by=by, reason=reason, dag_run=dag_run, champion=champion
    )
    storage.create_document(paths.request, request)
    return paths.prefix


def registered_model(settings: Settings, dataset: str, name: str, version: str) -> ApprovedModel:
    """Return what the registry says of a version, approved or not.

    Raises:
        NonRetryableError: there is no such version, or the pipeline did not make it.
    """
    found = registry.get_version(settings.mlflow.tracking_uri, name, version)
    missing = [tag for tag in ("run_prefix", "model_digest", "evaluation_digest") if tag not in found.tags]
    if missing:
        raise NonRetryableError(
            f"version {version} of {name} has no tag {', '.join(missing)}: no training run of the platform evaluated it"
        )
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


def present_champion(settings: Settings, name: str) -> str | None:
    """Return the version of a registered model that is champion, None if there is none."""
    return registry.version_with_alias(settings.mlflow.tracking_uri, name, registry.CHAMPION)


def _write_request(settings: Settings, request: DeploymentRequest) -> str:
    model = request.model
    paths = DeploymentPaths.of(settings, model.dataset, f"v{model.version}", request.dag_run)
    # A run tried again keeps what was asked for first: the champion may be another by now.
    storage.create_document(paths.request, request)
    return paths.prefix
