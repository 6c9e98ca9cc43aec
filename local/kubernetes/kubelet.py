"""Binds pods to nodes and gives each bound pod a worker."""

from __future__ import annotations

import asyncio
import contextlib
import shutil
import time
from collections.abc import Coroutine
from pathlib import Path
from typing import Any

from local.images import ImageRegistry
from local.kubernetes import deletion, scheduler
from local.kubernetes.containers import set_condition
from local.kubernetes.errors import JSON
from local.kubernetes.events import EventRecorder
from local.kubernetes.faults import Fault, Faults
from local.kubernetes.node import DEFAULT_TIME_SCALE, Node
from local.kubernetes.phases import is_over
from local.kubernetes.pod_status import Stop
from local.kubernetes.pods import NODE_LOST, PodWorker
from local.kubernetes.processes import Guard, process_table
from local.kubernetes.records import ContainerRecord, PodRecord, Records
from local.kubernetes.store import Store
from local.kubernetes.times import timestamp

_SAMPLE_SECONDS = 0.25
_KEPT_LOGS = 500
_GONE_SECONDS = 1.0  # in a real cluster, from the end of a deleted pod to the end of its object


class Kubelet:
    """The nodes' side of the API: everything that happens to pods on its own."""

    def __init__(
        self,
        store: Store,
        images: ImageRegistry,
        state_dir: Path,
        *,
        pod_env_file: Path | None,
        faults: Faults,
        records: Records,
        start_delay: float,
        gpus: int,
        time_scale: float = DEFAULT_TIME_SCALE,
    ) -> None:
        self.store = store
        self.faults = faults
        self.gpus = gpus
        self.events = EventRecorder(store)
        self.guard = Guard()
        self.workers: dict[str, PodWorker] = {}
        self._node = Node(
            store=store,
            images=images,
            faults=faults,
            events=self.events,
            guard=self.guard,
            pods_dir=state_dir / "pods",
            logs_dir=state_dir / "logs",
            pod_env_file=pod_env_file,
            start_delay=start_delay,
            time_scale=time_scale,
        )
        self.scaled = self._node.scaled
        store.when_deleted(self._gone)
        self._records = records
        self._closing = False
        self._record_of: dict[str, PodRecord] = {}
        self._unschedulable: dict[str, tuple[Fault, float]] = {}
        self._last_problem: dict[str, str] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        # What an earlier server left: its pods are gone, their volumes too.
        shutil.rmtree(self._node.pods_dir, ignore_errors=True)
        _prune_logs(self._node.logs_dir)

    def spawn(self, work: Coroutine[Any, Any, None]) -> None:
        """Run a coroutine in the background until it ends or the server does."""
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def start(self) -> None:
        """Begin watching memory."""
        self.spawn(self._watch_memory())

    async def _watch_memory(self) -> None:
        while True:
            await asyncio.sleep(_SAMPLE_SECONDS)
            busy = [worker for worker in self.workers.values() if worker.has_processes()]
            if busy:
                table = process_table()
                for worker in busy:
                    worker.check_memory(table)

    # -- scheduling

    def admit(self, pod: JSON) -> None:
        """Take on a pod that was just created."""
        metadata, spec = pod["metadata"], pod["spec"]
        record = PodRecord(
            uid=metadata["uid"],
            namespace=metadata["namespace"],
            name=metadata["name"],
            labels=metadata.get("labels", {}),
            created=time.time(),
            service_account=spec["serviceAccountName"],
            containers=[
                ContainerRecord(c["name"], c["image"]) for c in spec["containers"] + spec.get("initContainers", [])
            ],
        )
        self._record_of[record.uid] = record
        self._records.pods.append(record)
        asyncio.get_running_loop().call_soon(self.schedule)

    def record_of(self, pod: JSON) -> PodRecord:
        """Return the history entry of a pod."""
        return self._record_of[pod["metadata"]["uid"]]

    def schedule(self) -> None:
        """Try to place every pod that has no node yet, oldest first."""
        if self._closing:
            return
        waiting = [p for p in self.store.select("pods") if p["metadata"]["uid"] not in self.workers and _is_waiting(p)]
        waiting.sort(key=lambda p: (-p["spec"].get("priority", 0), self.record_of(p).created))
        for pod in waiting:
            self._place(pod)

    def _place(self, pod: JSON) -> None:
        uid = pod["metadata"]["uid"]
        if uid not in self._unschedulable and (fault := self.faults.take("unschedulable", pod)):
            self._unschedulable[uid] = (fault, time.monotonic())
            if fault.duration is not None:
                asyncio.get_running_loop().call_later(fault.duration, self.schedule)
        nodes = self.store.select("nodes")
        if uid in self._unschedulable and self._unschedulable[uid][0].lasts(self._unschedulable[uid][1]):
            message = self._unschedulable[uid][0].request.message or scheduler.refusal(
                pod, [[scheduler.Problem("node(s) were unschedulable")] for _ in nodes]
            )
            node = None
        elif pod["spec"].get("nodeName"):
            node, message = pod["spec"]["nodeName"], ""
            if self.store.find("nodes", "", node) is None:
                return
        else:
            node, message = scheduler.place(pod, nodes, self._running())
        if node is not None:
            self._bind(pod, node)
        elif self._last_problem.get(uid) != message:
            self._last_problem[uid] = message
            self._refuse(pod, message)

    def _running(self) -> list[JSON]:
        """Return the pods that hold room on a node.

        A pod's processes can outlive what the API says of it by a moment: when it was deleted without grace, it is
        gone before the worker has finished and given its GPUs back.
        """
        told = {p["metadata"]["uid"]: p for p in self.store.select("pods") if not is_over(p)}
        held = {uid: worker.pod for uid, worker in self.workers.items() if not worker.finished}
        return list((told | held).values())

    def _refuse(self, pod: JSON, message: str) -> None:
        namespace, name = pod["metadata"]["namespace"], pod["metadata"]["name"]
        self.store.update(
            "pods", namespace, name, lambda p: set_condition(p, "PodScheduled", False, "Unschedulable", message)
        )
        self.events.schedule(pod, "Warning", "FailedScheduling", "Scheduling", message)

    def _bind(self, pod: JSON, node: str) -> None:
        namespace, name, uid = (pod["metadata"][key] for key in ("namespace", "name", "uid"))

        def bind(stored: JSON) -> None:
            stored["spec"]["nodeName"] = node
            set_condition(stored, "PodScheduled", True)
            stored["status"] |= {
                "startTime": timestamp(),
                "hostIP": "127.0.0.1",
                "hostIPs": [{"ip": "127.0.0.1"}],
                "podIP": "127.0.0.1",
                "podIPs": [{"ip": "127.0.0.1"}],
            }

        bound = self.store.update("pods", namespace, name, bind)
        text = f"Successfully assigned {namespace}/{name} to {node}"
        self.events.schedule(bound, "Normal", "Scheduled", "Binding", text)
        record = self.record_of(pod)
        record.node, record.scheduled = node, time.time()
        worker = PodWorker(self._node, bound, record, self._free_gpus(bound), self.delete, self._finished)
        self.workers[uid] = worker
        self.spawn(worker.run())

    def _free_gpus(self, pod: JSON) -> list[int]:
        wanted = int(scheduler.pod_requests(pod["spec"]).get(scheduler.GPU, 0))
        taken = {index for worker in self.workers.values() if not worker.finished for index in worker.gpus}
        return [index for index in range(self.gpus) if index not in taken][:wanted]

    # -- faults, deletion, end

    def apply(self, fault: Fault) -> None:
        """Let a new fault hit what is there already."""
        for worker in list(self.workers.values()):
            worker.look_for_fault()
        self.schedule()

    def delete(self, pod: JSON, grace: int | None) -> JSON:
        """Delete a pod: at once when nothing runs, else after SIGTERM and its grace period in seconds."""
        metadata = pod["metadata"]
        worker = self.workers.get(metadata["uid"])
        if worker is None:
            seconds = 0
        elif grace is None and "deletionTimestamp" in metadata:
            seconds = metadata["deletionGracePeriodSeconds"]
        else:
            seconds = deletion.grace_of(pod, grace)
        if seconds == 0:
            if worker is not None:
                worker.stop(Stop(0))
            return self.remove(pod)
        marked = self._mark(pod, seconds)
        shorter = marked["metadata"]["resourceVersion"] != metadata["resourceVersion"]
        if worker is not None and worker.lost is None and shorter:
            worker.stop(Stop(seconds))
        return marked

    def _mark(self, pod: JSON, seconds: int) -> JSON:
        metadata = pod["metadata"]
        return self.store.update(
            "pods", metadata["namespace"], metadata["name"], lambda stored: deletion.mark(stored, seconds)
        )

    def remove(self, pod: JSON) -> JSON:
        """End a pod's deletion: it goes, unless a finalizer holds it."""
        self._mark(pod, 0)
        return self.store.delete("pods", pod["metadata"]["namespace"], pod["metadata"]["name"])

    def _gone(self, resource: str, obj: JSON) -> None:
        """Take note that a pod's object is gone."""
        if resource != "pods":
            return
        uid = obj["metadata"]["uid"]
        record = self._record_of.pop(uid)
        record.deleted = time.time()
        for known in (self._last_problem, self._unschedulable):
            known.pop(uid, None)
        worker = self.workers.get(uid)
        if worker is None:
            record.finished = record.finished or record.deleted
        elif worker.finished:
            self._forget(worker)
        asyncio.get_running_loop().call_soon(self.schedule)

    def _finished(self, worker: PodWorker) -> None:
        """Take note that a pod's end was told: there is room for others, and a deleted pod soon goes."""
        pod = worker.stored()
        if pod is None:
            self._forget(worker)
        elif "deletionTimestamp" in pod["metadata"]:
            asyncio.get_running_loop().call_later(self.scaled(_GONE_SECONDS), self._end_deletion, worker)
        self.schedule()

    def _end_deletion(self, worker: PodWorker) -> None:
        if (pod := worker.stored()) is not None:
            self.remove(pod)

    def _forget(self, worker: PodWorker) -> None:
        """Drop a worker that has finished and whose pod is gone, with the pod's volumes."""
        self.workers.pop(worker.uid, None)
        shutil.rmtree(worker.folder, ignore_errors=True)

    async def close(self) -> None:
        """Kill every container, and start none any more."""
        self._closing = True
        workers = [worker for worker in self.workers.values() if not worker.finished]
        for worker in workers:
            worker.stop(Stop(0, NODE_LOST, "the local Kubernetes API was stopped"))
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(3):
                await asyncio.gather(*(worker.done.wait() for worker in workers))
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self.guard.close()
        shutil.rmtree(self._node.pods_dir, ignore_errors=True)


def _is_waiting(pod: JSON) -> bool:
    return pod["status"]["phase"] == "Pending" and "deletionTimestamp" not in pod["metadata"]


def _prune_logs(folder: Path) -> None:
    old = sorted(folder.glob("*/*"), key=lambda path: path.stat().st_mtime)[:-_KEPT_LOGS] if folder.is_dir() else []
    for path in old:
        shutil.rmtree(path, ignore_errors=True)
