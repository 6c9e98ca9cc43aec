"""Command line of the local Kubernetes API."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import logging
import signal
import sys
from pathlib import Path
from typing import IO, Annotated

import typer
from aiohttp import web

from local.images import ImageRegistry
from local.kubernetes import scheduler, tls
from local.kubernetes.app import Api
from local.kubernetes.faults import Faults
from local.kubernetes.kubelet import Kubelet
from local.kubernetes.node import DEFAULT_PACE, read_pod_env
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


def _fill(api: Api, namespaces: list[str], accounts: list[str], gpus: int) -> None:
    names = dict.fromkeys(["default", *namespaces, *(account.partition("/")[0] for account in accounts)])
    for name in names:
        labels = {"kubernetes.io/metadata.name": name}
        api.store.create("namespaces", {"metadata": {"name": name, "labels": labels}, "status": {"phase": "Active"}})
        api.resources.add_default_account(name)
    for account in dict.fromkeys(accounts):
        namespace, _, name = account.partition("/")
        if name != "default":
            api.store.create("serviceaccounts", {"metadata": {"namespace": namespace, "name": name}})
    for node in scheduler.nodes(gpus):
        api.store.create("nodes", node)


async def _serve(api: Api, state_dir: Path, port: int, namespace: str, token: str) -> None:
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
        path = tls.write_kubeconfig(state_dir, bound, token, namespace)
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
    pod_env_file: Annotated[
        Path | None, typer.Option(help="JSON object of environment variables every container gets.")
    ] = None,
    gpus: Annotated[int, typer.Option(min=0, help="GPUs the node `gpu` says it has; they are only counted.")] = 2,
    start_delay: Annotated[float, typer.Option(min=0, help="Seconds a pod stays in ContainerCreating.")] = 0.1,
    pace: Annotated[
        float, typer.Option(min=1, help="How many times faster than in a real cluster Kubernetes' own waits pass.")
    ] = DEFAULT_PACE,
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
    except (OSError, ValueError) as error:
        raise typer.BadParameter(str(error)) from None
    lock = _lock(state_dir)
    token = tls.token(state_dir)

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
            pace=pace,
        )
        api = Api(store, kubelet, faults, records, token)
        _fill(api, namespace or [], accounts, gpus)
        await _serve(api, state_dir, port, (namespace or ["default"])[0], token)

    try:
        asyncio.run(run())
    except OSError as error:
        sys.exit(f"cannot serve on 127.0.0.1:{port}: {error}; stop what uses the port, or choose another --port")
    finally:
        with contextlib.suppress(OSError):
            lock.close()


if __name__ == "__main__":
    typer.run(main)
