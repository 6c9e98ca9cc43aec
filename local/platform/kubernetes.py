"""The Kubernetes API on this machine."""

from __future__ import annotations

import json
import ssl
import sys

import yaml

from local.platform.facts import DEPLOYMENT_NAMESPACE, TRAINING_NAMESPACE, Facts
from local.platform.home import ROOT
from local.platform.probes import get
from local.platform.processes import MARKER
from local.platform.service import Command, NotReady, Service


def service_accounts() -> list[str]:
    """Return the service accounts of all steps as ``namespace/name``; in the cloud, config/kubernetes has them."""
    steps = yaml.safe_load((ROOT / "config" / "base.yaml").read_text(encoding="utf-8"))["steps"]
    namespaces = {"training": TRAINING_NAMESPACE, "deployment": DEPLOYMENT_NAMESPACE}
    return [f"{namespaces[step.get('namespace', 'training')]}/{step['service_account']}" for step in steps.values()]


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
            *("--namespace", TRAINING_NAMESPACE, "--namespace", DEPLOYMENT_NAMESPACE),
            *(part for account in service_accounts() for part in ("--service-account", account)),
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
