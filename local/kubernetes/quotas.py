"""ResourceQuota: what the objects of a namespace may use together.

Follows k8s.io/apiserver/pkg/admission/plugin/resourcequota and k8s.io/kubernetes/pkg/quota/v1.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from datetime import datetime
from decimal import Decimal

from local.kubernetes import quantities
from local.kubernetes.defaults import binary_amounts, pod_amounts, qos_class
from local.kubernetes.errors import JSON, forbidden
from local.kubernetes.kinds import RESOURCES, group_of
from local.kubernetes.phases import is_over
from local.kubernetes.store import Store

_COMPUTE = ("cpu", "memory", "ephemeral-storage")
# Resources whose plain name in a quota counts objects; all others are counted as count/<resource>.<group>.
_NEVER_COUNTED = ("events",)
_COUNTED = ("configmaps", "secrets", "resourcequotas")
# Of these a quota wants every container to say what it needs.
_MUST_BE_SAID = ("requests.cpu", "requests.memory", "limits.cpu", "limits.memory", "cpu", "memory")
Usage = dict[str, Decimal]


def check(store: Store, resource: str, obj: JSON) -> None:
    """Raise 403 if a new object does not fit its namespace's quotas."""
    if resource in _NEVER_COUNTED:
        return
    metadata = obj["metadata"]
    name, wanted = metadata.get("name", ""), _usage(resource, obj)
    quotas = [q for q in store.select("resourcequotas", metadata.get("namespace", "")) if _covers(q, resource, obj)]
    # First what every quota wants to know, then how much each has left.
    for quota in quotas if resource == "pods" else []:
        if unsaid := _unsaid(_hard(quota), obj["spec"]):
            raise forbidden(resource, name, f"failed quota: {quota['metadata']['name']}: must specify {unsaid}")
    for quota in quotas:
        hard, used = _hard(quota), usage(store, quota)
        asked = {key: amount for key, amount in wanted.items() if key in hard}
        over = sorted(key for key, amount in asked.items() if amount > 0 and used[key] + amount > hard[key])
        if over:
            binary = _binary(resource, obj)
            texts = status(store, quota)
            requested = ",".join(f"{key}={quantities.show(asked[key], binary=key in binary)}" for key in over)
            text = (
                f"exceeded quota: {quota['metadata']['name']}, requested: {requested}, "
                f"used: {_list(texts['used'], over)}, limited: {_list(texts['hard'], over)}"
            )
            raise forbidden(resource, name, text)


def usage(store: Store, quota: JSON) -> Usage:
    """Return what is used now of everything that a quota limits."""
    used = {name: Decimal(0) for name in _hard(quota)}
    for resource, obj in _counted(store, quota):
        for name, amount in _usage(resource, obj).items():
            if name in used:
                used[name] += amount
    return used


def status(store: Store, quota: JSON) -> JSON:
    """Return a quota's status."""
    used = usage(store, quota)
    binary = {name for resource, obj in _counted(store, quota) for name in _binary(resource, obj)}
    hard = {name: quantities.canonical(text) for name, text in quota["spec"].get("hard", {}).items()}
    return {"hard": hard, "used": {name: quantities.show(used[name], binary=name in binary) for name in hard}}


def _counted(store: Store, quota: JSON) -> Iterator[tuple[str, JSON]]:
    for resource, known in RESOURCES.items():
        if known.namespaced and resource not in _NEVER_COUNTED:
            for obj in store.select(resource, quota["metadata"]["namespace"]):
                if _covers(quota, resource, obj):
                    yield resource, obj


def _hard(quota: JSON) -> Usage:
    return {name: quantities.parse(amount) for name, amount in quota["spec"].get("hard", {}).items()}


def _usage(resource: str, obj: JSON) -> Usage:
    group = group_of(resource)
    found = {f"count/{resource}.{group}" if group else f"count/{resource}": Decimal(1)}
    if resource in _COUNTED:
        found[resource] = Decimal(1)
    if resource != "pods" or _uses_nothing(obj):
        return found
    found["pods"] = Decimal(1)
    for kind in ("requests", "limits"):
        for name, amount in pod_amounts(obj["spec"], kind).items():
            found |= dict.fromkeys(_names(kind, name), amount)
    return found


def _names(kind: str, name: str) -> list[str]:
    """Return what quotas call a pod's requests or limits of a resource."""
    if name in _COMPUTE:
        return [f"limits.{name}"] if kind == "limits" else [name, f"requests.{name}"]
    if kind == "limits":
        return []  # what is not overcommitted has only requests, which equal the limits
    return [name, f"requests.{name}"] if name.startswith("hugepages-") else [f"requests.{name}"]


def _binary(resource: str, obj: JSON) -> set[str]:
    if resource != "pods":
        return set()
    kinds = ("requests", "limits")
    return {text for kind in kinds for name in binary_amounts(obj["spec"], kind) for text in _names(kind, name)}


def _uses_nothing(pod: JSON) -> bool:
    """Tell whether a pod uses nothing any more: it has ended, or it should have long been gone."""
    if is_over(pod):
        return True
    end = pod["metadata"].get("deletionTimestamp")
    grace = pod["metadata"].get("deletionGracePeriodSeconds", 0)
    return bool(end) and time.time() > datetime.fromisoformat(end).timestamp() + grace


def _unsaid(hard: Usage, spec: JSON) -> str:
    """Return what containers do not say and a quota wants to know, as the API lists it."""
    missing: dict[str, list[str]] = {}
    for name in sorted(hard):
        if name not in _MUST_BE_SAID:
            continue
        kind, _, resource = name.rpartition(".")
        if resource in spec.get("resources", {}).get(kind or "requests", {}):
            continue  # the pod says it for all
        for container in spec["containers"] + spec.get("initContainers", []):
            if resource not in container.get("resources", {}).get(kind or "requests", {}):
                missing.setdefault(name, []).append(container["name"])
    return "; ".join(f"{name} for: {','.join(sorted(set(names)))}" for name, names in missing.items())


def _covers(quota: JSON, resource: str, obj: JSON) -> bool:
    spec = quota["spec"]
    conditions = [{"scopeName": name, "operator": "Exists"} for name in spec.get("scopes", [])]
    conditions += spec.get("scopeSelector", {}).get("matchExpressions", [])
    return not conditions or (resource == "pods" and all(_in_scope(c, obj["spec"]) for c in conditions))


def _in_scope(condition: JSON, spec: JSON) -> bool:
    match condition["scopeName"]:
        case "Terminating":
            return spec.get("activeDeadlineSeconds") is not None
        case "NotTerminating":
            return spec.get("activeDeadlineSeconds") is None
        case "BestEffort":
            return qos_class(spec) == "BestEffort"
        case "NotBestEffort":
            return qos_class(spec) != "BestEffort"
        case "CrossNamespacePodAffinity":
            return _looks_elsewhere(spec)
        case "PriorityClass":
            value, values = spec.get("priorityClassName", ""), condition.get("values", [])
            return {
                "In": value in values,
                "NotIn": value not in values,
                "Exists": bool(value),
                "DoesNotExist": not value,
            }[condition["operator"]]
    return False


def _looks_elsewhere(spec: JSON) -> bool:
    affinity = spec.get("affinity", {})
    for kind in ("podAffinity", "podAntiAffinity"):
        found = affinity.get(kind, {})
        terms = found.get("requiredDuringSchedulingIgnoredDuringExecution", [])
        preferred = found.get("preferredDuringSchedulingIgnoredDuringExecution", [])
        for term in [*terms, *(weighted.get("podAffinityTerm", {}) for weighted in preferred)]:
            if term.get("namespaces") or "namespaceSelector" in term:
                return True
    return False


def _list(texts: dict[str, str], names: list[str]) -> str:
    return ",".join(f"{name}={texts[name]}" for name in names)
