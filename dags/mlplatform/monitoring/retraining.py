"""Whether a watched model is trained again, and with which parameters."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

from mlplatform import storage
from mlplatform.config.environment import Settings
from mlplatform.documents.monitoring import MonitoringVerdict, Retraining
from mlplatform.documents.paths import monitoring_folder
from mlplatform.documents.run import RunConfig
from mlplatform.errors import StorageError


def claim(settings: Settings, dataset: str, verdict: MonitoringVerdict, dag_run: str, now: datetime) -> str | None:
    """Take the right to ask for a retraining; conditional writes decide between two that try at once.

    A run that has it already, has it again: a task tried again asks for the same retraining.

    Returns:
        None if it is granted, else why not.
    """
    if settings.monitoring.action != "retrain":
        return "the settings ask for an alarm only (monitoring.action)"
    if verdict.outcome not in ("drifted", "degraded"):
        return f"the verdict is {verdict.outcome}"
    uri = storage.join(monitoring_folder(settings, dataset), "retraining.json")
    wanted = Retraining(at=now, dag_run=dag_run, reasons=verdict.reasons)
    found = storage.read_stored(uri, Retraining)
    if found is None:
        if storage.create_document(uri, wanted) is not None:
            return None
        found = storage.read_stored(uri, Retraining)
    if found is None:
        raise StorageError(f"{uri}: it was removed while this run tried to claim it")
    last = found.document
    if last.dag_run == dag_run:
        return None
    until = last.at + timedelta(hours=settings.monitoring.cool_down_hours)
    if now < until:
        return f"one was asked for at {last.at:%Y-%m-%d %H:%M} UTC; the next may be from {until:%Y-%m-%d %H:%M} on"
    if storage.replace_document(uri, wanted, found.etag) is None:
        return "another run asked for one at this moment"
    return None


def parameters(config_uri: str) -> dict[str, Any]:
    """Return the parameters of a training run that trains the watched model again.

    Its family is what people chose and approved; what `training` in the settings names may be another one by now.

    Args:
        config_uri: of the step `monitor`, which is the champion's own configuration.
    """
    watched = storage.read_document(config_uri, RunConfig)
    return {"family": watched.family.name, "wait_for_new_data": False}
