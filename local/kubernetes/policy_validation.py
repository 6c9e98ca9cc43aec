"""What the API server refuses, with 422 Invalid, of the objects that say what others may do and use.

Rules and messages follow k8s.io/kubernetes/pkg/apis/{rbac,scheduling,core}/validation.
"""

from __future__ import annotations

import re

from local.kubernetes.errors import JSON, Causes
from local.kubernetes.kinds import KINDS
from local.kubernetes.limit_validation import check_limits, check_priority_class, check_quota
from local.kubernetes.pod_security import LABEL, asked
from local.kubernetes.validation import check_labels, check_metadata

_RBAC_GROUP = "rbac.authorization.k8s.io"
_RBAC = ("roles", "rolebindings", "clusterroles", "clusterrolebindings")
_LEVELS = ("privileged", "baseline", "restricted")
_VERSION = re.compile(r"latest|v1\.(0|[1-9][0-9]*)")


def check(resource: str, obj: JSON) -> None:
    """Raise 422 naming everything that is wrong with an object; others than these have only metadata to check."""
    causes = Causes()
    if resource in _RBAC:
        _check_rbac_metadata(causes, obj["metadata"])
    else:
        check_metadata(causes, obj["metadata"], label_name=resource == "namespaces")
    match resource:
        case "roles" | "clusterroles":
            _check_rules(causes, obj.get("rules", []), namespaced=resource == "roles")
        case "rolebindings" | "clusterrolebindings":
            _check_binding(causes, obj)
        case "resourcequotas":
            check_quota(causes, obj.setdefault("spec", {}))
        case "limitranges":
            check_limits(causes, obj.setdefault("spec", {}).get("limits", []))
        case "priorityclasses":
            check_priority_class(causes, obj)
        case "namespaces":
            _check_levels(causes, obj["metadata"])
    causes.raise_if_any(KINDS[resource], obj["metadata"].get("name", ""))


def check_update(resource: str, old: JSON, new: JSON) -> None:
    """Raise 422 naming what is wrong with a changed object, or may not change in it."""
    check(resource, new)
    causes = Causes()
    if resource == "priorityclasses":
        if old["value"] != new["value"]:
            causes.forbidden("value", "may not be changed in an update.")
        if old["preemptionPolicy"] != new["preemptionPolicy"]:
            causes.invalid("preemptionPolicy", new["preemptionPolicy"], "field is immutable")
    if resource == "resourcequotas" and old["spec"].get("scopes", []) != new["spec"].get("scopes", []):
        causes.invalid("spec.scopes", new["spec"].get("scopes"), "field is immutable")
    if resource in ("rolebindings", "clusterrolebindings") and old["roleRef"] != new["roleRef"]:
        causes.invalid("roleRef", new["roleRef"], "cannot change roleRef")
    causes.raise_if_any(KINDS[resource], new["metadata"]["name"])


def _check_rbac_metadata(causes: Causes, metadata: JSON) -> None:
    # Names of roles may have colons: all that is asked of them is that a path can have them.
    name = metadata.get("name", "")
    if not name:
        causes.required("metadata.name", "name or generateName is required")
    _check_path_segment(causes, "metadata.name", name)
    check_labels(causes, "metadata.labels", metadata.get("labels", {}))


def _check_path_segment(causes: Causes, field: str, name: str) -> None:
    if name in (".", ".."):
        causes.invalid(field, name, f"may not be '{name}'")
    for bad in ("/", "%"):
        if bad in name:
            causes.invalid(field, name, f"may not contain '{bad}'")


def _check_levels(causes: Causes, metadata: JSON) -> None:
    for mode in ("enforce", "audit", "warn"):
        level, version = asked(metadata, mode)
        if level not in _LEVELS:
            causes.invalid(f"metadata.labels[{LABEL}{mode}]", level, f"must be one of {', '.join(_LEVELS)}")
        if not _VERSION.fullmatch(version):
            causes.invalid(f"metadata.labels[{LABEL}{mode}-version]", version, 'must be "latest" or "v1.x"')


def _check_rules(causes: Causes, rules: list[JSON], *, namespaced: bool) -> None:
    for index, rule in enumerate(rules):
        field = f"rules[{index}]"
        if not rule.get("verbs"):
            causes.required(f"{field}.verbs", "verbs must contain at least one value")
        if urls := rule.get("nonResourceURLs"):
            if namespaced:
                causes.invalid(f"{field}.nonResourceURLs", urls, "namespaced rules cannot apply to non-resource URLs")
            if any(rule.get(other) for other in ("apiGroups", "resources", "resourceNames")):
                text = "rules cannot apply to both regular resources and non-resource URLs"
                causes.invalid(f"{field}.nonResourceURLs", urls, text)
            continue
        if not rule.get("apiGroups"):
            causes.required(f"{field}.apiGroups", "resource rules must supply at least one api group")
        if not rule.get("resources"):
            causes.required(f"{field}.resources", "resource rules must supply at least one resource")


def _check_binding(causes: Causes, binding: JSON) -> None:
    role = binding.setdefault("roleRef", {})
    role.setdefault("apiGroup", _RBAC_GROUP)
    if role["apiGroup"] != _RBAC_GROUP:
        causes.unsupported("roleRef.apiGroup", role["apiGroup"], [_RBAC_GROUP])
    kinds = ["Role", "ClusterRole"] if binding["metadata"].get("namespace") else ["ClusterRole"]
    if role.get("kind") not in kinds:
        causes.unsupported("roleRef.kind", role.get("kind", ""), kinds)
    if not role.get("name"):
        causes.required("roleRef.name")
    _check_path_segment(causes, "roleRef.name", role.get("name", ""))
    for index, subject in enumerate(binding.get("subjects", [])):
        field = f"subjects[{index}]"
        if subject.get("kind") not in ("ServiceAccount", "User", "Group"):
            causes.unsupported(f"{field}.kind", subject.get("kind", ""), ["ServiceAccount", "User", "Group"])
        elif subject["kind"] == "ServiceAccount":
            if not (subject.get("namespace") or binding["metadata"].get("namespace")):
                causes.required(f"{field}.namespace")
        elif subject.setdefault("apiGroup", _RBAC_GROUP) != _RBAC_GROUP:
            causes.unsupported(f"{field}.apiGroup", subject["apiGroup"], [_RBAC_GROUP])
        if not subject.get("name"):
            causes.required(f"{field}.name")
