"""Asks S3, SageMaker and CloudWatch about datasets, never listing more of a prefix than its newest keys."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import replace
from datetime import datetime
from functools import partial
from typing import Any

import botocore.exceptions

from cloud.status.airflow_reading import read_airflow
from cloud.status.attempts import attempt
from cloud.status.facts import Alarm, DatasetFacts, Endpoint, Facts, Read, Unread, Update, Variant
from cloud.status.newest_keys import NewestKeys
from cloud.status.places import Place
from mlplatform import storage
from mlplatform.config import loading
from mlplatform.config.environment import Settings
from mlplatform.config.names import dag_ids
from mlplatform.documents.base import Document
from mlplatform.documents.decisions import AuditEntry
from mlplatform.documents.deployment import DeploymentRequest
from mlplatform.documents.monitoring import MonitorResult
from mlplatform.documents.paths import DeploymentPaths, monitoring_folder
from mlplatform.documents.run import RunConfig, Turn
from mlplatform.errors import StorageError
from mlplatform.ingest.turns import address
from mlplatform.promotion import audit
from mlplatform.steps import RESULT

RUNS_OF_MONITORING = 5
"""So many of the last ones are looked into for a verdict: one that is at work or failed has none."""
_MADE_BY_DEPLOYER = re.compile(r"-v([0-9]+)-[0-9a-f]{8}-[0-9a-f]{8}$")
"""The end of a name that the deployer gave a model or a configuration: the version, what it is, how it is run."""


def read(place: Place, now: datetime, pool: Executor) -> Facts:
    """Return all there is to know about an environment.

    Args:
        place: where it is.
        now: the moment of the report.
        pool: for questions at the same time.
    """
    names = loading.model_names(place.bundle)
    described = list(pool.map(partial(_described, place), names))
    ours = frozenset(dag for one in described if one.enabled is True for dag in dag_ids(one.name))
    datasets = [pool.submit(_dataset, place, one, now) if one.enabled is True else None for one in described]
    alarms = pool.submit(attempt, partial(_alarms, place, described))
    airflow = read_airflow(place.airflow, place.airflow_url, ours, now, pool)
    return Facts(
        environment=place.environment,
        at=now,
        airflow=airflow,
        alarms=alarms.result(),
        datasets=[future.result() if future else one for one, future in zip(described, datasets, strict=True)],
    )


def _described(place: Place, name: str) -> DatasetFacts:
    """Return what the configuration says of a dataset."""
    enabled = attempt(lambda: loading.is_enabled(name, place.environment, place.bundle))
    if enabled is not True:
        return DatasetFacts(name, enabled)
    settings: Read[Settings] = (
        Unread(place.no_settings)
        if place.no_settings
        else attempt(lambda: loading.load_dataset(name, place.bundle).settings)
    )
    endpoint = None if isinstance(settings, Unread) else settings.serving.endpoint_name.format(dataset=name)
    return DatasetFacts(name, enabled, settings, endpoint_name=endpoint)


def _dataset(place: Place, one: DatasetFacts, now: datetime) -> DatasetFacts:
    settings, name = one.settings, one.name
    if isinstance(settings, Unread) or one.endpoint_name is None:
        unread = settings if isinstance(settings, Unread) else Unread("it has no endpoint")
        return replace(one, endpoint=unread, put_live=unread, verdict=unread, turn=unread)
    endpoint = attempt(partial(_endpoint, place.sagemaker, one.endpoint_name))
    keys = NewestKeys(place.s3, settings.buckets.artifacts, partial(audit.key_since, name), f"audit/{name}/", now)
    put_live = attempt(lambda: _entry(place, keys, ("deployed", "rolled-back")))
    live = [] if isinstance(endpoint, Unread) or endpoint is None else endpoint.variants
    versions = [variant.version for variant in live if variant.version is not None]
    forced = isinstance(put_live, AuditEntry) and put_live.details.get("forced") == "true"
    unapproved = put_live.model_version if forced and isinstance(put_live, AuditEntry) else None
    return replace(
        one,
        endpoint=endpoint,
        put_live=put_live,
        approvals={
            each: attempt(partial(_entry, place, keys, ("approved",), each)) for each in versions if each != unapproved
        },
        families=_families(place, settings, name, put_live, versions),
        verdict=attempt(partial(_verdict, place, settings, name, now)),
        turn=attempt(lambda: _turn(place, settings, name)),
    )


# --- Documents ------------------------------------------------------------------------------------


def _document[Kind: Document](place: Place, uri: str, kind: type[Kind]) -> Kind | None:
    """Return a document; None where there is none.

    Raises:
        StorageError: it is broken.
    """
    bucket, key = storage.split_uri(uri)
    try:
        content = place.s3.get_object(Bucket=bucket, Key=key)["Body"].read()
    except botocore.exceptions.ClientError as error:
        if error.response["Error"]["Code"] == "NoSuchKey":
            return None
        raise
    return kind.read(content, uri)


def _existing[Kind: Document](place: Place, uri: str, kind: type[Kind]) -> Kind:
    found = _document(place, uri, kind)
    if found is None:
        raise StorageError(f"{uri}: no such object")
    return found


def _entry(place: Place, keys: NewestKeys, kinds: Sequence[str], version: str | None = None) -> AuditEntry | None:
    """Return the audit log's last entry of some kinds; None where there is none."""
    for key in keys:
        of_kind, of_version = audit.kind_and_version(key)
        if of_kind in kinds and version in (None, of_version):
            return _existing(place, f"s3://{keys.bucket}/{key}", AuditEntry)
    return None


def _families(
    place: Place, settings: Settings, dataset: str, put_live: Read[AuditEntry | None], versions: Sequence[str]
) -> Mapping[str, Read[str]]:
    """Return the family of each live version, by what its deployment was asked for and its evaluation was about."""
    if isinstance(put_live, Unread):
        return dict.fromkeys(versions, put_live)
    if put_live is None:
        return dict.fromkeys(versions, Unread("the audit log has no deployment"))
    name = "rollback" if put_live.kind == "rolled-back" else f"v{put_live.model_version}"
    uri = DeploymentPaths.of(settings, dataset, name, put_live.dag_run).request
    request = attempt(lambda: _existing(place, uri, DeploymentRequest))
    if isinstance(request, Unread):
        return dict.fromkeys(versions, request)
    models = [request.model, *([request.challenger.model] if request.challenger else [])]
    prefixes = {model.version: model.prefix for model in models}

    def family(prefix: str) -> str:
        return _existing(place, storage.join(prefix, "evaluate", "config.json"), RunConfig).family.name

    other = Unread(f"{uri} is of version {' and '.join(prefixes)}")
    return {
        version: attempt(partial(family, prefixes[version])) if version in prefixes else other for version in versions
    }


def _verdict(place: Place, settings: Settings, dataset: str, now: datetime) -> MonitorResult | None:
    bucket, folder = storage.split_uri(monitoring_folder(settings, dataset))

    def key_since(moment: datetime) -> str:
        return f"{folder}/{moment:%Y%m%dT%H%M%SZ}"

    runs = NewestKeys(place.s3, bucket, key_since, f"{folder}/", now, "/")
    for looked_into, run in enumerate(runs, 1):
        found = _document(place, storage.join(f"s3://{bucket}/{run}", RESULT), MonitorResult)
        if found is not None or looked_into == RUNS_OF_MONITORING:
            return found
    return None


def _turn(place: Place, settings: Settings, dataset: str) -> str | None:
    found = _document(place, address(settings.buckets.data, dataset), Turn)
    return found.owner if found else None


# --- SageMaker and CloudWatch ---------------------------------------------------------------------


def _endpoint(sagemaker: Any, name: str) -> Endpoint | None:
    try:
        described = sagemaker.describe_endpoint(EndpointName=name)
    except botocore.exceptions.ClientError as error:
        if "could not find" in error.response["Error"].get("Message", "").lower():
            return None
        raise
    # One that is being made, or was never made, runs no configuration that could be described.
    config = described["EndpointConfigName"]
    models = {
        variant["VariantName"]: variant["ModelName"]
        for variant in sagemaker.describe_endpoint_config(EndpointConfigName=config)["ProductionVariants"]
    }
    return Endpoint(
        status=described["EndpointStatus"],
        config_name=config,
        variants=[
            Variant(one["VariantName"], _version(models[one["VariantName"]]), one.get("CurrentWeight", 0.0))
            for one in described.get("ProductionVariants", [])
        ],
        failure=described.get("FailureReason"),
        update=_update(described.get("PendingDeploymentSummary")),
    )


def _update(pending: dict[str, Any] | None) -> Update | None:
    if not pending:
        return None
    stages = [status for one in pending["ProductionVariants"] for status in one.get("VariantStatus", [])]
    name = pending["EndpointConfigName"]
    return Update(name, _version(name), stages[0]["Status"] if stages else None, pending.get("StartTime"))


def _version(name: str) -> str | None:
    """Return the version that a model or configuration is of; None where no deployment made it."""
    found = _MADE_BY_DEPLOYER.search(name)
    return found[1] if found else None


def _alarms(place: Place, datasets: Sequence[DatasetFacts]) -> list[Alarm]:
    """Return the alarms whose names begin as those of the endpoints do, all in one listing."""
    settings = [one.settings for one in datasets if isinstance(one.settings, Settings)]
    if not settings:
        raise StorageError("the names of the endpoints are unknown")
    begin = settings[0].serving.endpoint_name.partition("{")[0]
    named = {"AlarmNamePrefix": begin} if begin else {}
    pages = place.cloudwatch.get_paginator("describe_alarms").paginate(**named)
    return [
        Alarm(one["AlarmName"], one["StateValue"], one.get("StateUpdatedTimestamp"), _looked_at(one))
        for page in pages
        for one in page["MetricAlarms"] + page.get("CompositeAlarms", [])
    ]


def _looked_at(alarm: dict[str, Any]) -> str | None:
    stats = [query["MetricStat"]["Metric"] for query in alarm.get("Metrics", []) if "MetricStat" in query]
    for metric in (alarm, *stats):
        for dimension in metric.get("Dimensions", []):
            if dimension["Name"] == "EndpointName":
                return str(dimension["Value"])
    return None
