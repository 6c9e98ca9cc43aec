"""By which way people reach what, from where they are."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from cloud.access.forwards import forwarded
from cloud.access.opening import forwarded_kubeconfig
from cloud.access.probe import silence
from cloud.access.targets import Target, kubernetes, targets
from cloud.cluster_config import describe, kubeconfig_for, write_kubeconfig
from cloud.environments import Environment

SECONDS = 3.0


def reached_from_here(environment: Environment) -> str:
    """Say what answers from here, and how the rest is reached. What is private is no failure.

    Raises:
        CloudError: nothing is applied.
    """
    found = targets(environment)
    with ThreadPoolExecutor(len(found)) as pool:
        answers = list(pool.map(reached, found))
    near = [target.name for target, yes in zip(found, answers, strict=True) if yes]
    far = [target.name for target, yes in zip(found, answers, strict=True) if not yes]
    name = environment.name
    by_bastion = (
        f"by `make open ENV={name}`"
        if environment.outputs.get("bastion_instance_id")
        else f"only from private clients of {name}, as it has no bastion"
    )
    told = [(near, "from here"), (far, by_bastion)]
    return "; ".join(f"{', '.join(names)} {how}" for names, how in told if names)


@contextlib.contextmanager
def cluster_kubeconfig(environment: Environment, say: Callable[[str], None]) -> Iterator[Path]:
    """Lend a kubeconfig that leads to the cluster: straight there, or through the bastion where only that does.

    Raises:
        CloudError: the bastion is the only way, and cannot be used.
    """
    outputs = environment.outputs
    cluster, target = describe(outputs["cluster_name"], outputs["region"]), kubernetes(environment)
    with tempfile.TemporaryDirectory(prefix="kubeconfig-") as folder:
        path = Path(folder, "kubeconfig")
        if reached(target) or not outputs.get("bastion_instance_id"):
            write_kubeconfig(path, kubeconfig_for(cluster))
            yield path
            return
        say("the Kubernetes API is private: going through the bastion")
        with forwarded(environment, [target], say) as (forward,):
            write_kubeconfig(path, forwarded_kubeconfig(cluster, forward))
            yield path


def reached(target: Target) -> bool:
    """Whether a target answers from here."""
    return silence(target, target.host, target.port, SECONDS) is None
