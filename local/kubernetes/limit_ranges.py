"""LimitRange: what containers get that say nothing, and what they may say.

Follows k8s.io/kubernetes/plugin/pkg/admission/limitranger.
"""

from __future__ import annotations

from collections.abc import Iterator
from decimal import Decimal

from local.kubernetes import quantities
from local.kubernetes.defaults import pod_amounts
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
    problems: list[str] = []
    spec = pod["spec"]
    for limits in _limits(store, pod["metadata"]["namespace"]):
        for limit in limits:
            if limit["type"] == "Container":
                for container in spec["containers"] + spec.get("initContainers", []):
                    resources = container.get("resources", {})
                    asked = {kind: _parsed(resources.get(kind, {})) for kind in ("requests", "limits")}
                    problems += _problems(limit, asked["requests"], asked["limits"])
            elif limit["type"] == "Pod":
                problems += _problems(limit, pod_amounts(spec, "requests"), pod_amounts(spec, "limits"))
    if problems:
        text = problems[0] if len(problems) == 1 else f"[{', '.join(problems)}]"
        raise forbidden("pods", pod["metadata"]["name"], text)


def _limits(store: Store, namespace: str) -> Iterator[list[JSON]]:
    for limit_range in store.select("limitranges", namespace):
        yield limit_range["spec"].get("limits", [])


def _default(container: JSON, kind: str, limits: list[JSON], defaults: str) -> list[str]:
    given = container.setdefault("resources", {}).setdefault(kind, {})
    wanted = {
        name: quantities.show(quantities.parse(amount), binary=name != "cpu")
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


def _parsed(amounts: dict[str, str]) -> dict[str, Decimal]:
    return {name: quantities.parse(amount) for name, amount in amounts.items()}


def _problems(limit: JSON, requests: dict[str, Decimal], limits: dict[str, Decimal]) -> Iterator[str]:
    kind = limit["type"]

    def show(name: str, amount: Decimal) -> str:
        return quantities.show(amount, binary=name.endswith(("memory", "storage")))

    for name, least in _parsed(limit.get("min", {})).items():
        text = f"minimum {name} usage per {kind} is {show(name, least)}"
        if name not in requests:
            yield f"{text}.  No request is specified"
        elif requests[name] < least:
            yield f"{text}, but request is {show(name, requests[name])}"
        elif name in limits and limits[name] < least:
            yield f"{text}, but limit is {show(name, limits[name])}"
    for name, most in _parsed(limit.get("max", {})).items():
        text = f"maximum {name} usage per {kind} is {show(name, most)}"
        if name not in limits:
            yield f"{text}.  No limit is specified"
        elif limits[name] > most:
            yield f"{text}, but limit is {show(name, limits[name])}"
        elif name in requests and requests[name] > most:
            yield f"{text}, but request is {show(name, requests[name])}"
    for name, most in _parsed(limit.get("maxLimitRequestRatio", {})).items():
        text = f"{name} max limit to request ratio per {kind} is {show(name, most)}"
        if not requests.get(name) or not limits.get(name):
            yield f"{text}, but no request is specified or request is 0"
        elif limits[name] / requests[name] > most:
            yield f"{text}, but provided ratio is {float(limits[name] / requests[name]):f}"
