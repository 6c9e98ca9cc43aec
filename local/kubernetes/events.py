"""Event objects, as `kubectl describe` and KubernetesPodOperator read them."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable

from local.kubernetes.errors import JSON
from local.kubernetes.store import Store
from local.kubernetes.times import microtime, timestamp

_MAX_EVENTS = 2000


class EventRecorder:
    """Writes events; the same event of the same object again only raises its count."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._names: dict[tuple[str, str, str], tuple[str, str]] = {}

    def record(
        self, pod: JSON, kind: str, reason: str, message: str, container: str | None = None, component: str = "kubelet"
    ) -> None:
        """Write an event about a pod (or a job), or one of its containers (`containers{name}`): Normal or Warning."""
        now = timestamp()
        source = {"component": component}
        if component == "kubelet" and pod["spec"].get("nodeName"):
            source["host"] = pod["spec"]["nodeName"]
        event = {
            "reason": reason,
            "message": message,
            "source": source,
            "firstTimestamp": now,
            "lastTimestamp": now,
            "eventTime": None,
            "count": 1,
            "type": kind,
            "reportingComponent": component,
            "reportingInstance": source.get("host", ""),
        }
        self._write(pod, event, _count, container)

    def schedule(self, pod: JSON, kind: str, reason: str, action: str, message: str) -> None:
        """Write an event of the scheduler, which makes those of events.k8s.io/v1: one time, and a series of others."""
        event: JSON = {
            "reason": reason,
            "message": message,
            "source": {},
            "firstTimestamp": None,
            "lastTimestamp": None,
            "eventTime": microtime(),
            "action": action,
            "type": kind,
            "reportingComponent": "default-scheduler",
            "reportingInstance": f"default-scheduler-{socket.gethostname()}",
        }
        self._write(pod, event, _continue_series)

    def _write(self, pod: JSON, event: JSON, repeat: Callable[[JSON], None], container: str | None = None) -> None:
        metadata = pod["metadata"]
        namespace = metadata["namespace"]
        key = (metadata["uid"], event["reason"], event["message"])
        if key in self._names and self._store.find("events", *self._names[key]):
            self._store.update("events", *self._names[key], repeat)
            return
        involved = {
            "kind": pod["kind"],
            "namespace": namespace,
            "name": metadata["name"],
            "uid": metadata["uid"],
            "apiVersion": pod["apiVersion"],
            "resourceVersion": metadata.get("resourceVersion", ""),
        }
        if container:
            involved["fieldPath"] = f"spec.{container}"
        # The name must not be taken by a same-named pod's event of an earlier life.
        name = f"{metadata['name'][:200]}.{time.time_ns():016x}"
        self._store.create(
            "events", {"metadata": {"namespace": namespace, "name": name}, "involvedObject": involved, **event}
        )
        self._names[key] = (namespace, name)
        if len(self._names) > _MAX_EVENTS:
            oldest = next(iter(self._names))
            forgotten = self._names.pop(oldest)
            if self._store.find("events", *forgotten):
                self._store.delete("events", *forgotten)


def _count(event: JSON) -> None:
    event["count"] += 1
    event["lastTimestamp"] = timestamp()


def _continue_series(event: JSON) -> None:
    count = event.get("series", {"count": 1})["count"] + 1
    event["series"] = {"count": count, "lastObservedTime": microtime()}
