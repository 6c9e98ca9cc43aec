"""The kinds of objects that the API has."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Resource:
    """A kind of object that the API has."""

    kind: str
    group_version: str = "v1"
    namespaced: bool = True


_RBAC = "rbac.authorization.k8s.io/v1"
RESOURCES = {
    "pods": Resource("Pod"),
    "jobs": Resource("Job", "batch/v1"),
    "events": Resource("Event"),
    "configmaps": Resource("ConfigMap"),
    "secrets": Resource("Secret"),
    "serviceaccounts": Resource("ServiceAccount"),
    "resourcequotas": Resource("ResourceQuota"),
    "limitranges": Resource("LimitRange"),
    "namespaces": Resource("Namespace", namespaced=False),
    "nodes": Resource("Node", namespaced=False),
    "priorityclasses": Resource("PriorityClass", "scheduling.k8s.io/v1", namespaced=False),
    "roles": Resource("Role", _RBAC),
    "rolebindings": Resource("RoleBinding", _RBAC),
    "clusterroles": Resource("ClusterRole", _RBAC, namespaced=False),
    "clusterrolebindings": Resource("ClusterRoleBinding", _RBAC, namespaced=False),
}
KINDS = {name: resource.kind for name, resource in RESOURCES.items()}
CLUSTER_SCOPED = tuple(name for name, resource in RESOURCES.items() if not resource.namespaced)
WITH_GENERATION = ("pods", "jobs")
"""Those whose `metadata.generation` counts the changes of their spec."""
GROUP_VERSIONS = tuple(dict.fromkeys(resource.group_version for resource in RESOURCES.values()))


def group_version(resource: str) -> str:
    """Return the apiVersion of a resource's objects."""
    return RESOURCES[resource].group_version


def group_of(resource: str) -> str:
    """Return the API group of a resource, empty for the core group (and what is no resource)."""
    return group_version(resource).rpartition("/")[0] if resource in RESOURCES else ""
