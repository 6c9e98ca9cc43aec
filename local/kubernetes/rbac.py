"""Who may do what: users, and the Roles and bindings that give them rights.

Follows k8s.io/kubernetes/plugin/pkg/auth/authorizer/rbac; there is no other authorizer.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass

from local.kubernetes.errors import JSON, ApiError
from local.kubernetes.store import Store

ADMINISTRATORS = "system:masters"
"""The group that may do everything."""
AUTHENTICATED = "system:authenticated"
# What the ClusterRole system:discovery lets everybody read who has signed in.
_TREES = ("/api", "/apis", "/openapi")
_DISCOVERY = (*_TREES, "/version", "/version/", "/healthz", "/livez", "/readyz")


@dataclass(frozen=True)
class User:
    """Who makes a request."""

    name: str
    groups: tuple[str, ...] = ()

    @property
    def is_administrator(self) -> bool:
        """Whether no rule is needed."""
        return ADMINISTRATORS in self.groups


ADMINISTRATOR = User("kubernetes-admin", (ADMINISTRATORS, AUTHENTICATED))


@dataclass(frozen=True)
class Attributes:
    """What a request wants to do: a verb, and either an object of a resource or a path that is none."""

    verb: str
    group: str = ""
    resource: str = ""
    subresource: str = ""
    namespace: str = ""
    name: str = ""
    path: str = ""

    @property
    def full_resource(self) -> str:
        """The resource as rules name it, `pods/log`."""
        return f"{self.resource}/{self.subresource}" if self.subresource else self.resource


def allowed(store: Store, user: User, wanted: Attributes) -> bool:
    """Tell whether a user may make a request."""
    if user.is_administrator:
        return True
    if AUTHENTICATED in user.groups and wanted.verb == "get" and _is_discovery(wanted.path):
        return True
    roles = _roles(store, user, wanted.namespace)
    return any(_rule_allows(rule, wanted) for _, role in roles for rule in (role or {}).get("rules", []))


def refused(store: Store, user: User, wanted: Attributes) -> ApiError:
    """403 in the words of the real API, which also names the roles that a binding gives and nobody has made."""
    who = f"User {json.dumps(user.name)} cannot {wanted.verb}"
    missing = [name for name, role in _roles(store, user, wanted.namespace) if role is None]
    missing = [f"{name} not found" for name in dict.fromkeys(missing)]
    reason = f": RBAC: {missing[0] if len(missing) == 1 else f'[{", ".join(missing)}]'}" if missing else ""
    if wanted.path:
        return ApiError(403, f"forbidden: {who} path {json.dumps(wanted.path)}{reason}", details={})
    where = f"in the namespace {json.dumps(wanted.namespace)}" if wanted.namespace else "at the cluster scope"
    why = f"{who} resource {json.dumps(wanted.full_resource)} in API group {json.dumps(wanted.group)} {where}{reason}"
    kind = f"{wanted.resource}.{wanted.group}" if wanted.group else wanted.resource
    about = f"{kind} {json.dumps(wanted.name)}" if wanted.name else kind
    details = {"name": wanted.name, "group": wanted.group, "kind": wanted.resource}
    return ApiError(403, f"{about} is forbidden: {why}", details={key: text for key, text in details.items() if text})


def _is_discovery(path: str) -> bool:
    return path in _DISCOVERY or any(path.startswith(f"{root}/") for root in _TREES)


def _roles(store: Store, user: User, namespace: str) -> Iterator[tuple[str, JSON | None]]:
    """Return the roles that a user has, by the name that messages give them; None for one that does not exist."""
    bindings = store.select("clusterrolebindings")
    if namespace:
        bindings += store.select("rolebindings", namespace)
    for binding in bindings:
        where = binding["metadata"].get("namespace", "")
        if not any(_is_subject(subject, user, where) for subject in binding.get("subjects", [])):
            continue
        kind, name = binding["roleRef"]["kind"], binding["roleRef"]["name"]
        role = store.find("roles", where, name) if kind == "Role" else store.find("clusterroles", "", name)
        yield f"{kind.lower()}.rbac.authorization.k8s.io {json.dumps(name)}", role


def _is_subject(subject: JSON, user: User, namespace: str) -> bool:
    match subject["kind"]:
        case "Group":
            return subject["name"] in user.groups
        case "User":
            return bool(subject["name"] == user.name)
        case _:
            account = f"{subject.get('namespace') or namespace}:{subject['name']}"
            return user.name == f"system:serviceaccount:{account}"


def _rule_allows(rule: JSON, wanted: Attributes) -> bool:
    if not {"*", wanted.verb} & set(rule.get("verbs", [])):
        return False
    if wanted.path:
        urls = rule.get("nonResourceURLs", [])
        return any(u in ("*", wanted.path) or (u.endswith("*") and wanted.path.startswith(u[:-1])) for u in urls)
    names = rule.get("resourceNames", [])
    resources = {"*", wanted.full_resource}
    if wanted.subresource:
        resources.add(f"*/{wanted.subresource}")
    return (
        bool({"*", wanted.group} & set(rule.get("apiGroups", [])))
        and bool(resources & set(rule.get("resources", [])))
        and (not names or wanted.name in names)
    )
