"""What the API server adds to objects that leave it out: defaulting and the built-in admission plugins."""

from __future__ import annotations

from decimal import Decimal

from local.kubernetes import quantities
from local.kubernetes.errors import JSON

PRIORITY_CLASSES = {"system-cluster-critical": 2000000000, "system-node-critical": 2000001000}


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
    spec.setdefault("preemptionPolicy", "PreemptLowerPriority")
    for container in spec.get("containers", []) + spec.get("initContainers", []):
        _default_container(container)
    for volume in spec.get("volumes", []):
        _default_volume(volume)


def admit_pod(pod: JSON) -> None:
    """Add what the admission plugins add, in place, after the pod was found valid."""
    spec = pod["spec"]
    spec.setdefault("priority", PRIORITY_CLASSES.get(spec.get("priorityClassName", ""), 0))
    tolerations = spec.setdefault("tolerations", [])
    for key in ("node.kubernetes.io/not-ready", "node.kubernetes.io/unreachable"):
        if not any(t.get("key") in (key, None) and t.get("effect") in ("NoExecute", None) for t in tolerations):
            tolerations.append({"key": key, "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 300})
    pod["status"] = {"phase": "Pending", "qosClass": qos_class(spec)}


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
    """Return what a pod needs of each resource: the larger of its containers' sum and its largest init container."""
    needed: dict[str, Decimal] = {}
    for container in spec["containers"]:
        for name, amount in container.get("resources", {}).get("requests", {}).items():
            needed[name] = needed.get(name, Decimal(0)) + quantities.parse(amount)
    for container in spec.get("initContainers", []):
        for name, amount in container.get("resources", {}).get("requests", {}).items():
            needed[name] = max(needed.get(name, Decimal(0)), quantities.parse(amount))
    return needed
