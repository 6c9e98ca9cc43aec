"""The objects of the API, with one resource version for all of them and a window of past changes to watch."""

from __future__ import annotations

import asyncio
import copy
import time
import uuid
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime

from local.kubernetes.errors import JSON, ApiError, already_exists, not_found
from local.kubernetes.kinds import KINDS, group_version

Key = tuple[str, str]


def timestamp(at: float | None = None) -> str:
    """Return a metav1.Time: UTC, whole seconds."""
    return datetime.fromtimestamp(time.time() if at is None else at, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


@dataclass(frozen=True)
class Change:
    """One write: type is ADDED, MODIFIED or DELETED; previous is the object before it, if there was one."""

    version: int
    resource: str
    type: str
    object: JSON
    previous: JSON | None


class Store:
    """Objects by resource, namespace and name. Every object handed out is a copy."""

    def __init__(self, window: int = 4000) -> None:
        # Starting from the clock, the versions of an earlier server on the same address are older than
        # anything here, so that its watchers are told 410 Expired instead of waiting for ever.
        self.version = int(time.time() * 1000)
        self.oldest = self.version
        self._objects: dict[str, dict[Key, JSON]] = {resource: {} for resource in KINDS}
        self._window: deque[Change] = deque()
        self._window_size = window
        self._changed = asyncio.Event()

    def _record(self, resource: str, kind: str, obj: JSON, previous: JSON | None) -> None:
        if len(self._window) >= self._window_size:
            self.oldest = self._window.popleft().version
        self._window.append(Change(self.version, resource, kind, obj, previous))
        self._changed.set()
        self._changed = asyncio.Event()

    def _write(self, resource: str, obj: JSON, previous: JSON | None) -> JSON:
        self.version += 1
        stored = copy.deepcopy(obj)
        stored["metadata"]["resourceVersion"] = str(self.version)
        metadata = stored["metadata"]
        self._objects[resource][(metadata.get("namespace", ""), metadata["name"])] = stored
        self._record(resource, "ADDED" if previous is None else "MODIFIED", stored, previous)
        return copy.deepcopy(stored)

    def create(self, resource: str, obj: JSON) -> JSON:
        """Store a new object with a uid, unless it has one, and its creation time; 409 when the name is taken."""
        metadata = obj["metadata"]
        if (metadata.get("namespace", ""), metadata["name"]) in self._objects[resource]:
            raise already_exists(resource, metadata["name"])
        obj = {"apiVersion": group_version(resource), "kind": KINDS[resource], **obj}
        uid = metadata.get("uid") or str(uuid.uuid4())
        obj["metadata"] = {**metadata, "uid": uid, "creationTimestamp": timestamp()}
        return self._write(resource, obj, None)

    def find(self, resource: str, namespace: str, name: str) -> JSON | None:
        """Return a copy of an object, or None."""
        obj = self._objects[resource].get((namespace, name))
        return copy.deepcopy(obj) if obj is not None else None

    def get(self, resource: str, namespace: str, name: str) -> JSON:
        """Return a copy of an object; 404 when there is none."""
        obj = self.find(resource, namespace, name)
        if obj is None:
            raise not_found(resource, name)
        return obj

    def select(
        self, resource: str, namespace: str = "", matches: Callable[[JSON], bool] = lambda _: True
    ) -> list[JSON]:
        """Return copies of the matching objects, ordered by namespace and name."""
        objects = self._objects[resource]
        keys = sorted(key for key in objects if not namespace or key[0] == namespace)
        return [copy.deepcopy(objects[key]) for key in keys if matches(objects[key])]

    def update(self, resource: str, namespace: str, name: str, change: Callable[[JSON], object]) -> JSON:
        """Apply a change to an object in place and store it, if anything is different then."""
        obj = self.get(resource, namespace, name)
        change(obj)
        previous = self._objects[resource][(namespace, name)]
        return self._write(resource, obj, previous) if obj != previous else obj

    def delete(self, resource: str, namespace: str, name: str) -> JSON:
        """Remove an object; 404 when there is none."""
        obj = self._objects[resource].pop((namespace, name), None)
        if obj is None:
            raise not_found(resource, name)
        self.version += 1
        gone = copy.deepcopy(obj)
        gone["metadata"]["resourceVersion"] = str(self.version)
        self._record(resource, "DELETED", gone, obj)
        return copy.deepcopy(gone)

    def changes_since(self, version: int) -> list[Change]:
        """Return the writes after a version; 410 Expired when some of them are no longer known."""
        if version < self.oldest:
            raise ApiError(410, f"too old resource version: {version} ({self.oldest})")
        if not self._window or self._window[-1].version <= version:
            return []
        newer: list[Change] = []
        for change in reversed(self._window):
            if change.version <= version:
                break
            newer.append(change)
        return newer[::-1]

    async def wait_for_change(self, version: int, timeout: float) -> None:
        """Return once something was written after a version, or after a time in seconds."""
        if self.version > version:
            return
        try:
            await asyncio.wait_for(self._changed.wait(), timeout)
        except TimeoutError:
            return
