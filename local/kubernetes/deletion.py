"""What a deletion does to an object: its timestamp, its grace period, and whether it may go yet.

Follows k8s.io/apiserver/pkg/registry/rest/delete.go.
"""

from __future__ import annotations

import time
from datetime import datetime

from local.kubernetes.errors import JSON
from local.kubernetes.phases import is_over
from local.kubernetes.times import timestamp


def grace_of(pod: JSON, wanted: int | None) -> int:
    """Return the seconds a pod gets between SIGTERM and SIGKILL: none when nothing of it runs."""
    if not pod["spec"].get("nodeName") or is_over(pod):
        return 0
    seconds: int = pod["spec"]["terminationGracePeriodSeconds"] if wanted is None else wanted
    return 1 if seconds < 0 else seconds


def mark(obj: JSON, grace: int = 0) -> None:
    """Mark an object as deleted, in place; a second deletion may only shorten the grace period."""
    metadata = obj["metadata"]
    if "deletionTimestamp" not in metadata:
        asked = time.time()
    elif grace < metadata["deletionGracePeriodSeconds"]:
        asked = datetime.fromisoformat(metadata["deletionTimestamp"]).timestamp()
        asked -= metadata["deletionGracePeriodSeconds"]
    else:
        return
    if "generation" in metadata and "deletionTimestamp" not in metadata:
        metadata["generation"] += 1
    metadata["deletionTimestamp"] = timestamp(asked + grace)
    metadata["deletionGracePeriodSeconds"] = grace


def is_marked(obj: JSON) -> bool:
    """Tell whether an object only waits for its finalizers."""
    metadata = obj["metadata"]
    return "deletionTimestamp" in metadata and metadata.get("deletionGracePeriodSeconds") == 0


def drop_finalizer(obj: JSON, finalizer: str) -> None:
    """Take a finalizer off an object, in place."""
    metadata = obj["metadata"]
    left = [name for name in metadata.pop("finalizers", []) if name != finalizer]
    if left:
        metadata["finalizers"] = left
