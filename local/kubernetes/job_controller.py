"""Makes the pods of Jobs, counts their ends, says what became of the Job, and clears away what it leaves."""

from __future__ import annotations

import asyncio
import logging
import time
from collections import Counter
from collections.abc import Callable

from local.kubernetes import deletion, jobs
from local.kubernetes.errors import JSON, ApiError
from local.kubernetes.jobs import Account
from local.kubernetes.kubelet import Kubelet
from local.kubernetes.phases import is_over
from local.kubernetes.store import Change, Store
from local.kubernetes.times import timestamp

logger = logging.getLogger(__name__)

FOREGROUND = "foregroundDeletion"
# In a real cluster, doubled with each failure: of a pod, and of making one.
_BACKOFF_SECONDS, _MAX_BACKOFF_SECONDS = 10.0, 600.0
_REFUSED_SECONDS, _MAX_REFUSED_SECONDS = 1.0, 60.0
_FOREVER = 3600.0


class JobController:
    """The control loop of Jobs.

    Args:
        add: defaults, checks and stores an object, as the API does with one that is posted; raises `ApiError`.
    """

    def __init__(self, store: Store, kubelet: Kubelet, add: Callable[[str, JSON], JSON]) -> None:
        self._store = store
        self._kubelet = kubelet
        self._add = add
        self._accounts: dict[str, Account] = {}
        self._refusals: Counter[str] = Counter()
        self._timers: dict[tuple[str, str], asyncio.TimerHandle] = {}

    def start(self) -> None:
        """Begin to look after jobs."""
        self._kubelet.spawn(self._run())

    async def _run(self) -> None:
        version = self._store.version
        while True:
            try:
                changes = self._store.changes_since(version)
            except ApiError:  # more was written at once than the store remembers
                logger.warning("job controller: changes were missed; looking at all jobs")
                changes = []
                version = self._store.version
                self.look_at_all()
            for change in changes:
                version = change.version
                self._notice(change)
            await self._store.wait_for_change(version, _FOREVER)

    def look_at_all(self) -> None:
        """Look after every job, and after the pods of those that are gone."""
        there = {job["metadata"]["uid"] for job in self._store.select("jobs")}
        owners = {uid for pod in self._store.select("pods") if (uid := jobs.owner_of(pod)) is not None}
        for uid in sorted(owners - there):
            self._forget(uid)
        for uid in sorted(there):
            self._try_sync(uid)

    def _notice(self, change: Change) -> None:
        uid = None
        if change.resource == "jobs":
            uid = change.object["metadata"]["uid"]
            if change.type == "DELETED":
                self._forget(uid)
                return
        elif change.resource == "pods" and (uid := jobs.owner_of(change.object)) is not None:
            account = self._accounts.get(uid)
            if change.type == "DELETED" and account is not None:
                account.count(change.object, time.time(), gone=True)
        if uid is not None:
            self._try_sync(uid)

    def _forget(self, uid: str) -> None:
        """Clear away after a job that is gone."""
        self._accounts.pop(uid, None)
        for key in [key for key in self._timers if key[0] == uid]:
            self._timers.pop(key).cancel()
        self._refusals.pop(uid, None)
        self._clear(self._pods(uid))

    def _clear(self, pods: list[JSON]) -> None:
        """Delete the pods of a job that nobody counts any more."""
        for pod in pods:
            if "deletionTimestamp" not in pod["metadata"]:
                self._kubelet.delete(pod, None)
            self._release(pod)

    def _release(self, pod: JSON) -> None:
        """Take the tracking finalizer off a pod that is counted."""
        if jobs.TRACKING in pod["metadata"].get("finalizers", []):
            metadata = pod["metadata"]
            self._store.update(
                "pods", metadata["namespace"], metadata["name"], lambda obj: deletion.drop_finalizer(obj, jobs.TRACKING)
            )

    def _try_sync(self, uid: str) -> None:
        job = next((j for j in self._store.select("jobs") if j["metadata"]["uid"] == uid), None)
        if job is None:
            # A pod was made, or its end told, after its job was gone.
            self._clear(self._pods(uid))
            return
        try:
            self._sync(job)
        except Exception:
            logger.exception("job %s/%s: the local job controller failed", *self._key(job))

    def _pods(self, uid: str) -> list[JSON]:
        return self._store.select("pods", matches=lambda pod: jobs.owner_of(pod) == uid)

    @staticmethod
    def _key(job: JSON) -> tuple[str, str]:
        return job["metadata"]["namespace"], job["metadata"]["name"]

    # -- one job

    def _sync(self, job: JSON) -> None:
        uid, now = job["metadata"]["uid"], time.time()
        pods = self._pods(uid)
        if FOREGROUND in job["metadata"].get("finalizers", []):
            self._delete_all(job, pods)
            return
        if jobs.finished(job):
            for pod in pods:
                self._release(pod)
            self._expire(job, now)
            return
        account = self._accounts.setdefault(uid, Account(started=now))
        for pod in pods:
            account.count(pod, now)
        active = [pod for pod in pods if pod["metadata"]["uid"] not in account.seen]
        problem = jobs.condition(job, "FailureTarget")
        reason = problem["reason"] if problem else jobs.failure(job, account, now)
        done = reason is None and jobs.succeeded(job, account, len(active))
        if reason is not None or done:
            self._delete_pods(job, active)
            active = []
        elif "deletionTimestamp" not in job["metadata"]:
            active = self._manage(job, account, active, now)
        self._tell(job, account, active, reason, done)
        deadline = job["spec"].get("activeDeadlineSeconds")
        if deadline is not None and reason is None and not done:
            self._look_again(uid, account.started + deadline - now)

    def _manage(self, job: JSON, account: Account, active: list[JSON], now: float) -> list[JSON]:
        """Make the pods that are missing, delete those that are too many; return the active ones."""
        wanted, surplus = jobs.missing(job, account, active)
        self._delete_pods(job, surplus)
        active = [pod for pod in active if pod not in surplus]
        if not wanted:
            return active
        if account.failed:
            pause = self._kubelet.scaled(jobs.backoff(account.failed, _BACKOFF_SECONDS, _MAX_BACKOFF_SECONDS))
            if (left := account.last_failure + pause - now) > 0:
                self._look_again(job["metadata"]["uid"], left, "retry")
                return active
        for index in wanted:
            try:
                pod = self._add("pods", jobs.make_pod(job, index))
            except ApiError as error:
                self._event(job, "Warning", "FailedCreate", f"Error creating: {error}")
                uid = job["metadata"]["uid"]
                self._refusals[uid] += 1
                pause = jobs.backoff(self._refusals[uid], _REFUSED_SECONDS, _MAX_REFUSED_SECONDS)
                self._look_again(uid, self._kubelet.scaled(pause), "retry")
                break
            self._refusals.pop(job["metadata"]["uid"], None)
            self._event(job, "Normal", "SuccessfulCreate", f"Created pod: {pod['metadata']['name']}")
            active.append(pod)
        return active

    def _delete_pods(self, job: JSON, pods: list[JSON]) -> None:
        for pod in pods:
            self._kubelet.delete(pod, None)
            self._event(job, "Normal", "SuccessfulDelete", f"Deleted pod: {pod['metadata']['name']}")

    def _tell(self, job: JSON, account: Account, active: list[JSON], reason: str | None, done: bool) -> None:
        """Write the job's status; it is over only when none of its pods runs any more."""
        pods = self._pods(job["metadata"]["uid"])
        terminating = [pod for pod in pods if "deletionTimestamp" in pod["metadata"] and not is_over(pod)]
        over = not active and not terminating
        for pod in pods:  # those that were deleted just now
            account.count(pod, time.time())
        conditions = list(job["status"].get("conditions", []))
        added = []
        if reason is not None:
            added = [("FailureTarget", reason, jobs.FAILURES[reason])]
            added += [("Failed", reason, jobs.FAILURES[reason])] if over else []
        elif done:
            added = [("SuccessCriteriaMet", *jobs.REACHED)]
            added += [("Complete", *jobs.REACHED)] if over else []
        there = {condition["type"] for condition in conditions}
        now = timestamp()
        conditions += [
            {"type": kind, "status": "True", "reason": why, "message": text, "lastProbeTime": now}
            | {"lastTransitionTime": now}
            for kind, why, text in added
            if kind not in there
        ]
        status: JSON = {
            "startTime": job["status"].get("startTime") or timestamp(account.started),
            "ready": sum(_is_ready(pod) for pod in active),
            "terminating": len(terminating),
            "uncountedTerminatedPods": {},
        }
        amounts = {"active": len(active), "succeeded": account.succeeded, "failed": account.failed}
        status |= {name: amount for name, amount in amounts.items() if amount}
        if jobs.is_indexed(job) and account.indexes:
            status["completedIndexes"] = jobs.ranges(account.indexes)
        if conditions:
            status["conditions"] = conditions
        if done and over:
            status["completionTime"] = now
        stored = self._store.update("jobs", *self._key(job), lambda obj: obj.update(status=status))
        for pod in pods:
            if pod["metadata"]["uid"] in account.seen:
                self._release(pod)
        if over and reason is not None:
            self._event(stored, "Warning", reason, jobs.FAILURES[reason])
        elif over and done:
            self._event(stored, "Normal", "Completed", "Job completed")

    # -- the end of a job

    def _delete_all(self, job: JSON, pods: list[JSON]) -> None:
        """Delete a job in the foreground: first its pods, then itself."""
        self._clear(pods)
        if not self._pods(job["metadata"]["uid"]):
            self._store.update("jobs", *self._key(job), lambda obj: deletion.drop_finalizer(obj, FOREGROUND))

    def _expire(self, job: JSON, now: float) -> None:
        ttl = job["spec"].get("ttlSecondsAfterFinished")
        if ttl is None:
            return
        key, uid = self._key(job), job["metadata"]["uid"]
        account = self._accounts[uid]
        end = account.finished = account.finished or now
        if now - end >= ttl:
            self._store.delete("jobs", *key)
        else:
            self._look_again(uid, end + ttl - now, "ttl")

    def _look_again(self, uid: str, seconds: float, why: str = "deadline") -> None:
        """Look at a job again after some time; of several times, each purpose has its own."""
        key = (uid, why)
        if timer := self._timers.pop(key, None):
            timer.cancel()
        self._timers[key] = asyncio.get_running_loop().call_later(max(seconds, 0.0), self._try_sync, uid)

    def _event(self, job: JSON, kind: str, reason: str, message: str) -> None:
        self._kubelet.events.record(job, kind, reason, message, component="job-controller")


def _is_ready(pod: JSON) -> bool:
    return any(c["type"] == "Ready" and c["status"] == "True" for c in pod["status"].get("conditions", []))
