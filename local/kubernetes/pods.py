"""The life of one pod on its node: volumes, images, containers, status, end."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from local.images import Image
from local.kubernetes import environment, quantities, sidecar
from local.kubernetes.containers import Container, set_condition
from local.kubernetes.errors import JSON, ApiError
from local.kubernetes.faults import Fault
from local.kubernetes.logs import ContainerLog
from local.kubernetes.node import Node
from local.kubernetes.processes import ContainerProcess, Exit, Row
from local.kubernetes.records import PodRecord
from local.kubernetes.store import timestamp

logger = logging.getLogger(__name__)

NODE_LOST = "NodeLost"
_RETRY_SECONDS = 0.5
_DRAIN_SECONDS = 2.0
_OOM_EXIT_CODE = 137


@dataclass(frozen=True)
class Stop:
    """Why a pod is stopped: seconds between SIGTERM and SIGKILL; a reason makes the pod Failed with it."""

    grace: float
    reason: str | None = None
    message: str | None = None


class _Stopped(Exception):
    """The pod was stopped while it waited for something."""


class PodWorker:
    """Runs one pod that has a node.

    Args:
        gpus: numbers of those that the pod has to itself.
        remove: takes a pod out of the store, by namespace and name.
        on_finish: called when nothing of the pod runs any more; not when its node is lost, which can tell nobody.
    """

    def __init__(
        self,
        node: Node,
        pod: JSON,
        record: PodRecord,
        gpus: list[int],
        remove: Callable[[str, str], JSON],
        on_finish: Callable[[PodWorker], None],
    ) -> None:
        self.pod = pod
        self.record = record
        self.gpus = gpus
        self._node = node
        self._remove = remove
        self._on_finish = on_finish
        metadata = pod["metadata"]
        self.uid: str = metadata["uid"]
        self.namespace: str = metadata["namespace"]
        self.name: str = metadata["name"]
        # Short, because Unix sockets below it may have 108 bytes of path at most.
        self.folder = node.pods_dir / self.uid[:8]
        self.done = asyncio.Event()
        self.lost: Fault | None = None
        self.delete_when_finished = False
        self._stop: Stop | None = None
        self._stopping = asyncio.Event()
        self._initialized = False
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
        """Whether nothing of the pod runs any more."""
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
        finally:
            self._finish()

    async def _live(self) -> None:
        self.set_deadline(self.pod["spec"].get("activeDeadlineSeconds"))
        self._sync()
        await self._pause(self._node.start_delay)
        volumes = await self._mount()
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
                await self._pause(_RETRY_SECONDS)

    async def _pull(self, container: Container) -> Image:
        """Wait until the image exists, telling about it as the kubelet does."""
        reference = container.spec["image"]
        fault: Fault | None = None
        since = time.monotonic()
        for attempt in _forever():
            if fault is None:
                fault = self._node.faults.take("image-pull", self.pod)
                since = time.monotonic()
            problem = (
                f'failed to pull and unpack image "{reference}": failed to resolve reference "{reference}": '
                f"{reference}: not found (no such image in the local image registry file)"
            )
            if fault is not None and fault.lasts(since):
                problem = fault.request.message or problem
            else:
                try:
                    image = self._node.images.find(reference)
                except (OSError, ValueError) as error:
                    image, problem = None, f"cannot read the local image registry file: {error}"
                if image is not None:
                    text = f'Container image "{reference}" already present on machine'
                    self._event("Normal", "Pulled", text, container)
                    return image
            if attempt == 0:
                self._event("Normal", "Pulling", f'Pulling image "{reference}"', container)
                self._event("Warning", "Failed", f'Failed to pull image "{reference}": {problem}', container)
                self._event("Warning", "Failed", "Error: ErrImagePull", container)
                container.state = {"waiting": {"reason": "ErrImagePull", "message": problem}}
            else:
                text = f'Back-off pulling image "{reference}"'
                self._event("Normal", "BackOff", text, container)
                self._event("Warning", "Failed", "Error: ImagePullBackOff", container)
                message = f"{text}: ErrImagePull: {problem}"
                container.state = {"waiting": {"reason": "ImagePullBackOff", "message": message}}
            self._sync()
            await self._pause(_RETRY_SECONDS)
        raise AssertionError("unreachable")

    async def _configure(self, container: Container, image: Image, volumes: dict[str, Path]) -> list[str]:
        """Resolve environment and command line, waiting for config maps and secrets that do not exist yet."""
        home = self.folder / f"home-{container.name}"
        home.mkdir(parents=True, exist_ok=True)
        devices = ",".join(str(index) for index in self.gpus) if self._uses_gpus(container) else "void"
        base = {"HOME": str(home), "NVIDIA_VISIBLE_DEVICES": devices, **self._node.pod_env()}
        container.mounted = environment.mounts(container.spec, volumes)
        while True:
            pod = self._node.store.find("pods", self.namespace, self.name) or self.pod
            try:
                container.env = environment.build_environment(
                    self._node.store, pod, container.spec, image, base, container.mounted
                )
                break
            except environment.ConfigError as error:
                container.state = {"waiting": {"reason": "CreateContainerConfigError", "message": str(error)}}
                self._event("Warning", "Failed", f"Error: {error}", container)
                self._sync()
                await self._pause(_RETRY_SECONDS)
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
        self._event("Normal", "Created", f"Created container: {container.name}", container)
        self._event("Normal", "Started", f"Started container {container.name}", container)
        self._sync()
        self.look_for_fault()
        end = await container.runtime.wait()
        for process in container.execs:
            process.kill()
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(drained.wait(), _DRAIN_SECONDS)
        self._ended(container, end)

    def _start_failed(self, container: Container, argv: list[str], error: Exception) -> None:
        command = argv[0] if argv else ""
        message = (
            "failed to create containerd task: failed to create shim task: OCI runtime create failed: runc create "
            f'failed: unable to start container process: exec: "{command}": {error}'
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
        if not self.finished and self._stop is None:
            self._event("Warning", "DeadlineExceeded", text)
            self.stop(Stop(self.pod["spec"]["terminationGracePeriodSeconds"], "DeadlineExceeded", text))

    def stop(self, stop: Stop) -> None:
        """End all containers: SIGTERM, the grace period, SIGKILL. The first reason given stays."""
        if self.finished:
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

    def _finish(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
        self.done.set()
        ends = [c.record.finished for c in self.containers if c.record.finished]
        starts = [c.record.started for c in self.containers if c.record.started]
        self.record.started = min(starts, default=None)
        self.record.finished = max(ends, default=time.time())
        self.record.exit_code = self._main[0].exit_code
        if self.lost is not None:
            return
        self._sync()
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
        if self.finished or self._stop is not None or not all(c.running or c.exit_code is not None for c in self._main):
            return
        pod = self.stored() or self.pod
        for kind in ("evict", "oom", "node-lost"):
            fault = self._node.faults.take(kind, pod)  # type: ignore[arg-type]
            if fault is not None:
                asyncio.get_running_loop().call_later(fault.request.delay_seconds, self._hit, fault)

    def _hit(self, fault: Fault) -> None:
        if self.finished or fault.deleted:
            return
        match fault.request.kind:
            case "evict":
                self._evict(fault)
            case "oom":
                victim = next((c for c in self._main if isinstance(c.runtime, ContainerProcess) and c.running), None)
                if victim is not None and victim.runtime is not None:
                    victim.out_of_memory = True
                    victim.runtime.kill()
            case _:
                self._lose(fault)

    def _evict(self, fault: Fault) -> None:
        text = fault.request.message or (
            "The node was low on resource: memory. Threshold quantity: 100Mi, available: 0Mi. "
        )
        self._event("Warning", "Evicted", text)

        def disrupt(pod: JSON) -> None:
            set_condition(pod, "DisruptionTarget", True, "TerminationByKubelet", text)

        self._update(disrupt)
        self.stop(Stop(0, "Evicted", text))

    def _lose(self, fault: Fault) -> None:
        """Stop reporting: the node is gone, and the API server only knows what it was told before."""
        node = self.record.node
        self._event("Warning", "NodeNotReady", "Node is not ready")

        def mark(pod: JSON) -> None:
            set_condition(pod, "Ready", False)
            set_condition(
                pod,
                "DisruptionTarget",
                True,
                "DeletionByTaintManager",
                "Taint manager: deleting due to NoExecute taint",
            )
            pod["status"]["reason"] = NODE_LOST
            pod["status"]["message"] = f"Node {node} which was running pod {self.name} is unresponsive"
            pod["metadata"].setdefault("deletionTimestamp", timestamp())
            pod["metadata"].setdefault("deletionGracePeriodSeconds", 30)

        self._update(mark)
        self.lost = fault
        self.record.reason = NODE_LOST
        self.stop(Stop(0))
        if fault.duration is not None:
            asyncio.get_running_loop().call_later(fault.duration, self._collect)

    def _collect(self) -> None:
        if self.stored() is not None:
            self._remove(self.namespace, self.name)

    # -- status

    def stored(self) -> JSON | None:
        """Return the pod as it is in the store; None when it is gone, or another has its name."""
        pod = self._node.store.find("pods", self.namespace, self.name)
        return pod if pod is not None and pod["metadata"]["uid"] == self.uid else None

    def _update(self, change: object) -> None:
        if self.stored() is not None:
            with contextlib.suppress(ApiError):
                self._node.store.update("pods", self.namespace, self.name, change)  # type: ignore[arg-type]

    def _phase(self) -> str:
        main = self._main
        if self.finished:
            told_why = self._stop is not None and self._stop.reason is not None
            return "Failed" if told_why or any(c.exit_code != 0 for c in self.containers) else "Succeeded"
        if not self._initialized or any("waiting" in c.state for c in main):
            return "Pending"
        return "Running"

    def _sync(self) -> None:
        if self.lost is not None:
            return
        phase = self._phase()
        reason, message = (self._stop.reason, self._stop.message) if self._stop is not None else (None, None)
        # Nothing runs any more and nothing will: say so at once, as the kubelet does when it sees the last end.
        if not self.finished and self._initialized and all(c.exit_code is not None for c in self._main):
            failed = reason is not None or any(c.exit_code for c in self._main)
            phase = "Failed" if failed else "Succeeded"
        over = phase in ("Succeeded", "Failed")

        def write(pod: JSON) -> None:
            status = pod["status"]
            status["phase"] = phase
            if over and reason:
                status["reason"], status["message"] = reason, message
            why = {"Succeeded": "PodCompleted", "Failed": "PodFailed"}.get(phase)
            ready = not over and phase == "Running" and all(c.running for c in self._main)
            set_condition(pod, "PodReadyToStartContainers", not over)
            set_condition(pod, "Initialized", self._initialized, why if phase == "Succeeded" else None)
            unready = None if ready else (why or "ContainersNotReady")
            set_condition(pod, "Ready", ready, unready)
            set_condition(pod, "ContainersReady", ready, unready)
            status["containerStatuses"] = [c.status() for c in self._main]
            if len(self._main) != len(self.containers):
                status["initContainerStatuses"] = [c.status() for c in self.containers if c.is_init]

        self._update(write)
        self.record.phase, self.record.reason = phase, reason if over else None


def _forever() -> Iterator[int]:
    number = 0
    while True:
        yield number
        number += 1
