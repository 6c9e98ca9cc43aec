"""The life of one pod on its node: volumes, images, containers, status, end."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
import uuid
from collections.abc import Callable
from pathlib import Path

from local.images import Image
from local.kubernetes import disruptions, environment, quantities, references, sidecar, users
from local.kubernetes.containers import Container, set_condition
from local.kubernetes.errors import JSON, ApiError
from local.kubernetes.faults import Fault
from local.kubernetes.logs import ContainerLog
from local.kubernetes.node import Node
from local.kubernetes.pod_status import PodState, Stop
from local.kubernetes.processes import ContainerProcess, Exit, Row, start_problem
from local.kubernetes.records import PodRecord
from local.kubernetes.times import timestamp

logger = logging.getLogger(__name__)

NODE_LOST = "NodeLost"
_DRAIN_SECONDS = 2.0
_OOM_EXIT_CODE = 137
# How long Kubernetes takes for what it does, in a real cluster.
_END_SECONDS = 1.0  # from the container's end to the pod's
_RETRY_SECONDS = 10.0  # until a container that could not be started is tried again
_FIRST_PULL_SECONDS, _MAX_PULL_SECONDS = 10.0, 300.0  # between attempts to pull an image, doubled each time
_UNREACHABLE_SECONDS = 54.0  # until a node that went silent is NotReady


class _Stopped(Exception):
    """The pod was stopped while it waited for something."""


class PodWorker:
    """Runs one pod that has a node.

    Args:
        gpus: numbers of those that the pod has to itself.
        delete: deletes a pod with a grace period, as a client of the API does.
        on_finish: called when the pod's end was told; not when its node is lost, which can tell nobody.
    """

    def __init__(
        self,
        node: Node,
        pod: JSON,
        record: PodRecord,
        gpus: list[int],
        delete: Callable[[JSON, int | None], JSON],
        on_finish: Callable[[PodWorker], None],
    ) -> None:
        self.pod = pod
        self.record = record
        self.gpus = gpus
        self._node = node
        self._delete = delete
        self._on_finish = on_finish
        metadata = pod["metadata"]
        self.uid: str = metadata["uid"]
        self.namespace: str = metadata["namespace"]
        self.name: str = metadata["name"]
        # Short, because Unix sockets below it may have 108 bytes of path at most.
        self.folder = node.pods_dir / self.uid[:8]
        self.done = asyncio.Event()
        self.lost: Fault | None = None
        self._stop: Stop | None = None
        self._stopping = asyncio.Event()
        self._sandbox = self._initialized = self._over = self._told = False
        self._deadline: asyncio.TimerHandle | None = None
        records = {record.name: record for record in self.record.containers}
        spec = pod["spec"]
        waiting = "PodInitializing" if spec.get("initContainers") else "ContainerCreating"
        self.containers = [
            Container(container, is_init, records[container["name"]], {"waiting": {"reason": waiting}})
            for is_init, listed in ((True, spec.get("initContainers", [])), (False, spec["containers"]))
            for container in listed
        ]

    @property
    def finished(self) -> bool:
        """Whether nothing of the pod runs any more, and this was told."""
        return self.done.is_set()

    @property
    def _main(self) -> list[Container]:
        return [container for container in self.containers if not container.is_init]

    def _event(self, kind: str, reason: str, message: str, container: Container | None = None) -> None:
        where = None
        if container is not None:
            where = f"{'initContainers' if container.is_init else 'containers'}{{{container.name}}}"
        self._node.events.record(self.pod, kind, reason, message, where)

    # -- the way through

    async def run(self) -> None:
        """Run the pod to its end."""
        try:
            await self._live()
        except _Stopped:
            pass
        except Exception as error:
            logger.exception("pod %s/%s: the local kubelet failed", self.namespace, self.name)
            self.stop(Stop(0, "KubeletError", f"the local kubelet failed: {error!r}"))
        await self._finish()

    async def _live(self) -> None:
        self.set_deadline(self.pod["spec"].get("activeDeadlineSeconds"))
        self._sync()
        await self._pause(self._node.start_delay)
        volumes = await self._mount()
        self._sandbox = True
        self._sync()
        for container in self.containers:
            if container.is_init:
                await self._run_container(container, volumes)
                if self._stop is not None or container.exit_code != 0:
                    return
        self._initialized = True
        for container in self._main:
            if container.state["waiting"]["reason"] == "PodInitializing":
                container.state = {"waiting": {"reason": "ContainerCreating"}}
        ends = await asyncio.gather(*(self._run_container(c, volumes) for c in self._main), return_exceptions=True)
        for end in ends:
            if isinstance(end, BaseException) and not isinstance(end, _Stopped):
                raise end

    async def _pause(self, seconds: float) -> None:
        if self._stopping.is_set():
            raise _Stopped
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._stopping.wait(), seconds)
            raise _Stopped

    async def _mount(self) -> dict[str, Path]:
        while True:
            try:
                return environment.prepare_volumes(self._node.store, self.pod, self.folder / "volumes")
            except (environment.MountError, OSError) as error:
                self._event("Warning", "FailedMount", str(error))
                await self._pause(self._node.scaled(_RETRY_SECONDS))

    async def _wait(self, container: Container, reason: str, message: str, seconds: float) -> None:
        """Show why a container does not start, for as long as a wait takes in a real cluster."""
        container.state = {"waiting": {"reason": reason, "message": message}}
        self._event("Warning", "Failed", f"Error: {reason if 'Image' in reason else message}", container)
        self._sync()
        await self._pause(self._node.scaled(seconds))

    async def _pull(self, container: Container) -> Image:
        """Wait until the image exists, telling about it as the kubelet does."""
        reference = container.spec["image"]
        while (wrong := references.problem(reference)) is not None:
            text = f'Failed to apply default image tag "{reference}": couldn\'t parse image reference "{reference}": '
            self._event("Warning", "InspectFailed", text + wrong, container)
            await self._wait(container, "InvalidImageName", text + wrong, _RETRY_SECONDS)
        fault: Fault | None = None
        since, pause = time.monotonic(), _FIRST_PULL_SECONDS
        while True:
            if fault is None:
                fault = self._node.faults.take("image-pull", self.pod)
                since = time.monotonic()
            image, problem = self._find_image(reference)
            if fault is not None and fault.lasts(since):
                image, problem = None, fault.request.message or problem
            if image is not None:
                text = f'Container image "{reference}" already present on machine and can be accessed by the pod'
                self._event("Normal", "Pulled", text, container)
                return image
            self._event("Normal", "Pulling", f'Pulling image "{reference}"', container)
            self._event("Warning", "Failed", f'Failed to pull image "{reference}": {problem}', container)
            await self._wait(container, "ErrImagePull", problem, pause / 2)
            text = f'Back-off pulling image "{reference}"'
            self._event("Normal", "BackOff", text, container)
            await self._wait(container, "ImagePullBackOff", f"{text}: ErrImagePull: {problem}", pause / 2)
            pause = min(2 * pause, _MAX_PULL_SECONDS)

    def _find_image(self, reference: str) -> tuple[Image | None, str]:
        """Return an image, and what is told where it cannot be pulled."""
        problem = (
            f'failed to pull and unpack image "{reference}": failed to resolve reference "{reference}": '
            f"{reference}: not found (no such image in the local image registry file)"
        )
        try:
            return self._node.images.find(reference), problem
        except (OSError, ValueError) as error:
            return None, f"cannot read the local image registry file: {error}"

    async def _configure(self, container: Container, image: Image, volumes: dict[str, Path]) -> list[str]:
        """Resolve environment and command line, waiting for config maps and secrets that do not exist yet."""
        home = self.folder / f"home-{container.name}"
        home.mkdir(parents=True, exist_ok=True)
        devices = ",".join(str(index) for index in self.gpus) if self._uses_gpus(container) else "void"
        base = {"HOME": str(home), "NVIDIA_VISIBLE_DEVICES": devices, **self._node.pod_env()}
        container.mounted = environment.mounts(container.spec, volumes)
        while True:
            pod = self.stored() or self.pod
            try:
                container.env = environment.build_environment(
                    self._node.store, pod, container.spec, image, base, container.mounted
                )
                problem = users.problem(pod, container.spec, image)
            except environment.ConfigError as error:
                problem = str(error)
            if problem is None:
                break
            await self._wait(container, "CreateContainerConfigError", problem, _RETRY_SECONDS)
        wanted = environment.substitute(container.spec.get("workingDir", ""), container.mounted)
        choices = [Path(text) for text in (wanted, image.working_dir) if text]
        container.cwd = next((path for path in choices if path.is_dir()), home)
        names = environment.pod_names(self._node.store, self.namespace)
        return environment.build_command(container.spec, image, container.env, container.mounted, names)

    @staticmethod
    def _uses_gpus(container: Container) -> bool:
        return "nvidia.com/gpu" in container.spec.get("resources", {}).get("limits", {})

    async def _run_container(self, container: Container, volumes: dict[str, Path]) -> None:
        argv: list[str] = []
        emulated = container.name == sidecar.NAME
        if emulated:
            container.mounted = environment.mounts(container.spec, volumes)
        else:
            image = await self._pull(container)
            argv = await self._configure(container, image, volumes)
        if self._stopping.is_set():
            raise _Stopped
        drained = asyncio.Event()
        container.log = ContainerLog(
            self._node.logs_dir / self.namespace / f"{self.name}_{self.uid[:8]}" / f"{container.name}.log"
        )
        container.record.log = str(container.log.path)
        container.record.argv = argv
        try:
            if emulated:
                container.runtime = sidecar.Sidecar(container.mounted)
                drained.set()
            else:
                process = ContainerProcess.start(argv, container.env, container.cwd, self._node.guard)
                process.read_output(container.log.write, drained.set)
                container.runtime = process
        except (OSError, ValueError, IndexError) as error:
            self._start_failed(container, argv, error)
            return
        container.record.pid = container.runtime.pid
        container.record.started = time.time()
        container.state = {"running": {"startedAt": timestamp()}}
        self._event("Normal", "Created", "Container created", container)
        self._event("Normal", "Started", "Container started", container)
        self._sync()
        self.look_for_fault()
        end = await container.runtime.wait()
        for process in container.execs:
            process.kill()
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(drained.wait(), _DRAIN_SECONDS)
        self._ended(container, end)

    def _start_failed(self, container: Container, argv: list[str], error: Exception) -> None:
        message = (
            "failed to create containerd task: failed to create shim task: OCI runtime create failed: runc create "
            f"failed: unable to start container process: error during container init: {start_problem(argv, error)}"
        )
        now = timestamp()
        container.state = {
            "terminated": {
                "exitCode": 128,
                "reason": "StartError",
                "message": message,
                "startedAt": "1970-01-01T00:00:00Z",
                "finishedAt": now,
            }
        }
        container.record.exit_code, container.record.reason = 128, "StartError"
        assert container.log is not None
        container.log.close()
        self._event("Warning", "Failed", f"Error: {message}", container)
        self._sync()

    def _ended(self, container: Container, end: Exit) -> None:
        assert container.log is not None
        assert container.runtime is not None
        code = _OOM_EXIT_CODE if container.out_of_memory else end.code
        reason = "OOMKilled" if container.out_of_memory else ("Completed" if code == 0 else "Error")
        terminated: JSON = {
            "exitCode": code,
            "reason": reason,
            "startedAt": container.state["running"]["startedAt"],
            "finishedAt": timestamp(),
            "containerID": f"local://{container.record.pid or 0}",
        }
        if code != 0 and container.spec["terminationMessagePolicy"] == "FallbackToLogsOnError":
            terminated["message"] = container.log.tail()
        container.state = {"terminated": terminated}
        record = container.record
        record.finished, record.exit_code, record.reason = time.time(), code, reason
        record.cpu_seconds, record.peak_rss_bytes = end.cpu_seconds, container.runtime.peak_resident
        # First the state, then the end of the log: whoever follows the log and looks at the pod when it
        # ends should not find the container still running.
        self._sync()
        container.log.close()

    # -- stopping

    def set_deadline(self, seconds: int | None) -> None:
        """Arrange for activeDeadlineSeconds, counted from the pod's start."""
        if self._deadline is not None:
            self._deadline.cancel()
        if seconds is None:
            return
        left = seconds - (time.time() - (self.record.scheduled or time.time()))
        self._deadline = asyncio.get_running_loop().call_later(max(left, 0), self._deadline_exceeded)

    def _deadline_exceeded(self) -> None:
        text = "Pod was active on the node longer than the specified deadline"
        if not self._over and self._stop is None:
            self._event("Normal", "DeadlineExceeded", text)
            self.stop(Stop(self.pod["spec"]["terminationGracePeriodSeconds"], "DeadlineExceeded", text))

    def stop(self, stop: Stop) -> None:
        """End all containers: SIGTERM, the grace period, SIGKILL. The first reason given stays."""
        if self._over:
            return
        self._stop = self._stop or stop
        self._stopping.set()
        loop = asyncio.get_running_loop()
        for container in self.containers:
            if container.running and container.runtime is not None:
                if self.lost is None:
                    self._event("Normal", "Killing", f"Stopping container {container.name}", container)
                if stop.grace > 0:
                    container.runtime.terminate()
                    loop.call_later(stop.grace, self._kill, container)
                else:
                    container.runtime.kill()

    def _kill(self, container: Container) -> None:
        if container.running and container.runtime is not None:
            container.runtime.kill()

    async def _finish(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
        self._over = True
        ends = [c.record.finished for c in self.containers if c.record.finished]
        starts = [c.record.started for c in self.containers if c.record.started]
        self.record.started = min(starts, default=None)
        self.record.finished = max(ends, default=time.time())
        self.record.exit_code = self._main[0].exit_code
        if self._stop is None:
            # What the kubelet did not stop itself, it tells in two steps: the containers' end, then the pod's.
            self._sync()
            await asyncio.sleep(self._node.scaled(_END_SECONDS))
        self._told = True
        self.done.set()
        self._sync()
        if self.lost is None or self.stored() is None:
            self._on_finish(self)

    # -- memory and faults

    def has_processes(self) -> bool:
        """Whether there is anything to measure."""
        return any(isinstance(c.runtime, ContainerProcess) and c.running for c in self.containers)

    def check_memory(self, table: dict[int, Row]) -> None:
        """Measure the containers; kill one that uses more memory than its limit, in bytes of resident memory."""
        for container in self.containers:
            process = container.runtime
            if not isinstance(process, ContainerProcess) or not container.running or process.over:
                continue
            resident = process.sample(table)
            limit = container.spec["resources"].get("limits", {}).get("memory")
            if limit is not None and resident > quantities.parse(limit):
                container.out_of_memory = True
                process.kill()

    def look_for_fault(self) -> None:
        """Take the faults that hit this pod, if it is running."""
        if self._over or self._stop is not None or not all(c.running or c.exit_code is not None for c in self._main):
            return
        pod = self.stored() or self.pod
        for kind in ("evict", "oom", "preempt", "node-lost"):
            fault = self._node.faults.take(kind, pod)  # type: ignore[arg-type]
            if fault is not None:
                asyncio.get_running_loop().call_later(fault.request.delay_seconds, self._hit, fault)

    def _hit(self, fault: Fault) -> None:
        if self._over or fault.deleted:
            return
        match fault.request.kind:
            case "evict":
                self._evict(fault)
            case "oom":
                victim = next((c for c in self._main if isinstance(c.runtime, ContainerProcess) and c.running), None)
                if victim is not None and victim.runtime is not None:
                    victim.out_of_memory = True
                    victim.runtime.kill()
            case "preempt":
                self._preempt()
            case _:
                self._lose(fault)

    def _evict(self, fault: Fault) -> None:
        text = fault.request.message or (
            "The node was low on resource: memory. Threshold quantity: 100Mi, available: 81Mi. "
        )
        self._event("Warning", "Evicted", text)
        self.stop(Stop(0, "Evicted", text, "TerminationByKubelet"))

    def _take_away(self, reason: str) -> None:
        """Delete the pod as whoever disrupts it does: say why, then give it its own grace period."""
        self._update(lambda pod: disruptions.mark(pod, reason))
        if (pod := self.stored()) is not None:
            self._delete(pod, None)

    def _preempt(self) -> None:
        self._node.events.schedule(
            self.pod, "Normal", "Preempted", "Preempting", f"Preempted by pod {uuid.uuid4()} on node {self.record.node}"
        )
        self._take_away("PreemptionByScheduler")

    # -- a lost node

    def _lose(self, fault: Fault) -> None:
        """Stop reporting: the node is gone, and the API server only knows what it was told before."""
        self.lost = fault
        self.record.reason = NODE_LOST
        self.stop(Stop(0))
        later = asyncio.get_running_loop().call_later
        later(self._node.scaled(_UNREACHABLE_SECONDS), self._miss)
        tolerated = disruptions.seconds_tolerated(self.pod)
        if tolerated is not None:
            later(self._node.scaled(_UNREACHABLE_SECONDS + tolerated), self._evict_from_lost_node)
        if fault.duration is not None:
            later(fault.duration, self._collect)

    def _miss(self) -> None:
        """Do what the node controller does when a node has been silent for too long."""
        if self.stored() is not None:
            self._node.events.record(
                self.pod, "Warning", "NodeNotReady", "Node is not ready", component="node-controller"
            )
            self._update(lambda pod: set_condition(pod, "Ready", False))

    def _evict_from_lost_node(self) -> None:
        pod = self.stored()
        if pod is None or "deletionTimestamp" in pod["metadata"]:
            return
        text = f"Marking for deletion Pod {self.namespace}/{self.name}"
        self._node.events.record(
            self.pod, "Normal", "TaintManagerEviction", text, component="taint-eviction-controller"
        )
        self._take_away("DeletionByTaintManager")

    def _collect(self) -> None:
        """Do what the pod garbage collector does when the node has left the cluster."""
        self._update(disruptions.mark_orphaned)
        if (pod := self.stored()) is not None:
            self._delete(pod, 0)

    # -- status

    def stored(self) -> JSON | None:
        """Return the pod as it is in the store; None when it is gone, or another has its name."""
        pod = self._node.store.find("pods", self.namespace, self.name)
        return pod if pod is not None and pod["metadata"]["uid"] == self.uid else None

    def _update(self, change: object) -> None:
        if self.stored() is not None:
            with contextlib.suppress(ApiError):
                self._node.store.update("pods", self.namespace, self.name, change)  # type: ignore[arg-type]

    def _sync(self) -> None:
        """Tell the API what became of the pod, as the kubelet does at each step."""
        if self.lost is not None:
            return
        state = PodState(self.containers, self._sandbox, self._initialized, self._over, self._told, self._stop)
        self._update(state.write)
        self.record.phase = state.phase
        self.record.reason = self._stop.reason if self._told and self._stop is not None else None
