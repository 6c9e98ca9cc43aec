"""Two nodes and the rules by which a pod gets one of them, or has to wait."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from decimal import Decimal

import psutil

from local.kubernetes import quantities
from local.kubernetes.defaults import pod_requests
from local.kubernetes.errors import JSON

GPU = "nvidia.com/gpu"
_NODE_CPUS = "8"
_MAX_PODS = "110"


def _node(name: str, labels: dict[str, str], taints: list[JSON], extra: dict[str, str]) -> JSON:
    capacity = {
        "cpu": _NODE_CPUS,
        "memory": f"{psutil.virtual_memory().total // 1024}Ki",
        "ephemeral-storage": "100Gi",
        "pods": _MAX_PODS,
        **extra,
    }
    machine = os.uname()
    return {
        "metadata": {
            "name": name,
            "labels": {
                "kubernetes.io/hostname": name,
                "kubernetes.io/os": "linux",
                "kubernetes.io/arch": {"x86_64": "amd64", "aarch64": "arm64"}.get(machine.machine, machine.machine),
                "ml-platform/node-pool": name,
                **labels,
            },
        },
        "spec": {"taints": taints} if taints else {},
        "status": {
            "capacity": capacity,
            "allocatable": dict(capacity),
            "conditions": [
                {"type": "Ready", "status": "True", "reason": "KubeletReady", "message": "the local API is serving"}
            ],
            "addresses": [
                {"type": "InternalIP", "address": "127.0.0.1"},
                {"type": "Hostname", "address": name},
            ],
            "nodeInfo": {
                "architecture": machine.machine,
                "bootID": "",
                "containerRuntimeVersion": "local-processes://1",
                "kernelVersion": machine.release,
                "kubeProxyVersion": "",
                "kubeletVersion": "v1.36.0",
                "machineID": "",
                "operatingSystem": "linux",
                "osImage": f"{machine.sysname} (this machine)",
                "systemUUID": "",
            },
        },
    }


def nodes(gpus: int) -> list[JSON]:
    """Return the node objects: `cpu`, and the tainted `gpu` with a number of GPUs that are only counted."""
    taint = {"key": GPU, "value": "true", "effect": "NoSchedule"}
    return [
        _node("cpu", {}, [], {}),
        _node("gpu", {"k8s.amazonaws.com/accelerator": "simulated"}, [taint], {GPU: str(gpus)}),
    ]


def tolerates(toleration: JSON, taint: JSON) -> bool:
    """Tell whether a toleration is for a taint."""
    if toleration.get("effect") and toleration["effect"] != taint["effect"]:
        return False
    if toleration.get("key") and toleration["key"] != taint["key"]:
        return False
    if toleration.get("operator", "Equal") == "Exists":
        return True
    return bool(toleration.get("value", "") == taint.get("value", ""))


def _expression_matches(expression: JSON, labels: dict[str, str]) -> bool:
    value, values = labels.get(expression["key"]), expression.get("values", [])
    match expression["operator"]:
        case "In":
            return value in values
        case "NotIn":
            return value not in values
        case "Exists":
            return value is not None
        case "DoesNotExist":
            return value is None
        case "Gt":
            return value is not None and value.isdigit() and int(value) > int(values[0])
        case _:
            return value is not None and value.isdigit() and int(value) < int(values[0])


def _affinity_matches(spec: JSON, node: JSON) -> bool:
    labels = node["metadata"]["labels"]
    if any(labels.get(key) != value for key, value in spec.get("nodeSelector", {}).items()):
        return False
    affinity = spec.get("affinity", {}).get("nodeAffinity", {})
    required = affinity.get("requiredDuringSchedulingIgnoredDuringExecution")
    if required is None:
        return True
    # Terms are alternatives; the expressions of one term must all hold; an empty term matches nothing.
    for term in required["nodeSelectorTerms"]:
        expressions = [(e, labels) for e in term.get("matchExpressions", [])]
        expressions += [(e, {"metadata.name": node["metadata"]["name"]}) for e in term.get("matchFields", [])]
        if expressions and all(_expression_matches(e, values) for e, values in expressions):
            return True
    return False


def _free(node: JSON, running: Iterable[JSON]) -> dict[str, Decimal]:
    free = {name: quantities.parse(amount) for name, amount in node["status"]["allocatable"].items()}
    for pod in running:
        if pod["spec"].get("nodeName") == node["metadata"]["name"]:
            free["pods"] -= 1
            for name, amount in pod_requests(pod["spec"]).items():
                free[name] = free.get(name, Decimal(0)) - amount
    return free


@dataclass(frozen=True)
class Problem:
    """Why a pod does not fit a node; lasting: whether it would not fit either if other pods made room."""

    text: str
    lasting: bool = True


def _problems(pod: JSON, node: JSON, running: list[JSON]) -> list[Problem]:
    """Return why a pod does not fit a node: the findings of the first scheduler plugin that refuses it."""
    spec = pod["spec"]
    for taint in node["spec"].get("taints", []):
        if taint["effect"] != "PreferNoSchedule" and not any(tolerates(t, taint) for t in spec.get("tolerations", [])):
            return [Problem("node(s) had untolerated taint(s)")]
    if not _affinity_matches(spec, node):
        return [Problem("node(s) didn't match Pod's node affinity/selector")]
    free, empty = _free(node, running), _free(node, [])
    problems = [Problem("Too many pods", lasting=False)] if free["pods"] < 1 else []
    for name, amount in pod_requests(spec).items():
        if amount > 0 and amount > free.get(name, Decimal(0)):
            problems.append(Problem(f"Insufficient {name}", lasting=amount > empty.get(name, Decimal(0))))
    return problems


def place(pod: JSON, candidates: list[JSON], running: list[JSON]) -> tuple[str | None, str]:
    """Return the node for a pod, or None and the reason in the words of the real scheduler.

    running: the pods that are bound to a node and not finished.
    """
    found: list[list[Problem]] = []
    for node in candidates:
        problems = _problems(pod, node, running)
        if not problems:
            return node["metadata"]["name"], ""
        found.append(problems)
    return None, refusal(pod, found)


def refusal(pod: JSON, found: list[list[Problem]]) -> str:
    """Return the message for a pod that fits no node, from the problems with each."""
    reasons = Counter(problem.text for problems in found for problem in problems)
    preemption = Counter(
        "Preemption is not helpful for scheduling"
        if any(problem.lasting for problem in problems)
        else "No preemption victims found for incoming pod"
        for problems in found
    )
    none = f"0/{len(found)} nodes are available"
    never = pod["spec"].get("preemptionPolicy") == "Never"
    also = "not eligible due to preemptionPolicy=Never." if never else f"{none}: {_listed(preemption)}."
    return f"{none}: {_listed(reasons)}. no new claims to deallocate, preemption: {also}"


def _listed(counts: Counter[str]) -> str:
    return ", ".join(sorted(f"{number} {text}" for text, number in counts.items()))
