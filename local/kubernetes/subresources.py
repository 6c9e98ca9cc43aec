"""`pods/log`, `pods/exec`, `pods/eviction`: what is done with a pod rather than to its object."""

from __future__ import annotations

from aiohttp import web

from local.kubernetes import disruptions
from local.kubernetes.containers import Container
from local.kubernetes.errors import JSON, ApiError
from local.kubernetes.execs import Session
from local.kubernetes.kubelet import Kubelet
from local.kubernetes.logs import LogOptions
from local.kubernetes.phases import is_over
from local.kubernetes.pods import PodWorker
from local.kubernetes.requests import check_kind, is_dry_run, read_json
from local.kubernetes.schema import check as check_schema


def _choose(pod: JSON, wanted: str) -> str:
    """Return the container a request is about; 400 when it has to say."""
    name = pod["metadata"]["name"]
    main = [container["name"] for container in pod["spec"]["containers"]]
    init = [container["name"] for container in pod["spec"].get("initContainers", [])]
    if not wanted:
        if len(main) == 1 and not init:
            return str(main[0])
        also = f" or one of the init containers: [{' '.join(init)}]" if init else ""
        if len(main) == 1:
            return str(main[0])
        raise ApiError(
            400, f"a container name must be specified for pod {name}, choose one of: [{' '.join(main)}]{also}"
        )
    if wanted not in main + init:
        raise ApiError(400, f"container {wanted} is not valid for pod {name}")
    return wanted


def _unreachable(worker: PodWorker) -> ApiError:
    return ApiError(
        500, f'Get "https://{worker.record.node}:10250/": dial tcp: no route to host (the node of this pod is lost)'
    )


def _container(worker: PodWorker, name: str) -> Container:
    return next(container for container in worker.containers if container.name == name)


async def log(request: web.Request, kubelet: Kubelet, pod: JSON) -> web.StreamResponse:
    """Answer GET .../log."""
    name = pod["metadata"]["name"]
    options = LogOptions.parse(name, request.query)
    container_name = _choose(pod, options.container)
    worker = kubelet.workers.get(pod["metadata"]["uid"])
    if worker is None:
        return web.Response(status=204)  # as the API server does for a pod without a node
    if worker.lost is not None:
        raise _unreachable(worker)
    container = _container(worker, container_name)
    if options.previous:
        raise ApiError(400, f'previous terminated container "{container_name}" in pod "{name}" not found')
    if container.log is None:
        reason = container.state.get("waiting", {}).get("reason", "ContainerCreating")
        if reason in ("ErrImagePull", "ImagePullBackOff"):
            reason = "image can't be pulled" if reason == "ErrImagePull" else "trying and failing to pull image"
        raise ApiError(400, f'container "{container_name}" in pod "{name}" is waiting to start: {reason}')
    response = web.StreamResponse(headers={"Content-Type": "text/plain"})
    await response.prepare(request)
    async for chunk in container.log.read(options):
        await response.write(chunk)
    await response.write_eof()
    return response


async def execute(request: web.Request, kubelet: Kubelet, pod: JSON) -> web.StreamResponse:
    """Answer .../exec."""
    name = pod["metadata"]["name"]
    container_name = _choose(pod, request.query.get("container", ""))
    worker = kubelet.workers.get(pod["metadata"]["uid"])
    if worker is None:
        raise ApiError(400, f"pod {name} does not have a host assigned")
    if worker.lost is not None:
        raise _unreachable(worker)
    container = _container(worker, container_name)
    if is_over(pod):
        phase = pod["status"]["phase"]
        raise ApiError(400, f"cannot exec into a container in a completed pod; current phase is {phase}")
    if not container.running:
        raise ApiError(500, f'unable to upgrade connection: container not found ("{container_name}")')
    return await Session(request, container, kubelet.guard).run()


async def evict(request: web.Request, kubelet: Kubelet, pod: JSON) -> web.StreamResponse:
    """Answer POST .../eviction, as a drained node's pods get it: a deletion with its grace period."""
    body = check_kind(await read_json(request), "Eviction", version="policy/v1")
    eviction, _ = check_schema("Eviction", body, version="policy/v1")
    options = eviction.get("deleteOptions", {})
    if not is_dry_run(request, options):
        metadata = pod["metadata"]
        pod = kubelet.store.update(
            "pods",
            metadata["namespace"],
            metadata["name"],
            lambda stored: disruptions.mark(stored, "EvictionByEvictionAPI"),
        )
        kubelet.delete(pod, options.get("gracePeriodSeconds"))
    answer = {"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "code": 201}
    return web.json_response(answer, status=201)
