"""The Kubernetes API on this machine."""

from __future__ import annotations

import json
import ssl
import sys

from local.platform.facts import TRAINING_NAMESPACE, Facts
from local.platform.home import ROOT
from local.platform.probes import get
from local.platform.processes import MARKER
from local.platform.service import Command, NotReady, Service

# What is in every cluster; overlays only differ in how large their quotas are.
MANIFESTS = ROOT / "config" / "kubernetes" / "base"
# The group of the cluster's access entry for Airflow's role, see terraform/modules/cluster/access.tf.
AIRFLOW = "ml-platform:airflow"


def service(facts: Facts) -> Service:
    """Describe the service."""
    state = facts.home.folder("kubernetes")
    pod_environment = state / "pod-environment.json"

    def prepare() -> None:
        state.mkdir(exist_ok=True)
        # In the cloud, Pod Identity gives a pod its credentials. The marker lets a stop find stray pods.
        content = {**facts.aws_environment, MARKER: str(facts.home.root)}
        pod_environment.write_text(json.dumps(content, indent=2), encoding="utf-8")

    def command() -> Command:
        argv = [
            *(sys.executable, "-m", "local.kubernetes"),
            *("--port", str(facts.ports["kubernetes"])),
            *("--state-dir", str(state)),
            *("--images", str(facts.home.images_file)),
            *("--manifest", str(MANIFESTS), "--namespace", TRAINING_NAMESPACE),
            *("--user", f"{facts.home.airflow_kubeconfig.stem}={AIRFLOW}"),
            *("--pod-env-file", str(pod_environment)),
        ]
        return Command(argv, facts.base_environment, ROOT)

    return Service(
        name="kubernetes",
        command=command,
        prepare=prepare,
        ready=lambda: check(facts),
        port=facts.ports["kubernetes"],
        start_timeout=60,
    )


def check(facts: Facts) -> None:
    """Ask the API whether it is ready, as its kubeconfig would have a client do."""
    state = facts.home.folder("kubernetes")
    try:
        context = ssl.create_default_context(cafile=str(state / "ca.crt"))
        token = (state / "token").read_text().strip()
    except OSError as error:
        raise NotReady(f"certificate and token are not written yet: {error}") from None
    if not facts.home.kubeconfig.exists():
        raise NotReady(f"{facts.home.kubeconfig} is not written yet")
    get(f"{facts.kubernetes_url}/readyz", headers={"Authorization": f"Bearer {token}"}, context=context)
