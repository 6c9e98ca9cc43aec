"""The tasks of monitoring: which requests are looked at, and what people are told of the verdict.

All documents of one run are under ``s3://<data>/monitoring/<dataset>/<end of window>-<id>/``:
``config.json`` (what the step `monitor` works with), ``result.json``
(`mlplatform.documents.monitoring.MonitorResult`) and ``report.html``. Beside them is ``retraining.json``: when a
retraining was last asked for.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from mlplatform import storage
from mlplatform.config.environment import Settings
from mlplatform.config.loading import load_model
from mlplatform.documents.digests import digest
from mlplatform.documents.monitoring import MonitoringVerdict, MonitorResult
from mlplatform.documents.paths import monitoring_folder
from mlplatform.documents.run import Deployment, RunConfig, Watch
from mlplatform.errors import NonRetryableError, StorageError
from mlplatform.people import report_links
from mlplatform.people.messages import Message
from mlplatform.promotion import audit, registry
from mlplatform.steps import RESULT


def prepare(settings: Settings, dataset: str, now: datetime, dag_run: str) -> dict[str, str] | None:
    """Write what the step `monitor` shall look at; a task tried again finds it as it was.

    Args:
        settings: of the environment.
        dataset: whose endpoint.
        now: when the run was due, the same on every try.
        dag_run: ``<DAG>/<run>``.

    Returns:
        ``config``, ``input`` and ``output`` of the step, and its ``run_key``; None where no model is live yet.

    Raises:
        NonRetryableError: the champion does not say which run made it.
    """
    limits = settings.monitoring
    end = now.astimezone(UTC) - timedelta(minutes=limits.settle_minutes)
    key = digest(dag_run)[:10]
    prefix = storage.join(monitoring_folder(settings, dataset), f"{end:%Y%m%dT%H%M%SZ}-{key}")
    uri = storage.join(prefix, "config.json")
    config = storage.try_read_document(uri, RunConfig)
    if config is None:
        config = _config(settings, dataset, end, key)
        if config is None:
            return None
        storage.create_document(uri, config)
        config = storage.read_document(uri, RunConfig)
    assert config.monitoring is not None
    return {"config": uri, "input": config.monitoring.capture_uri, "output": prefix, "run_key": config.run_key}


def _config(settings: Settings, dataset: str, end: datetime, key: str) -> RunConfig | None:
    uri, name = settings.mlflow.tracking_uri, load_model(dataset).registered_model
    champion = registry.version_with_alias(uri, name, registry.CHAMPION)
    if champion is None:
        return None
    prefix = registry.get_version(uri, name, champion).tags.get("run_prefix")
    if not prefix:
        raise NonRetryableError(f"champion {name} version {champion} does not say which run made it (tag run_prefix)")
    limits = settings.monitoring
    labels_start = end - timedelta(hours=limits.label_hours)
    changed = any(
        entry.at >= labels_start
        for kind in ("deployed", "rolled-back")
        for entry in audit.entries(settings, dataset, kind)  # type: ignore[arg-type]  # both are kinds
    )
    try:
        trained = storage.read_document(storage.join(prefix, "evaluate", "config.json"), RunConfig)
    except StorageError as error:
        raise NonRetryableError(f"champion {name} version {champion}: {error}") from None
    # The folder that captures of all variants are in.
    deployment = Deployment.of(settings, dataset, examples_uri="")
    capture = storage.join(deployment.capture.uri or "", deployment.endpoint_name)
    watch = Watch(
        endpoint_name=deployment.endpoint_name,
        capture_uri=capture,
        labels_uri=f"s3://{settings.buckets.landing}/labels/{dataset}",
        start=end - timedelta(hours=limits.window_hours),
        labels_start=labels_start,
        end=end,
        unnamed_version=None if changed else champion,
        environment=settings.environment,
        limits=limits,
    )
    return trained.model_copy(
        update={"run_key": key, "tracking_uri": uri, "region": settings.aws.region, "monitoring": watch}
    )


def conclude(settings: Settings, dataset: str, prefix: str) -> tuple[MonitoringVerdict, Message | None]:
    """Return the verdict on a window, and what people shall be told of it; None where there is nothing to tell."""
    result = storage.read_document(storage.join(prefix, RESULT), MonitorResult)
    verdict = result.verdict
    if verdict.outcome not in ("drifted", "degraded"):
        return verdict, None
    then = "It is trained again." if settings.monitoring.action == "retrain" else "What is live stays live."
    return verdict, Message(
        event="monitoring",
        subject=f"{dataset}: the live model has {verdict.outcome}",
        lines=[
            f"{result.rows} rows on the endpoint {result.endpoint_name}, {result.start:%Y-%m-%d %H:%M} to "
            f"{result.end:%Y-%m-%d %H:%M} UTC. {then}",
            *(f"- {reason}" for reason in verdict.reasons),
            f"Report: {report_links.page(result.report_uri)}",
        ],
    )
