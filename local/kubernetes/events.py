"""Event objects, as `kubectl describe` and KubernetesPodOperator read them."""

from __future__ import annotations

import time

from local.kubernetes.errors import JSON
from local.kubernetes.store import Store, timestamp

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
        metadata = pod["metadata"]
        namespace = metadata["namespace"]
        key = (metadata["uid"], reason, message)
        if key in self._names and self._store.find("events", *self._names[key]):
            self._store.update("events", *self._names[key], _count)
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
        now = timestamp()
        source = {"component": component}
        if component == "kubelet" and pod["spec"].get("nodeName"):
            source["host"] = pod["spec"]["nodeName"]
        # The name must not be taken by a same-named pod's event of an earlier life.
        name = f"{metadata['name'][:200]}.{time.time_ns():016x}"
        event = {
            "metadata": {"namespace": namespace, "name": name},
            "involvedObject": involved,
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
        self._store.create("events", event)
        self._names[key] = (namespace, name)
        if len(self._names) > _MAX_EVENTS:
            oldest = next(iter(self._names))
            forgotten = self._names.pop(oldest)
            if self._store.find("events", *forgotten):
                self._store.delete("events", *forgotten)


def _count(event: JSON) -> None:
    event["count"] += 1
    event["lastTimestamp"] = timestamp()
