"""What the API server refuses, with 422 Invalid, of the objects that say what others may do and use.

Rules and messages follow k8s.io/kubernetes/pkg/apis/{rbac,scheduling,core}/validation.
"""

from __future__ import annotations

from local.kubernetes import quantities
from local.kubernetes.errors import JSON, Causes
from local.kubernetes.kinds import KINDS
from local.kubernetes.validation import check_labels, check_metadata

_RBAC_GROUP = "rbac.authorization.k8s.io"
_RBAC = ("roles", "rolebindings", "clusterroles", "clusterrolebindings")
_SCOPES = ["BestEffort", "NotBestEffort", "NotTerminating", "PriorityClass", "Terminating"]
_OPERATORS = ["In", "NotIn", "Exists", "DoesNotExist"]
_LIMIT_TYPES = ["Container", "Pod", "PersistentVolumeClaim"]
_POLICIES = ["Never", "PreemptLowerPriority"]
_HIGHEST_OF_USERS = 1000000000


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
            _check_quota(causes, obj.setdefault("spec", {}))
        case "limitranges":
            for index, limit in enumerate(obj.setdefault("spec", {}).get("limits", [])):
                _check_limit(causes, f"spec.limits[{index}]", limit)
        case "priorityclasses":
            _check_priority_class(causes, obj)
    causes.raise_if_any(KINDS[resource], obj["metadata"].get("name", ""))


def check_update(resource: str, old: JSON, new: JSON) -> None:
    """Raise 422 naming what is wrong with a changed object, or may not change in it."""
    check(resource, new)
    causes = Causes()
    fixed = {"priorityclasses": ("value", "preemptionPolicy")}.get(resource, ())
    for field in fixed:
        if old.get(field) != new.get(field):
            causes.invalid(field, new.get(field), "field is immutable")
    if resource in ("rolebindings", "clusterrolebindings") and old["roleRef"] != new["roleRef"]:
        causes.invalid("roleRef", new["roleRef"], "cannot change roleRef")
    causes.raise_if_any(KINDS[resource], new["metadata"]["name"])


def _check_rbac_metadata(causes: Causes, metadata: JSON) -> None:
    # Names of roles may have colons: all that is asked of them is that a path can have them.
    name = metadata.get("name", "")
    if not name:
        causes.required("metadata.name", "name or generateName is required")
    for bad in ("/", "%"):
        if bad in name:
            causes.invalid("metadata.name", name, f"may not contain '{bad}'")
    check_labels(causes, "metadata.labels", metadata.get("labels", {}))


def _check_rules(causes: Causes, rules: list[JSON], *, namespaced: bool) -> None:
    for index, rule in enumerate(rules):
        field = f"rules[{index}]"
        if not rule.get("verbs"):
            causes.required(f"{field}.verbs", "verbs must contain at least one value")
        if urls := rule.get("nonResourceURLs"):
            if namespaced:
                causes.invalid(f"{field}.nonResourceURLs", urls, "namespaced rules cannot apply to non-resource URLs")
            continue
        if "apiGroups" not in rule:
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


def _check_quota(causes: Causes, spec: JSON) -> None:
    for name, amount in spec.get("hard", {}).items():
        if quantities.parse(amount) < 0:
            causes.invalid(f"spec.hard[{name}]", amount, "must be greater than or equal to 0")
    for index, scope in enumerate(spec.get("scopes", [])):
        if scope not in _SCOPES:
            causes.unsupported(f"spec.scopes[{index}]", scope, _SCOPES)
    for index, expression in enumerate(spec.get("scopeSelector", {}).get("matchExpressions", [])):
        field = f"spec.scopeSelector.matchExpressions[{index}]"
        if expression.get("scopeName") not in _SCOPES:
            causes.unsupported(f"{field}.scopeName", expression.get("scopeName", ""), _SCOPES)
        if expression.get("operator") not in _OPERATORS:
            causes.unsupported(f"{field}.operator", expression.get("operator", ""), _OPERATORS)


def _check_limit(causes: Causes, field: str, limit: JSON) -> None:
    if limit.get("type") not in _LIMIT_TYPES:
        causes.unsupported(f"{field}.type", limit.get("type", ""), _LIMIT_TYPES)
    ordered = [("min", "min"), ("defaultRequest", "default request"), ("default", "default"), ("max", "max")]
    for low, (lower, lower_words) in enumerate(ordered):
        for higher, higher_words in ordered[low + 1 :]:
            for name, amount in limit.get(lower, {}).items():
                bound = limit.get(higher, {}).get(name)
                if bound is not None and quantities.parse(amount) > quantities.parse(bound):
                    text = f"{lower_words} value {amount} is greater than {higher_words} value {bound}"
                    causes.invalid(f"{field}.{lower}[{name}]", amount, text)


def _check_priority_class(causes: Causes, obj: JSON) -> None:
    value = obj.setdefault("value", 0)
    if value > _HIGHEST_OF_USERS and not obj["metadata"].get("name", "").startswith("system-"):
        causes.forbidden("value", f"maximum allowed value of a user defined priority is {_HIGHEST_OF_USERS}")
    policy = obj.setdefault("preemptionPolicy", "PreemptLowerPriority")
    if policy not in _POLICIES:
        causes.unsupported("preemptionPolicy", policy, _POLICIES)
