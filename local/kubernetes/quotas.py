"""ResourceQuota: what the objects of a namespace may use together.

Follows k8s.io/apiserver/pkg/admission/plugin/resourcequota and k8s.io/kubernetes/pkg/quota/v1.
"""

from __future__ import annotations

import time
from datetime import datetime
from decimal import Decimal

from local.kubernetes import quantities
from local.kubernetes.defaults import pod_amounts, qos_class
from local.kubernetes.errors import JSON, forbidden
from local.kubernetes.kinds import group_of
from local.kubernetes.store import Store

_COMPUTE = ("cpu", "memory", "ephemeral-storage")
# Resources whose plain name in a quota counts objects; all others are counted as count/<resource>.<group>.
_COUNTED = ("configmaps", "secrets", "resourcequotas")
# Of these a quota wants every container to say what it needs.
_MUST_BE_SAID = ("requests.cpu", "requests.memory", "limits.cpu", "limits.memory", "cpu", "memory")
Usage = dict[str, Decimal]


def check(store: Store, resource: str, obj: JSON) -> None:
    """Raise 403 if a new object does not fit its namespace's quotas."""
    metadata = obj["metadata"]
    namespace = metadata.get("namespace", "")
    wanted = _usage(resource, obj)
    for quota in store.select("resourcequotas", namespace):
        hard = _hard(quota)
        asked = {name: amount for name, amount in wanted.items() if name in hard}
        if not _covers(quota, resource, obj):
            continue
        name = metadata.get("name", "")
        if resource == "pods" and (unsaid := _unsaid(hard, obj["spec"])):
            raise forbidden(resource, name, f"failed quota: {quota['metadata']['name']}: must specify {unsaid}")
        used = usage(store, quota)
        over = sorted(key for key, amount in asked.items() if amount > 0 and used[key] + amount > hard[key])
        if over:
            text = (
                f"exceeded quota: {quota['metadata']['name']}, requested: {_list(asked, over)}, "
                f"used: {_list(used, over)}, limited: {_list(hard, over)}"
            )
            raise forbidden(resource, name, text)


def usage(store: Store, quota: JSON) -> Usage:
    """Return what is used now of everything that a quota limits."""
    used = {name: Decimal(0) for name in _hard(quota)}
    namespace = quota["metadata"]["namespace"]
    for resource in ("pods", "jobs", *_COUNTED):
        for obj in store.select(resource, namespace):
            if _covers(quota, resource, obj):
                for name, amount in _usage(resource, obj).items():
                    if name in used:
                        used[name] += amount
    return used


def status(store: Store, quota: JSON) -> JSON:
    """Return a quota's status."""
    hard, used = _hard(quota), usage(store, quota)
    return {"hard": {name: _show(name, hard[name]) for name in hard}, "used": {n: _show(n, used[n]) for n in hard}}


def _hard(quota: JSON) -> Usage:
    return {name: quantities.parse(amount) for name, amount in quota["spec"].get("hard", {}).items()}


def _usage(resource: str, obj: JSON) -> Usage:
    group = group_of(resource)
    found = {f"count/{resource}.{group}" if group else f"count/{resource}": Decimal(1)}
    if resource in _COUNTED:
        found[resource] = Decimal(1)
    if resource != "pods" or _is_over(obj):
        return found
    found["pods"] = Decimal(1)
    for kind in ("requests", "limits"):
        for name, amount in pod_amounts(obj["spec"], kind).items():
            found[f"{kind}.{name}"] = amount
            if kind == "requests" and name in _COMPUTE:
                found[name] = amount
    return found


def _is_over(pod: JSON) -> bool:
    """Tell whether a pod uses nothing any more: it has ended, or it should have long been gone."""
    if pod.get("status", {}).get("phase") in ("Succeeded", "Failed"):
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
        case "PriorityClass":
            value, values = spec.get("priorityClassName", ""), condition.get("values", [])
            return {
                "In": value in values,
                "NotIn": value not in values,
                "Exists": bool(value),
                "DoesNotExist": not value,
            }[condition["operator"]]
    return False


def _list(amounts: Usage, names: list[str]) -> str:
    return ",".join(f"{name}={_show(name, amounts[name])}" for name in names)


def _show(name: str, amount: Decimal) -> str:
    return quantities.show(amount, binary=name.endswith(("memory", "storage")))
