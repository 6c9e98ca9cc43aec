"""LimitRange: what containers get that say nothing, and what they may say.

Follows k8s.io/kubernetes/plugin/pkg/admission/limitranger.
"""

from __future__ import annotations

from collections.abc import Iterator
from decimal import Decimal

from local.kubernetes import quantities
from local.kubernetes.defaults import binary_amounts, pod_amounts
from local.kubernetes.errors import JSON, forbidden
from local.kubernetes.store import Store

_NOTE = "kubernetes.io/limit-ranger"


def default_pod(store: Store, pod: JSON) -> None:
    """Give the containers of a new pod the namespace's default requests and limits, in place."""
    metadata, spec = pod["metadata"], pod["spec"]
    for limits in _limits(store, metadata["namespace"]):
        notes = []
        for words, containers in (("container", "containers"), ("init container", "initContainers")):
            for container in spec.get(containers, []):
                for kind, defaults in (("request", "defaultRequest"), ("limit", "default")):
                    if set_now := _default(container, f"{kind}s", limits, defaults):
                        notes.append(f"{', '.join(set_now)} {kind} for {words} {container.get('name', '')}")
        if notes:
            annotations = metadata.setdefault("annotations", {})
            annotations[_NOTE] = f"LimitRanger plugin set: {'; '.join(notes)}"


def check_pod(store: Store, pod: JSON) -> None:
    """Raise 403 if a pod, or a container of it, asks for less or more than its namespace lets it."""
    for limits in _limits(store, pod["metadata"]["namespace"]):
        problems = list(dict.fromkeys(problem for limit in limits for problem in _problems_of(limit, pod["spec"])))
        if problems:
            text = problems[0] if len(problems) == 1 else f"[{', '.join(problems)}]"
            raise forbidden("pods", pod["metadata"]["name"], text)


def _problems_of(limit: JSON, spec: JSON) -> Iterator[str]:
    if limit["type"] == "Container":
        for container in spec["containers"] + spec.get("initContainers", []):
            resources = container.get("resources", {})
            yield from _problems(limit, resources.get("requests", {}), resources.get("limits", {}))
    elif limit["type"] == "Pod":
        sums = {}
        for kind in ("requests", "limits"):
            binary = binary_amounts(spec, kind)
            amounts = pod_amounts(spec, kind).items()
            sums[kind] = {name: quantities.show(amount, binary=name in binary) for name, amount in amounts}
        yield from _problems(limit, sums["requests"], sums["limits"])


def _limits(store: Store, namespace: str) -> Iterator[list[JSON]]:
    for limit_range in store.select("limitranges", namespace):
        yield limit_range["spec"].get("limits", [])


def _default(container: JSON, kind: str, limits: list[JSON], defaults: str) -> list[str]:
    given = container.setdefault("resources", {}).setdefault(kind, {})
    wanted = {
        name: quantities.canonical(amount)
        for limit in limits
        if limit["type"] == "Container"
        for name, amount in _defaults_of(limit, defaults).items()
    }
    missing = sorted(set(wanted) - set(given))
    given.update({name: wanted[name] for name in missing})
    if not given:
        del container["resources"][kind]
    return missing


def _defaults_of(limit: JSON, which: str) -> dict[str, str]:
    """Return a limit's defaults: a maximum is also the default limit, a default limit the default request."""
    limits = {**limit.get("max", {}), **limit.get("default", {})}
    return limits if which == "default" else {**limit.get("min", {}), **limits, **limit.get("defaultRequest", {})}


def _problems(limit: JSON, asked_requests: dict[str, str], asked_limits: dict[str, str]) -> Iterator[str]:
    kind, show = limit["type"], quantities.canonical
    requests, limits = _parsed(asked_requests), _parsed(asked_limits)
    for name, least in limit.get("min", {}).items():
        text, bound = f"minimum {name} usage per {kind} is {show(least)}", quantities.parse(least)
        if name not in requests:
            yield f"{text}.  No request is specified"
        elif requests[name] < bound:
            yield f"{text}, but request is {show(asked_requests[name])}"
        elif name in limits and limits[name] < bound:
            yield f"{text}, but limit is {show(asked_limits[name])}"
    for name, most in limit.get("max", {}).items():
        text, bound = f"maximum {name} usage per {kind} is {show(most)}", quantities.parse(most)
        if name not in limits:
            yield f"{text}.  No limit is specified"
        elif limits[name] > bound:
            yield f"{text}, but limit is {show(asked_limits[name])}"
        elif name in requests and requests[name] > bound:
            yield f"{text}, but request is {show(asked_requests[name])}"
    for name, most in limit.get("maxLimitRequestRatio", {}).items():
        text = f"{name} max limit to request ratio per {kind} is {show(most)}"
        if not requests.get(name):
            yield f"{text}, but no request is specified or request is 0"
        elif not limits.get(name):
            yield f"{text}, but no limit is specified or limit is 0"
        elif (ratio := limits[name] / requests[name]) > quantities.parse(most):
            yield f"{text}, but provided ratio is {float(ratio):f}"


def _parsed(amounts: dict[str, str]) -> dict[str, Decimal]:
    return {name: quantities.parse(amount) for name, amount in amounts.items()}
