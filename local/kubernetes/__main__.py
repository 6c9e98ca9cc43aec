"""Command line of the local Kubernetes API."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import logging
import re
import signal
import sys
from pathlib import Path
from typing import IO, Annotated

import typer
from aiohttp import web

from local.images import ImageRegistry
from local.kubernetes import limit_validation, manifests, rbac, scheduler, tls
from local.kubernetes.app import Api
from local.kubernetes.errors import JSON, ApiError
from local.kubernetes.faults import Faults
from local.kubernetes.kubelet import Kubelet
from local.kubernetes.node import DEFAULT_TIME_SCALE, read_pod_env
from local.kubernetes.records import Records
from local.kubernetes.store import Store

logger = logging.getLogger("local.kubernetes")


def _lock(state_dir: Path) -> IO[str]:
    """Make sure no other server uses the directory; the lock ends with the process, however it ends."""
    file = (state_dir / "lock").open("w")
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        raise typer.BadParameter(
            f"{state_dir} is in use by another local Kubernetes API: stop that one, or use another --state-dir"
        ) from None
    return file


def _fill(api: Api, namespaces: list[str], accounts: list[str], gpus: int, objects: list[JSON]) -> None:
    for name, value in limit_validation.BUILT_IN_PRIORITIES.items():
        api.resources.add("priorityclasses", {"metadata": {"name": name}, "value": value})
    for name in ("default", "kube-system"):
        api.resources.add("namespaces", {"metadata": {"name": name}})
    for node in scheduler.nodes(gpus):
        api.store.create("nodes", node)
    manifests.apply(api.resources, objects)
    for name in (*namespaces, *(account.partition("/")[0] for account in accounts)):
        if api.store.find("namespaces", "", name) is None:
            api.resources.add("namespaces", {"metadata": {"name": name}})
    for account in accounts:
        namespace, _, name = account.partition("/")
        if api.store.find("serviceaccounts", namespace, name) is None:
            api.resources.add("serviceaccounts", {"metadata": {"namespace": namespace, "name": name}})


def _user(text: str) -> rbac.User:
    name, _, groups = text.partition("=")
    if not re.fullmatch(r"[a-z0-9]([a-z0-9-]*[a-z0-9])?", name) or not all(groups.split(",")):
        raise typer.BadParameter(f"--user {text}: must be name=group,group with a name of a-z, 0-9 and -")
    return rbac.User(name, (*groups.split(","), rbac.AUTHENTICATED))


async def _serve(api: Api, state_dir: Path, port: int, namespace: str, users: list[rbac.User]) -> None:
    loop = asyncio.get_running_loop()
    stopped = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopped.set)
    # What still streams (logs, watches) is cut at the end; their pods are gone then.
    runner = web.AppRunner(
        api.application(), access_log=None, handle_signals=False, handler_cancellation=True, shutdown_timeout=1.0
    )
    await runner.setup()
    try:
        site = web.TCPSite(runner, "127.0.0.1", port, ssl_context=tls.server_context(state_dir))
        await site.start()
        bound = runner.addresses[0][1]
        for user in users:
            tls.write_kubeconfig(state_dir, bound, namespace, user.name)
        path = tls.write_kubeconfig(state_dir, bound, namespace)
        api.kubelet.start()
        api.jobs.start()
        print(f"local Kubernetes API: https://127.0.0.1:{bound}  kubeconfig: {path}", flush=True)
        await stopped.wait()
    finally:
        await api.kubelet.close()
        await runner.cleanup()


def main(
    images: Annotated[Path, typer.Option(help="JSON file: image reference -> entrypoint, cmd, env, working_dir.")],
    state_dir: Annotated[Path, typer.Option(help="Where kubeconfig, token, ca.crt, logs and volumes go.")],
    port: Annotated[int, typer.Option(help="Port on 127.0.0.1; 0 takes a free one.")] = 0,
    namespace: Annotated[list[str] | None, typer.Option(help="Namespace to make; may be repeated.")] = None,
    service_account: Annotated[
        list[str] | None, typer.Option(help="Service account to make, as namespace/name; may be repeated.")
    ] = None,
    manifest: Annotated[
        list[Path] | None,
        typer.Option(help="YAML file, or folder of a kustomization, of what to make at start; may be repeated."),
    ] = None,
    user: Annotated[
        list[str] | None,
        typer.Option(help="Who else may sign in, as name=group,group; gets NAME.kubeconfig; may be repeated."),
    ] = None,
    pod_env_file: Annotated[
        Path | None, typer.Option(help="JSON object of environment variables every container gets.")
    ] = None,
    gpus: Annotated[int, typer.Option(min=0, help="GPUs the node `gpu` says it has; they are only counted.")] = 2,
    start_delay: Annotated[float, typer.Option(min=0, help="Seconds a pod stays in ContainerCreating.")] = 0.1,
    time_scale: Annotated[
        float, typer.Option(min=1, help="How many times faster than in a real cluster Kubernetes' own waits pass.")
    ] = DEFAULT_TIME_SCALE,
) -> None:
    """Serve a Kubernetes API on loopback that runs pods as processes, until SIGTERM or Ctrl-C."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    state_dir = state_dir.resolve()
    state_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
    accounts = service_account or []
    for account in accounts:
        if account.count("/") != 1 or not all(account.split("/")):
            raise typer.BadParameter(f"--service-account {account}: must be namespace/name")
    registry = ImageRegistry(images.resolve())
    try:
        registry.find("")
        read_pod_env(pod_env_file)
        objects = [obj for path in manifest or [] for obj in manifests.read(path.resolve())]
    except (OSError, ValueError) as error:
        raise typer.BadParameter(str(error)) from None
    users = [_user(text) for text in user or []]
    names = [known.name for known in users]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise typer.BadParameter(f"--user: {', '.join(twice)} is given twice")
    lock = _lock(state_dir)
    tokens = {tls.token(state_dir, known.name): known for known in users} | {tls.token(state_dir): rbac.ADMINISTRATOR}

    async def run() -> None:
        store, faults, records = Store(), Faults(), Records()
        kubelet = Kubelet(
            store,
            registry,
            state_dir,
            pod_env_file=pod_env_file.resolve() if pod_env_file else None,
            faults=faults,
            records=records,
            start_delay=start_delay,
            gpus=gpus,
            time_scale=time_scale,
        )
        api = Api(store, kubelet, faults, records, tokens)
        try:
            _fill(api, namespace or [], accounts, gpus, objects)
        except (ApiError, ValueError) as error:
            sys.exit(f"what the cluster is given at start is refused: {error}")
        await _serve(api, state_dir, port, (namespace or ["default"])[0], users)

    try:
        asyncio.run(run())
    except OSError as error:
        sys.exit(f"cannot serve on 127.0.0.1:{port}: {error}; stop what uses the port, or choose another --port")
    finally:
        with contextlib.suppress(OSError):
            lock.close()


if __name__ == "__main__":
    typer.run(main)
