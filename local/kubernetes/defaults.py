"""What the API server adds to objects that leave it out."""

from __future__ import annotations

from decimal import Decimal

from local.kubernetes import quantities
from local.kubernetes.errors import JSON


def _default_container(container: JSON) -> None:
    image = container.get("image", "")
    untagged = ":" not in image.rsplit("/", 1)[-1]
    latest = "@" not in image and (untagged or image.endswith(":latest"))
    container.setdefault("imagePullPolicy", "Always" if latest else "IfNotPresent")
    container.setdefault("terminationMessagePath", "/dev/termination-log")
    container.setdefault("terminationMessagePolicy", "File")
    resources = container.setdefault("resources", {})
    if resources.get("limits"):
        resources["requests"] = {**resources["limits"], **resources.get("requests", {})}
    for port in container.get("ports", []):
        port.setdefault("protocol", "TCP")
    for variable in container.get("env", []):
        if "fieldRef" in variable.get("valueFrom", {}):
            variable["valueFrom"]["fieldRef"].setdefault("apiVersion", "v1")


def _default_volume(volume: JSON) -> None:
    if set(volume) <= {"name"}:
        volume["emptyDir"] = {}
    for source in ("configMap", "secret", "downwardAPI", "projected"):
        if isinstance(volume.get(source), dict):
            volume[source].setdefault("defaultMode", 0o644)


def default_pod(pod: JSON) -> None:
    """Fill in a pod's defaults in place."""
    spec = pod.setdefault("spec", {})
    if "restartPolicy" not in spec:
        spec["restartPolicy"] = "Always"
    spec.setdefault("terminationGracePeriodSeconds", 30)
    spec.setdefault("dnsPolicy", "ClusterFirst")
    spec.setdefault("schedulerName", "default-scheduler")
    spec.setdefault("securityContext", {})
    spec.setdefault("enableServiceLinks", True)
    account = spec.get("serviceAccountName") or spec.get("serviceAccount") or "default"
    spec["serviceAccountName"] = spec["serviceAccount"] = account
    for container in spec.get("containers", []) + spec.get("initContainers", []):
        _default_container(container)
    for volume in spec.get("volumes", []):
        _default_volume(volume)


def qos_class(spec: JSON) -> str:
    """Return Guaranteed, Burstable or BestEffort."""
    # https://kubernetes.io/docs/concepts/workloads/pods/pod-qos/
    guaranteed, any_set = True, False
    for container in spec["containers"] + spec.get("initContainers", []):
        resources = container.get("resources", {})
        limits, requests = resources.get("limits", {}), resources.get("requests", {})
        for name in ("cpu", "memory"):
            limit = quantities.parse(limits.get(name, "0"))
            request = quantities.parse(requests.get(name, "0"))
            any_set = any_set or limit > 0 or request > 0
            guaranteed = guaranteed and limit > 0 and limit == request
    if not any_set:
        return "BestEffort"
    return "Guaranteed" if guaranteed else "Burstable"


def pod_requests(spec: JSON) -> dict[str, Decimal]:
    """Return what a pod needs of each resource."""
    return pod_amounts(spec, "requests")


def pod_amounts(spec: JSON, kind: str) -> dict[str, Decimal]:
    """Return a pod's requests or limits: the larger of its containers' sum and its largest init container."""
    found: dict[str, Decimal] = {}
    for container in spec["containers"]:
        for name, amount in container.get("resources", {}).get(kind, {}).items():
            found[name] = found.get(name, Decimal(0)) + quantities.parse(amount)
    for container in spec.get("initContainers", []):
        for name, amount in container.get("resources", {}).get(kind, {}).items():
            found[name] = max(found.get(name, Decimal(0)), quantities.parse(amount))
    # What the pod as a whole says counts instead of what its containers say.
    for name, amount in spec.get("resources", {}).get(kind, {}).items():
        if name in ("cpu", "memory") or name.startswith("hugepages-"):
            found[name] = quantities.parse(amount)
    return found


def binary_amounts(spec: JSON, kind: str) -> set[str]:
    """Return the resources whose amounts are written in powers of two, as the first of them that is not zero is."""
    found: dict[str, bool] = {}
    owners = [spec, *spec["containers"], *spec.get("initContainers", [])]
    for owner in owners:
        for name, amount in owner.get("resources", {}).get(kind, {}).items():
            if quantities.parse(amount):
                found.setdefault(name, quantities.is_binary(amount))
    return {name for name, binary in found.items() if binary}
