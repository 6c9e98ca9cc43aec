"""Server-side tables: the columns `kubectl get` prints."""

from __future__ import annotations

from datetime import UTC, datetime

from local.kubernetes.errors import JSON
from local.kubernetes.phases import is_over

_COLUMNS: dict[str, list[str]] = {
    "pods": ["Name", "Ready", "Status", "Restarts", "Age", "IP", "Node"],
    "jobs": ["Name", "Status", "Completions", "Duration", "Age"],
    "events": ["Last Seen", "Type", "Reason", "Object", "Message"],
    "nodes": ["Name", "Status", "Roles", "Age", "Version"],
    "namespaces": ["Name", "Status", "Age"],
    "configmaps": ["Name", "Data", "Age"],
    "secrets": ["Name", "Type", "Data", "Age"],
    "serviceaccounts": ["Name", "Age"],
    "resourcequotas": ["Name", "Request", "Limit", "Age"],
    "limitranges": ["Name", "Created At"],
    "priorityclasses": ["Name", "Value", "Global-Default", "Age", "PreemptionPolicy"],
    "roles": ["Name", "Created At"],
    "rolebindings": ["Name", "Role", "Age"],
    "clusterroles": ["Name", "Created At"],
    "clusterrolebindings": ["Name", "Role", "Age"],
}
_WIDE = ("IP", "Node")


def _age(stamp: str | None) -> str:
    return _span(stamp, None) or "<unknown>"


def _span(start: str | None, end: str | None) -> str:
    if not start:
        return ""
    until = datetime.fromisoformat(end) if end else datetime.now(UTC)
    seconds = max(int((until - datetime.fromisoformat(start)).total_seconds()), 0)
    if seconds < 120:
        return f"{seconds}s"
    if seconds < 600:
        return f"{seconds // 60}m{seconds % 60}s" if seconds % 60 else f"{seconds // 60}m"
    if seconds < 3 * 3600:
        return f"{seconds // 60}m"
    return f"{seconds // 3600}h" if seconds < 48 * 3600 else f"{seconds // 86400}d"


def _pod_status(pod: JSON) -> str:
    if "deletionTimestamp" in pod["metadata"] and not is_over(pod):
        return "Terminating"
    status = pod["status"].get("reason") or pod["status"]["phase"]
    for container in pod["status"].get("initContainerStatuses", []):
        state = container["state"]
        if state.get("terminated", {}).get("exitCode", 0):
            return f"Init:{state['terminated']['reason']}"
        reason = state.get("waiting", {}).get("reason")
        if reason and reason != "PodInitializing":
            return f"Init:{reason}"
    for container in reversed(pod["status"].get("containerStatuses", [])):
        state = container["state"]
        reason = state.get("waiting", {}).get("reason") or state.get("terminated", {}).get("reason")
        status = reason or status
    return str(status)


def _job_cells(job: JSON) -> list[str]:
    status, spec = job["status"], job["spec"]
    finished = [c for c in status.get("conditions", []) if c["type"] in ("Complete", "Failed")]
    state = finished[0]["type"] if finished else "Terminating" if "deletionTimestamp" in job["metadata"] else "Running"
    end = status.get("completionTime") or (finished[0]["lastTransitionTime"] if finished else None)
    wanted = spec.get("completions") or f"1 of {spec['parallelism']}"
    return [state, f"{status.get('succeeded', 0)}/{wanted}", _span(status.get("startTime"), end)]


def _cells(resource: str, obj: JSON) -> list[str | int]:
    metadata, status = obj["metadata"], obj.get("status", {})
    age = _age(metadata.get("creationTimestamp"))
    match resource:
        case "pods":
            containers = status.get("containerStatuses", [])
            ready = f"{sum(c['ready'] for c in containers)}/{len(obj['spec']['containers'])}"
            address, node = status.get("podIP", "<none>"), obj["spec"].get("nodeName", "<none>")
            return [metadata["name"], ready, _pod_status(obj), "0", age, address, node]
        case "jobs":
            return [metadata["name"], *_job_cells(obj), age]
        case "events":
            about = obj["involvedObject"]
            where = f"{about.get('kind', '').lower()}/{about.get('name', '')}"
            times = (obj.get("series", {}).get("lastObservedTime"), obj.get("lastTimestamp"), obj.get("eventTime"))
            seen = _age(next((time for time in times if time), None))
            return [seen, obj.get("type", ""), obj.get("reason", ""), where, obj.get("message", "").strip()]
        case "nodes":
            return [metadata["name"], "Ready", "<none>", age, status["nodeInfo"]["kubeletVersion"]]
        case "namespaces":
            return [metadata["name"], status.get("phase", ""), age]
        case "configmaps":
            return [metadata["name"], len(obj.get("data", {})) + len(obj.get("binaryData", {})), age]
        case "secrets":
            return [metadata["name"], obj.get("type", ""), len(obj.get("data", {})), age]
        case "resourcequotas":
            return [metadata["name"], *_quota_cells(status), age]
        case "priorityclasses":
            policy = obj.get("preemptionPolicy", "")
            return [metadata["name"], obj["value"], str(obj.get("globalDefault", False)).lower(), age, policy]
        case "rolebindings" | "clusterrolebindings":
            return [metadata["name"], f"{obj['roleRef']['kind']}/{obj['roleRef']['name']}", age]
        case "limitranges" | "roles" | "clusterroles":
            return [metadata["name"], metadata["creationTimestamp"]]
        case _:
            return [metadata["name"], age]


def _quota_cells(status: JSON) -> list[str]:
    """Return what is used of what there is: of limits, and of everything else."""
    shares = {name: f"{name}: {status['used'][name]}/{hard}" for name, hard in sorted(status["hard"].items())}
    limits = [text for name, text in shares.items() if name.startswith("limits.")]
    return [", ".join(text for name, text in shares.items() if not name.startswith("limits.")), ", ".join(limits)]


def table(resource: str, objects: list[JSON], metadata: JSON, *, columns: bool = True) -> JSON:
    """Return a meta.k8s.io/v1 Table; a watch sends the column definitions only once."""
    names = _COLUMNS[resource]
    definitions = [
        {
            "name": name,
            "type": "integer" if name in ("Data", "Value") else "string",
            "format": "name" if name == "Name" else "",
            "description": "",
            "priority": int(name in _WIDE),
        }
        for name in names
    ]
    rows = [
        {
            "cells": _cells(resource, obj),
            "object": {"kind": "PartialObjectMetadata", "apiVersion": "meta.k8s.io/v1", "metadata": obj["metadata"]},
        }
        for obj in objects
    ]
    return {
        "kind": "Table",
        "apiVersion": "meta.k8s.io/v1",
        "metadata": metadata,
        "columnDefinitions": definitions if columns else None,
        "rows": rows,
    }
