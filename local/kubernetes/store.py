"""The objects of the API, with one resource version for all of them and a window of past changes to watch."""

from __future__ import annotations

import asyncio
import copy
import time
import uuid
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

from local.kubernetes import deletion
from local.kubernetes.errors import JSON, ApiError, already_exists, not_found
from local.kubernetes.kinds import KINDS, WITH_GENERATION, group_version
from local.kubernetes.times import timestamp

Key = tuple[str, str]


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
        self._when_deleted: list[Callable[[str, JSON], None]] = []

    def when_deleted(self, callback: Callable[[str, JSON], None]) -> None:
        """Have a function called with the resource and the object whenever one is gone."""
        self._when_deleted.append(callback)

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
        if resource in WITH_GENERATION:
            obj["metadata"]["generation"] = 1
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
        """Apply a change to an object in place and store it, if anything is different then.

        An object that only waited for its finalizers goes with the last of them.
        """
        obj = self.get(resource, namespace, name)
        change(obj)
        previous = self._objects[resource][(namespace, name)]
        if obj == previous:
            return obj
        if deletion.is_marked(previous) and not obj["metadata"].get("finalizers"):
            return self._drop(resource, obj, previous)
        return self._write(resource, obj, previous)

    def delete(self, resource: str, namespace: str, name: str) -> JSON:
        """Remove an object, or only mark it while it has finalizers; 404 when there is none."""
        obj = self.get(resource, namespace, name)
        if obj["metadata"].get("finalizers"):
            return self.update(resource, namespace, name, deletion.mark)
        return self._drop(resource, obj, self._objects[resource][(namespace, name)])

    def _drop(self, resource: str, obj: JSON, previous: JSON) -> JSON:
        metadata = obj["metadata"]
        del self._objects[resource][(metadata.get("namespace", ""), metadata["name"])]
        self.version += 1
        metadata["resourceVersion"] = str(self.version)
        self._record(resource, "DELETED", obj, previous)
        for callback in self._when_deleted:
            callback(resource, copy.deepcopy(obj))
        return copy.deepcopy(obj)

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
