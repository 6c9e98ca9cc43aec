"""Watching live models: what the measurements mean, and what becomes of an alarm. No Airflow import.

All documents of a run of ``monitor_model`` are under ``s3://<data>/monitoring/<dataset>/<end of window>-<id>/``:
``config.json`` (what the step ``monitor`` works with), ``result.json`` (`mlplatform.results.MonitorResult`) and
``report.html``. Beside them is ``retraining.json``: when a retraining was last asked for.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from statistics import NormalDist
from typing import Any, Literal

from mlplatform import audit, registry, reports, storage
from mlplatform.config import (
    LOWER_IS_BETTER,
    Deployment,
    Monitoring,
    RunConfig,
    Settings,
    Strict,
    Watch,
    digest,
    load_model,
)
from mlplatform.notifications import Message
from mlplatform.results import Drifted, LiveQuality, MonitorResult, Verdict, WatchedVersion
from mlplatform.steps import RESULT, Refused

Outcome = Literal["ok", "drifted", "degraded", "too-few"]
_WORST_FIRST: tuple[Outcome, ...] = ("degraded", "drifted", "ok", "too-few")


# --- The verdict, without any I/O ---------------------------------------------------------------


def chance_psi(bins: int, reference_rows: int, rows: int, probability: float) -> float:
    """Return the PSI that chance alone exceeds with a probability, where nothing has moved.

    There the PSI of two samples of n and m rows is about (1/n + 1/m) times a chi-squared number with one degree of
    freedom less than there are bins (B. Yurdakul, "Statistical Properties of Population Stability Index", 2018). Its
    quantile is Wilson and Hilferty's (1931), within a few percent from one degree of freedom on.

    Args:
        bins: compared; with fewer than two nothing can move.
        reference_rows, rows: of both sides.
        probability: between 0 and 1.
    """
    freedom = bins - 1
    if freedom < 1 or not reference_rows or not rows:
        return 0.0
    part = 2 / (9 * freedom)
    quantile = freedom * (1 - part + NormalDist().inv_cdf(1 - probability) * math.sqrt(part)) ** 3
    return (1 / reference_rows + 1 / rows) * quantile


def least_loss(quality: LiveQuality) -> float | None:
    """Return how much of the metric is lost at least, as far as chance can be told from loss; negative where better.

    Both the live value and the evaluation's come from samples. The bound of their difference is made of the bounds of
    both (Zou and Donner, "Construction of confidence limits about effect measures", 2008).

    Returns:
        In the metric's unit; None where a value or its interval is not known.
    """
    value, interval, evaluated = quality.value, quality.interval, quality.evaluated
    if value is None or interval is None or evaluated is None:
        return None
    before = quality.evaluated_interval
    if quality.metric in LOWER_IS_BETTER:
        ours, theirs = value - interval.low, before.high - evaluated if before else 0.0
        return value - evaluated - math.hypot(ours, theirs)
    ours, theirs = interval.high - value, evaluated - before.low if before else 0.0
    return evaluated - value - math.hypot(ours, theirs)


def judge(versions: Sequence[WatchedVersion], limits: Monitoring) -> Verdict:
    """Say what measurements mean.

    A feature or the prediction has drifted if its PSI is above its limit and above what chance would exceed, for any
    of a version's columns together, with a probability of 1 - ``level`` (Bonferroni). Quality is degraded if the loss
    is above the limit even at the near end of its interval. Versions with too few rows are not judged.
    """
    if not versions:
        return Verdict(outcome="too-few", reasons=["no request of a known version was captured in the window"])
    reasons: list[str] = []
    outcomes: dict[str, Outcome] = {}
    for version in versions:
        outcome, why = _judge_version(version, limits)
        outcomes[version.model_version] = outcome
        reasons += [f"version {version.model_version}: {reason}" for reason in why]
    worst = next(outcome for outcome in _WORST_FIRST if outcome in outcomes.values())
    return Verdict(outcome=worst, reasons=reasons, versions=outcomes)


def _judge_version(version: WatchedVersion, limits: Monitoring) -> tuple[Outcome, list[str]]:
    if version.note is not None:
        return "too-few", [f"not compared: {version.note}"]
    if not version.rows:
        return "too-few", ["answered nothing in the window, so it is not live any more"]
    drift, quality = _drift(version, limits), _quality(version.quality, limits)
    why: list[str] = []
    if drift is None:
        why.append(f"{version.rows} rows answered, and drift is judged from {limits.minimum_rows} on (minimum_rows)")
    if quality is None:
        labels = version.quality.rows if version.quality else 0
        why.append(f"{labels} labels landed: quality is not judged (minimum_labels: {limits.minimum_labels})")
    found = [*(quality or []), *(drift or [])]
    if quality:
        return "degraded", [*found, *why]
    if drift:
        return "drifted", [*found, *why]
    return ("too-few" if drift is None and quality is None else "ok"), why


def _drift(version: WatchedVersion, limits: Monitoring) -> list[str] | None:
    """Return what has drifted; None where there are too few rows to tell."""
    if version.rows < limits.minimum_rows:
        return None
    probability = (1 - limits.level) / (len(version.features) + 1)
    found = [
        _moved(f"feature {name}", one, limits.maximum_feature_psi)
        for name, one in version.features.items()
        if one.psi > limits.maximum_feature_psi
        and one.psi > chance_psi(one.bins, version.reference_rows, version.rows, probability)
    ]
    one = version.prediction
    if (
        one is not None
        and one.psi > limits.maximum_prediction_psi
        and one.psi > chance_psi(one.bins, version.test_rows, version.rows, probability)
    ):
        found.append(_moved("the prediction", one, limits.maximum_prediction_psi))
    return found


def _moved(what: str, one: Drifted, limit: float) -> str:
    return (
        f"{what} has drifted: PSI {one.psi:.2f}, more than {limit:g}; most of all {one.most}, {one.before:.1%} before "
        f"and {one.now:.1%} now"
    )


def _quality(quality: LiveQuality | None, limits: Monitoring) -> list[str] | None:
    """Return whether quality is lost; None where that cannot be told."""
    if quality is None or quality.rows < limits.minimum_labels:
        return None
    loss = least_loss(quality)
    if loss is None or quality.evaluated is None or quality.value is None or quality.interval is None:
        return None
    allowed = limits.maximum_quality_loss * abs(quality.evaluated)
    if loss <= allowed:
        return []
    return [
        f"{quality.metric} is {quality.value:.4g} on {quality.rows} labelled rows ({quality.interval.low:.4g} to "
        f"{quality.interval.high:.4g}), and was {quality.evaluated:.4g} when it was evaluated: at least {loss:.3g} "
        f"worse, more than {allowed:.3g}"
    ]


# --- What the tasks do --------------------------------------------------------------------------


class Retraining(Strict):
    """``retraining.json``: the last time that one was asked for."""

    schema_version: Literal[1] = 1
    at: datetime
    dag_run: str
    reasons: list[str]


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
        Refused: the champion does not say which run made it.
    """
    limits = settings.monitoring
    end = now.astimezone(UTC) - timedelta(minutes=limits.settle_minutes)
    key = digest(dag_run)[:10]
    prefix = storage.join(_folder(settings, dataset), f"{end:%Y%m%dT%H%M%SZ}-{key}")
    uri = storage.join(prefix, "config.json")
    config = storage.try_read_document(uri, RunConfig)
    if config is None:
        config = _config(settings, dataset, end, key)
        if config is None:
            return None
        storage.write_document(uri, config, new=True)
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
        raise Refused(f"champion {name} version {champion} does not say which run made it (tag run_prefix)")
    limits = settings.monitoring
    labels_start = end - timedelta(hours=limits.label_hours)
    changed = any(
        entry.at >= labels_start
        for kind in ("deployed", "rolled-back")
        for entry in audit.entries(settings, dataset, kind)  # type: ignore[arg-type]  # both are kinds
    )
    try:
        trained = storage.read_document(storage.join(prefix, "evaluate", "config.json"), RunConfig)
    except storage.StorageError as error:
        raise Refused(f"champion {name} version {champion}: {error}") from None
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


def conclude(settings: Settings, dataset: str, prefix: str) -> tuple[Verdict, Message | None]:
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
            f"Report: {reports.page(result.report_uri)}",
        ],
    )


def claim_retraining(settings: Settings, dataset: str, verdict: Verdict, dag_run: str, now: datetime) -> str | None:
    """Take the right to ask for a retraining; conditional writes decide between two that try at once.

    A run that has it already, has it again: a task tried again asks for the same retraining.

    Returns:
        None if it is granted, else why not.
    """
    if settings.monitoring.action != "retrain":
        return "the settings ask for an alarm only (monitoring.action)"
    if verdict.outcome not in ("drifted", "degraded"):
        return f"the verdict is {verdict.outcome}"
    uri = storage.join(_folder(settings, dataset), "retraining.json")
    wanted = Retraining(at=now, dag_run=dag_run, reasons=verdict.reasons)
    found = _read(uri)
    if found is None:
        if storage.write_document(uri, wanted, new=True):
            return None
        found = _read(uri)
    if found is None:
        raise storage.StorageError(f"{uri}: it was removed while this run tried to claim it")
    last, etag = found
    if last.dag_run == dag_run:
        return None
    until = last.at + timedelta(hours=settings.monitoring.cool_down_hours)
    if now < until:
        return f"one was asked for at {last.at:%Y-%m-%d %H:%M} UTC; the next may be from {until:%Y-%m-%d %H:%M} on"
    return None if _replace(uri, wanted, etag) else "another run asked for one at this moment"


def retraining(config_uri: str) -> dict[str, Any]:
    """Return the parameters of ``train_model`` that train the watched model again.

    Its family is what people chose and approved; what `training` in the settings names may be another one by now.

    Args:
        config_uri: of the step `monitor`, which is the champion's own configuration.
    """
    watched = storage.read_document(config_uri, RunConfig)
    return {"dataset": watched.model.name, "family": watched.family.name, "wait_for_new_data": False}


def _folder(settings: Settings, dataset: str) -> str:
    return f"s3://{settings.buckets.data}/monitoring/{dataset}"


def _read(uri: str) -> tuple[Retraining, str] | None:
    from botocore.exceptions import ClientError

    bucket, key = storage.split_uri(uri)
    try:
        answer = storage.client().get_object(Bucket=bucket, Key=key)
    except ClientError as error:
        if error.response["Error"]["Code"] in ("NoSuchKey", "404"):
            return None
        raise
    return Retraining.model_validate_json(answer["Body"].read()), answer["ETag"]


def _replace(uri: str, wanted: Retraining, etag: str) -> bool:
    from botocore.exceptions import ClientError

    bucket, key = storage.split_uri(uri)
    body = wanted.model_dump_json(indent=2).encode()
    try:
        storage.client().put_object(Bucket=bucket, Key=key, Body=body, ContentType="application/json", IfMatch=etag)
    except ClientError as error:
        if error.response["Error"]["Code"] in ("PreconditionFailed", "ConditionalRequestConflict", "NoSuchKey"):
            return False
        raise
    return True
