"""Several processes for one training: torchrun in a pod with several GPUs, and across the pods of an indexed Job.

What Kubernetes sets for a pod of such a Job: ``MLPLATFORM_PODS_PER_TRIAL``, how many pods; ``JOB_COMPLETION_INDEX``,
which of them this is (by Kubernetes itself); ``MLPLATFORM_RENDEZVOUS``, ``host:port`` of pod 0.
"""

from __future__ import annotations

import logging
import os
import sys
import uuid
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from mlplatform.errors import NonRetryableError
from mlplatform.steps import EXIT_FAILED, EXIT_NON_RETRYABLE
from trainer import shutdown
from trainer.resources import threads

log = logging.getLogger(__name__)

JOIN_SECONDS = 1800
"""How long pods wait for one another: a GPU node may have to be bought first."""


def rank() -> int:
    """Return this process's number among those that train together; 0 when it trains alone."""
    return int(os.environ.get("RANK", "0"))


def world_size() -> int:
    """Return how many processes train together."""
    return int(os.environ.get("WORLD_SIZE", "1"))


@dataclass(frozen=True)
class Placement:
    """The processes of a training.

    Attributes:
        pods: how many pods train it, of which this is number ``pod``.
        processes: in each pod; one per GPU.
        rendezvous: ``host:port`` of pod 0; None with one pod.
    """

    pods: int
    pod: int
    processes: int
    rendezvous: str | None


def placement(gpus: int, environment: Mapping[str, str] = os.environ) -> Placement | None:
    """Return the processes to start, None where this one is enough or is one of them.

    Args:
        gpus: of this pod; the same in each pod.

    Raises:
        NonRetryableError: what the environment says about the pods is incomplete.
    """
    if "RANK" in environment:
        return None
    pods = _number(environment, "MLPLATFORM_PODS_PER_TRIAL", 1)
    if pods < 1:
        raise NonRetryableError(f"MLPLATFORM_PODS_PER_TRIAL: must be at least 1 (got {pods})", kind="bad-config")
    processes = max(1, gpus)
    if pods * processes == 1:
        return None
    if pods == 1:
        return Placement(1, 0, processes, None)
    pod = _number(environment, "JOB_COMPLETION_INDEX", None)
    if not 0 <= pod < pods:
        raise NonRetryableError(f"JOB_COMPLETION_INDEX: {pod} of {pods} pods", kind="bad-config")
    rendezvous = environment.get("MLPLATFORM_RENDEZVOUS", "")
    host, _, port = rendezvous.rpartition(":")
    if not host or not port.isdigit():
        raise NonRetryableError(
            f"MLPLATFORM_RENDEZVOUS: {pods} pods need host:port of the first to find one another (got {rendezvous!r})",
            kind="bad-config",
        )
    return Placement(pods, pod, processes, rendezvous)


def relaunch(gpus: int, argv: Sequence[str]) -> int | None:
    """Run ``python -m trainer <argv>`` in as many processes as there are GPUs, if there is more than one.

    Args:
        gpus: that a training may use in this pod: `torch.cuda.device_count()` for a family that trains on several.
        argv: of this process, without the program.

    Returns:
        The exit code this process should end with; None where this process is to do the work itself.

    Raises:
        NonRetryableError: see `placement`.
    """
    place = placement(gpus)
    if place is None:
        return None
    return run(place, sys.executable, ["-m", "trainer", *argv])


def run(place: Placement, program: str, arguments: Sequence[str]) -> int:
    """Run a program in every process of this pod under torch's elastic agent; return the exit code.

    SIGTERM reaches every worker, which has `shutdown.grace` to save its state. A worker that fails ends the others.
    """
    from torch.distributed.elastic.multiprocessing.api import SignalException
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.launcher.api import LaunchConfig, elastic_launch

    if "TRAINER_THREADS" not in os.environ:
        os.environ["TRAINER_THREADS"] = str(max(1, threads() // place.processes))
    rendezvous: dict[str, Any] = {
        # A store of this pod's own, at a free port.
        "rdzv_backend": "c10d",
        "rdzv_endpoint": "localhost:0",
        "rdzv_configs": {"timeout": JOIN_SECONDS},
        "local_addr": "localhost",
    }
    if place.rendezvous is not None:
        # Static: pod 0 leads, so process 0, which reports and saves, is always the same pod's.
        rendezvous = {
            "rdzv_backend": "static",
            "rdzv_endpoint": place.rendezvous,
            "rdzv_configs": {"rank": place.pod, "timeout": JOIN_SECONDS},
        }
    config = LaunchConfig(
        min_nodes=place.pods,
        max_nodes=place.pods,
        nproc_per_node=place.processes,
        run_id="trainer" if place.pods > 1 else uuid.uuid4().hex,
        max_restarts=0,  # a pod is tried again as a whole, from its checkpoint
        shutdown_timeout=max(1, int(shutdown.grace())),
        **rendezvous,
    )
    log.info("trains with %d pods of %d processes", place.pods, place.processes)
    try:
        elastic_launch(config, program)(*arguments)
    except ChildFailedError as failed:
        for number, failure in sorted(failed.failures.items()):
            log.error("process %d ended with %d", number, failure.exitcode)
        return exit_code(failure.exitcode for failure in failed.failures.values())
    except SignalException as stopped:
        return 128 + int(stopped.sigval)
    return 0


def exit_code(codes: Iterable[int]) -> int:
    """Return one exit code for those of several workers, negative ones of signals.

    A refusal is one, whoever was first to say so: another attempt would not help. Then what a worker said itself
    counts more than the signal that one was ended with because of it.
    """
    failed = [code for code in codes if code]
    if EXIT_NON_RETRYABLE in failed:
        return EXIT_NON_RETRYABLE
    own = [code for code in failed if code > 0]
    if own:
        return own[0]
    return 128 - failed[0] if failed else EXIT_FAILED


def _number(environment: Mapping[str, str], name: str, default: int | None) -> int:
    value = environment.get(name, "" if default is None else str(default))
    try:
        return int(value)
    except ValueError:
        raise NonRetryableError(f"{name}: must be a whole number (got {value!r})", kind="bad-config") from None
