"""What a Job wants: its pods, and what their ends make of it. Follows k8s.io/kubernetes/pkg/controller/job."""

from __future__ import annotations

import copy
from collections.abc import Iterable
from dataclasses import dataclass, field

from local.kubernetes.errors import JSON
from local.kubernetes.names import MAX_GENERATED, generated_name
from local.kubernetes.phases import is_over

INDEX = "batch.kubernetes.io/job-completion-index"
TRACKING = "batch.kubernetes.io/job-tracking"
REACHED = ("CompletionsReached", "Reached expected number of succeeded pods")
FAILURES = {
    "BackoffLimitExceeded": "Job has reached the specified backoff limit",
    "DeadlineExceeded": "Job was active longer than specified deadline",
}


@dataclass
class Account:
    """What is known of a job's pods that have ended; each is counted once, also if it was deleted."""

    started: float
    """Seconds since the epoch."""
    seen: set[str] = field(default_factory=set)
    succeeded: int = 0
    indexes: set[int] = field(default_factory=set)
    """Those that have succeeded."""
    failed: int = 0
    last_failure: float = 0.0
    finished: float | None = None

    def count(self, pod: JSON, now: float, *, gone: bool = False) -> None:
        """Count a pod if it has ended, or was deleted before it could."""
        phase, uid = pod["status"]["phase"], pod["metadata"]["uid"]
        if uid in self.seen or not (is_over(pod) or gone or "deletionTimestamp" in pod["metadata"]):
            return
        self.seen.add(uid)
        if phase != "Succeeded":
            self.failed += 1
            self.last_failure = now
            return
        index = index_of(pod)
        if index is None or index not in self.indexes:
            self.succeeded += 1
        if index is not None:
            self.indexes.add(index)


def index_of(pod: JSON) -> int | None:
    """Return the completion index of a job's pod."""
    text = pod["metadata"].get("annotations", {}).get(INDEX)
    return None if text is None else int(text)


def owner_of(pod: JSON) -> str | None:
    """Return the uid of the job a pod belongs to."""
    owners = pod["metadata"].get("ownerReferences", [])
    return next((o["uid"] for o in owners if o.get("controller") and o["kind"] == "Job"), None)


def finished(job: JSON) -> bool:
    """Tell whether a job is Complete or Failed."""
    return any(c["type"] in ("Complete", "Failed") for c in job["status"].get("conditions", []))


def condition(job: JSON, kind: str) -> JSON | None:
    """Return a condition of a job."""
    return next((c for c in job["status"].get("conditions", []) if c["type"] == kind), None)


def failure(job: JSON, account: Account, now: float) -> str | None:
    """Return why a job has failed: the reason of its condition."""
    spec = job["spec"]
    if account.failed > spec["backoffLimit"]:
        return "BackoffLimitExceeded"
    deadline = spec.get("activeDeadlineSeconds")
    if deadline is not None and now - account.started >= deadline:
        return "DeadlineExceeded"
    return None


def succeeded(job: JSON, account: Account, active: int) -> bool:
    """Tell whether a job has reached what it wanted."""
    completions = job["spec"].get("completions")
    if completions is None:  # a work queue: whoever ends well says that it is empty
        return account.succeeded > 0 and active == 0
    if job["spec"]["completionMode"] == "Indexed":
        return all(index in account.indexes for index in range(completions))
    return bool(account.succeeded >= completions)


def missing(job: JSON, account: Account, active: list[JSON]) -> tuple[list[int | None], list[JSON]]:
    """Return which pods are to be made (their indexes; None without any) and which are too many."""
    spec = job["spec"]
    completions, parallelism = spec.get("completions"), spec["parallelism"]
    if completions is None:
        wanted = len(active) if account.succeeded else parallelism
    else:
        done = len([i for i in account.indexes if i < completions]) if is_indexed(job) else account.succeeded
        wanted = min(parallelism, completions - done)
    wanted = max(wanted, 0)
    if is_indexed(job):
        running = {index_of(pod) for pod in active}
        free = [i for i in range(completions) if i not in account.indexes and i not in running]
        surplus = sorted(active, key=lambda pod: index_of(pod) or 0)[wanted:]
        return list(free[: max(wanted - len(active), 0)]), surplus
    return [None] * max(wanted - len(active), 0), active[wanted:]


def backoff(times: int, first: float, longest: float) -> float:
    """Return the seconds to wait after so many failures: doubled with each, up to the longest."""
    return min(first * 2.0 ** min(times - 1, 30), longest)


def is_indexed(job: JSON) -> bool:
    """Tell whether a job's pods have indexes."""
    return bool(job["spec"]["completionMode"] == "Indexed")


def make_pod(job: JSON, index: int | None) -> JSON:
    """Return a new pod of a job, as its controller makes it."""
    template, name = copy.deepcopy(job["spec"]["template"]), job["metadata"]["name"]
    prefix = f"{name}-"
    metadata = {
        **template["metadata"],
        "namespace": job["metadata"]["namespace"],
        "finalizers": [TRACKING],
        "ownerReferences": [
            {
                "apiVersion": "batch/v1",
                "kind": "Job",
                "name": name,
                "uid": job["metadata"]["uid"],
                "controller": True,
                "blockOwnerDeletion": True,
            }
        ],
    }
    spec = template["spec"]
    if index is not None:
        end = f"-{index}-"
        prefix = name[: MAX_GENERATED - len(end)] + end
        metadata["annotations"] = metadata.get("annotations", {}) | {INDEX: str(index)}
        metadata["labels"] = metadata.get("labels", {}) | {INDEX: str(index)}
        spec["hostname"] = f"{name}-{index}"
        for container in spec["containers"] + spec.get("initContainers", []):
            _tell_index(container)
    metadata["generateName"] = prefix
    metadata["name"] = generated_name(prefix)
    return {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec}


def _tell_index(container: JSON) -> None:
    env = container.setdefault("env", [])
    if not any(variable["name"] == "JOB_COMPLETION_INDEX" for variable in env):
        source = {"fieldRef": {"apiVersion": "v1", "fieldPath": f"metadata.labels['{INDEX}']"}}
        env.append({"name": "JOB_COMPLETION_INDEX", "valueFrom": source})


def ranges(indexes: Iterable[int]) -> str:
    """Return indexes as ``completedIndexes`` has them: ``0-2,5``; two in a row are ``3,4``."""
    parts: list[list[int]] = []
    for index in sorted(indexes):
        if parts and parts[-1][-1] == index - 1:
            parts[-1].append(index)
        else:
            parts.append([index])
    texts = [",".join(map(str, part)) if len(part) < 3 else f"{part[0]}-{part[-1]}" for part in parts]
    return ",".join(texts)
