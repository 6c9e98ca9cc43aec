"""What the API server finds wrong with quotas, LimitRanges and priority classes.

Rules and messages follow k8s.io/kubernetes/pkg/apis/{core,scheduling}/validation.
"""

from __future__ import annotations

from local.kubernetes import quantities
from local.kubernetes.errors import JSON, Causes
from local.kubernetes.names import qualified_name_problems

_COMPUTE = ("cpu", "memory")
_OF_CONTAINERS = (*_COMPUTE, "ephemeral-storage")
_COUNTED = (
    *("pods", "resourcequotas", "services", "replicationcontrollers", "secrets", "configmaps"),
    *("persistentvolumeclaims", "services.nodeports", "services.loadbalancers"),
)
_KINDS = tuple(f"{kind}.{name}" for kind in ("requests", "limits") for name in _OF_CONTAINERS)
_OF_QUOTAS = (*_OF_CONTAINERS, *_KINDS, "requests.storage", *_COUNTED)
_IN_SCOPES = ("pods", *_COMPUTE, *(name for name in _KINDS if not name.endswith("storage")))
_ONLY_EXISTS = ("Terminating", "NotTerminating", "BestEffort", "NotBestEffort")
_SCOPES = (*_ONLY_EXISTS, "PriorityClass", "CrossNamespacePodAffinity")
_CONFLICTS = ({"BestEffort", "NotBestEffort"}, {"Terminating", "NotTerminating"})
_LIMIT_TYPES = ("Container", "Pod", "PersistentVolumeClaim")
_POLICIES = ["Never", "PreemptLowerPriority"]
_HIGHEST_OF_USERS = 1000000000
BUILT_IN_PRIORITIES = {"system-cluster-critical": 2000000000, "system-node-critical": 2000001000}
"""The priority classes that every cluster has."""


def _check_resource_name(causes: Causes, field: str, name: str, allowed: tuple[str, ...], whose: str = "") -> None:
    if problems := qualified_name_problems(name):
        for problem in problems:
            causes.invalid(field, name, problem)
    elif "/" not in name and not name.startswith(("hugepages-", "requests.hugepages-")):
        if name not in (*_OF_QUOTAS, "storage"):
            causes.invalid(field, name, "must be a standard resource type or fully qualified")
        if whose and name not in allowed:
            causes.invalid(field, name, f"must be a standard resource for {whose}")


def check_quota(causes: Causes, spec: JSON) -> None:
    """Check the spec of a ResourceQuota."""
    hard, scopes = spec.get("hard", {}), spec.get("scopes", [])
    for name, text in hard.items():
        field, amount = f"spec.hard[{name}]", quantities.parse(text)
        _check_resource_name(causes, field, name, _OF_QUOTAS, "quota")
        if amount < 0:
            causes.invalid(field, text, "must be greater than or equal to 0")
        whole = name in _COUNTED or ("/" in name and "kubernetes.io/" not in name and not name.startswith("requests."))
        if whole and amount != amount.to_integral_value():
            causes.invalid(field, text, "must be an integer")
    for scope in scopes:
        if scope not in _SCOPES:
            causes.invalid("spec.scopes", scopes, "unsupported scope")
        _check_scope(causes, "spec.scopes", scope, hard, scopes)
    _check_conflicts(causes, "spec.scopes", scopes, scopes)
    selector = spec.get("scopeSelector", {})
    field = "spec.scopeSelector.matchExpressions"
    for expression in selector.get("matchExpressions", []):
        scope = expression.get("scopeName", "")
        if scope not in _SCOPES:
            causes.invalid(f"{field}.scopeName", scope, "unsupported scope")
        _check_scope(causes, field, scope, hard, selector)
        _check_operator(causes, field, scope, expression.get("operator", ""), expression.get("values", []))
    _check_conflicts(causes, field, [e.get("scopeName") for e in selector.get("matchExpressions", [])], scopes or None)


def _check_scope(causes: Causes, field: str, scope: str, hard: JSON, shown: object) -> None:
    allowed = ("pods",) if scope == "BestEffort" else _IN_SCOPES
    for name in sorted(hard):
        known = name in _OF_QUOTAS or name.startswith(("hugepages-", "requests.hugepages-"))
        if scope in _SCOPES and known and name not in allowed:
            causes.invalid(field, shown, "unsupported scope applied to resource")


def _check_conflicts(causes: Causes, field: str, scopes: list[str], shown: object) -> None:
    for pair in _CONFLICTS:
        if pair <= set(scopes):
            causes.invalid(field, shown, "conflicting scopes")


def _check_operator(causes: Causes, field: str, scope: str, operator: str, values: list[str]) -> None:
    if scope in _ONLY_EXISTS and operator != "Exists":
        kinds = ", ".join(f"ResourceQuotaScope{name}" for name in _ONLY_EXISTS[:3])
        text = f"must be 'Exist' only operator when scope is any of {kinds} and ResourceQuotaScopeNotBestEffort"
        causes.invalid(f"{field}.operator", operator, text)
    if operator in ("In", "NotIn"):
        if not values:
            text = "must be at least one value when `operator` is 'In' or 'NotIn' for scope selector"
            causes.required(f"{field}.values", text)
    elif operator in ("Exists", "DoesNotExist"):
        if values:
            text = "must be no value when `operator` is 'Exist' or 'DoesNotExist' for scope selector"
            causes.invalid(f"{field}.values", values, text)
    else:
        causes.invalid(f"{field}.operator", operator, "not a valid selector operator")


def check_limits(causes: Causes, limits: list[JSON]) -> None:
    """Check the items of a LimitRange."""
    seen: set[str] = set()
    for index, limit in enumerate(limits):
        field, kind = f"spec.limits[{index}]", limit.get("type", "")
        if problems := qualified_name_problems(kind):
            for problem in problems:
                causes.invalid(f"{field}.type", kind, problem)
        elif "/" not in kind and kind not in _LIMIT_TYPES:
            causes.invalid(f"{field}.type", kind, "must be a standard limit type or fully qualified")
        if kind in seen:
            causes.duplicate(f"{field}.type", kind)
        seen.add(kind)
        _check_limit(causes, field, limit)


def _check_limit(causes: Causes, field: str, limit: JSON) -> None:
    kind = limit.get("type", "")
    whose = "containers" if kind in ("Container", "Pod") else ""
    amounts = {
        part: limit.get(part, {}) for part in ("max", "min", "default", "defaultRequest", "maxLimitRequestRatio")
    }
    for part in ("default", "defaultRequest"):
        if kind == "Pod" and amounts[part]:
            causes.forbidden(f"{field}.{part}", "may not be specified when `type` is 'Pod'")
            amounts[part] = {}
    for part, listed in amounts.items():
        for name in listed:
            _check_resource_name(causes, f"{field}.{part}[{name}]", name, _OF_CONTAINERS, whose)
    if kind == "PersistentVolumeClaim" and not {"storage"} & {*amounts["min"], *amounts["max"]}:
        text = "either minimum or maximum storage value is required, but neither was provided"
        causes.required(f"{field}.limits", text)
    for name in sorted({name for listed in amounts.values() for name in listed}):
        _check_bounds(causes, field, name, {part: listed[name] for part, listed in amounts.items() if name in listed})


_ORDER = (
    # lower, higher, the field that is told of, how the two are called
    ("min", "max", "min", "min value", "max value"),
    ("min", "defaultRequest", "defaultRequest", "min value", "default request value"),
    ("defaultRequest", "max", "defaultRequest", "default request value", "max value"),
    ("defaultRequest", "default", "defaultRequest", "default request value", "default limit value"),
    ("min", "default", "default", "min value", "default value"),
    ("default", "max", "default", "default value", "max value"),
)


def _check_bounds(causes: Causes, field: str, name: str, texts: dict[str, str]) -> None:
    of = {part: quantities.parse(text) for part, text in texts.items()}
    for lower, higher, told, low, high in _ORDER:
        if lower in of and higher in of and of[lower] > of[higher]:
            shown = told if told != "default" else lower if lower == "min" else higher
            text = f"{low} {texts[lower]} is greater than {high} {texts[higher]}"
            causes.invalid(f"{field}.{told}[{name}]", texts[shown], text)
    where, ratio = f"{field}.maxLimitRequestRatio[{name}]", of.get("maxLimitRequestRatio")
    if ratio is not None and ratio < 1:
        causes.invalid(where, texts["maxLimitRequestRatio"], f"ratio {texts['maxLimitRequestRatio']} is less than 1")
    if ratio is not None and of.get("min") and "max" in of and ratio > of["max"] / of["min"]:
        text = f"ratio {texts['maxLimitRequestRatio']} is greater than max/min = {float(of['max'] / of['min']):f}"
        causes.invalid(where, texts["maxLimitRequestRatio"], text)
    overcommitted = "/" not in name and not name.startswith("hugepages-")
    if not overcommitted and "default" in of and of["default"] != of.get("defaultRequest", of["default"]):
        pair = f"default value {texts['default']} must equal to defaultRequest value {texts['defaultRequest']}"
        causes.invalid(f"{field}.defaultRequest[{name}]", texts["defaultRequest"], f"{pair} in {name}")


def check_priority_class(causes: Causes, obj: JSON) -> None:
    """Check a PriorityClass, after its defaults."""
    name, value = obj["metadata"].get("name", ""), obj.setdefault("value", 0)
    if name.startswith("system-"):
        problem = f"{name} is not a known system priority class"
        if name in BUILT_IN_PRIORITIES:
            problem = ""
            if value != BUILT_IN_PRIORITIES[name]:
                problem = f"value of {name} PriorityClass must be {BUILT_IN_PRIORITIES[name]}"
            elif obj.get("globalDefault"):
                problem = f"globalDefault of {name} PriorityClass must be false"
        if problem:
            text = f"priority class names with 'system-' prefix are reserved for system use only. error: {problem}"
            causes.forbidden("metadata.name", text)
    elif value > _HIGHEST_OF_USERS:
        causes.forbidden("value", f"maximum allowed value of a user defined priority is {_HIGHEST_OF_USERS}")
    policy = obj.setdefault("preemptionPolicy", "PreemptLowerPriority")
    if policy not in _POLICIES:
        causes.unsupported("preemptionPolicy", policy, _POLICIES)
