"""Admission: what the API server's built-in plugins change in a new object, and what they refuse of it with 403.

As there, what changes an object comes before its validation, and what only refuses it after; the quota comes last.
"""

from __future__ import annotations

from local.kubernetes import limit_ranges, pod_security, quotas
from local.kubernetes.errors import JSON, forbidden
from local.kubernetes.store import Store

_NOT_READY = ("node.kubernetes.io/not-ready", "node.kubernetes.io/unreachable")


def default(store: Store, resource: str, obj: JSON) -> None:
    """Change a new object as the plugins do, in place."""
    if resource != "pods":
        return
    limit_ranges.default_pod(store, obj)
    _check_account(store, obj)
    _prioritize(store, obj)
    _tolerate(obj["spec"])
    if name := obj["spec"].get("runtimeClassName"):
        raise forbidden("pods", shown_name(obj), f'pod rejected: RuntimeClass "{name}" not found')
    if obj["spec"].get("overhead"):
        why = "pod rejected: Pod Overhead set without corresponding RuntimeClass defined Overhead"
        raise forbidden("pods", shown_name(obj), why)


def shown_name(obj: JSON) -> str:
    """Return what an object is called in a refusal that may come before it has a name of its own."""
    metadata = obj["metadata"]
    return str(metadata.get("name") or metadata.get("generateName") or "Unknown")


def check(store: Store, resource: str, obj: JSON) -> list[str]:
    """Raise 403 if a valid new object is refused; return the warnings to send with it."""
    warnings = []
    if resource == "pods":
        limit_ranges.check_pod(store, obj)
        warnings = pod_security.check_pod(_home(store, obj), obj)
    elif resource == "priorityclasses":
        check_default_class(store, obj)
    elif resource == "jobs":
        warnings = pod_security.warnings(_home(store, obj), obj["spec"]["template"]["spec"])
    quotas.check(store, resource, obj)
    return warnings


def check_default_class(store: Store, obj: JSON) -> None:
    """Raise 403 if a priority class wants to be the default of pods beside another."""
    name = obj["metadata"]["name"]
    others = [c["metadata"]["name"] for c in store.select("priorityclasses") if c.get("globalDefault")]
    if obj.get("globalDefault") and (taken := [other for other in others if other != name]):
        why = f"PriorityClass {taken[0]} is already marked as default. Only one default can exist"
        raise forbidden("priorityclasses", name, why)


def _home(store: Store, obj: JSON) -> JSON:
    return store.get("namespaces", "", obj["metadata"]["namespace"])


def _check_account(store: Store, pod: JSON) -> None:
    namespace, account = pod["metadata"]["namespace"], pod["spec"]["serviceAccountName"]
    if store.find("serviceaccounts", namespace, account) is None:
        why = f'error looking up service account {namespace}/{account}: serviceaccount "{account}" not found'
        raise forbidden("pods", shown_name(pod), why)


def _prioritize(store: Store, pod: JSON) -> None:
    """Give a pod the priority of its class, or of the one that all pods have that name none."""
    name, spec = shown_name(pod), pod["spec"]
    classes = {found["metadata"]["name"]: found for found in store.select("priorityclasses")}
    wanted = spec.get("priorityClassName")
    if wanted and wanted not in classes:
        raise forbidden("pods", name, f"no PriorityClass with name {wanted} was found")
    defaults = sorted((c for c in classes.values() if c.get("globalDefault")), key=lambda c: int(c["value"]))
    chosen = classes[wanted] if wanted else next(iter(defaults), None)
    priority, policy = 0, "PreemptLowerPriority"
    if chosen is not None:
        spec["priorityClassName"] = chosen["metadata"]["name"]
        priority, policy = chosen["value"], chosen.get("preemptionPolicy", policy)
    if spec.get("priority", priority) != priority:
        why = (
            f"the integer value of priority ({spec['priority']}) must not be provided in pod spec; "
            f"priority admission controller computed {priority} from the given PriorityClass name"
        )
        raise forbidden("pods", name, why)
    if spec.get("preemptionPolicy", policy) != policy:
        why = (
            f"the string value of PreemptionPolicy ({spec['preemptionPolicy']}) must not be provided in pod spec; "
            f"priority admission controller computed {policy} from the given PriorityClass name"
        )
        raise forbidden("pods", name, why)
    spec["priority"], spec["preemptionPolicy"] = priority, policy


def _tolerate(spec: JSON) -> None:
    """Let a pod stay for five minutes on a node that is silent."""
    tolerations = spec.setdefault("tolerations", [])
    for key in _NOT_READY:
        if not any(t.get("key") in (key, None) and t.get("effect") in ("NoExecute", None) for t in tolerations):
            tolerations.append({"key": key, "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 300})
