"""Pod Security admission: the standards that a namespace's labels ask for.

Follows k8s.io/pod-security-admission/policy in its current version, whichever version the labels name. Checks of
fields that this API does not have, or refuses (Windows, ephemeral containers, probes and hooks), are left out.
See https://kubernetes.io/docs/concepts/security/pod-security-standards/
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

from local.kubernetes.errors import JSON, forbidden

_LABEL = "pod-security.kubernetes.io/"
_BASELINE_CAPABILITIES = {
    *("AUDIT_WRITE", "CHOWN", "DAC_OVERRIDE", "FOWNER", "FSETID", "KILL", "MKNOD", "NET_BIND_SERVICE"),
    *("SETFCAP", "SETGID", "SETPCAP", "SETUID", "SYS_CHROOT"),
}
_RESTRICTED_VOLUMES = {
    *("configMap", "csi", "downwardAPI", "emptyDir", "ephemeral", "image", "persistentVolumeClaim", "projected"),
    "secret",
}
_SAFE_SYSCTLS = {
    "kernel.shm_rmid_forced",
    "net.ipv4.ip_local_port_range",
    "net.ipv4.ip_unprivileged_port_start",
    "net.ipv4.tcp_syncookies",
    "net.ipv4.ping_group_range",
    "net.ipv4.ip_local_reserved_ports",
    "net.ipv4.tcp_keepalive_time",
    "net.ipv4.tcp_fin_timeout",
    "net.ipv4.tcp_keepalive_intvl",
    "net.ipv4.tcp_keepalive_probes",
    "net.ipv4.tcp_rmem",
    "net.ipv4.tcp_wmem",
}
_SELINUX_TYPES = {"", "container_t", "container_init_t", "container_kvm_t", "container_engine_t"}
Check = Callable[[JSON], str | None]


def check_pod(namespace: JSON, pod: JSON) -> list[str]:
    """Return the warnings for a new pod in a namespace; 403 if the level that is enforced refuses it."""
    level, version = _mode(namespace, "enforce")
    if problems := violations(pod["spec"], level):
        why = f'violates PodSecurity "{level}:{version}": {problems}'
        raise forbidden("pods", pod["metadata"]["name"], why)
    return warnings(namespace, pod["spec"])


def warnings(namespace: JSON, spec: JSON) -> list[str]:
    """Return what to warn of in a pod, or in the template of a controller's pods."""
    level, version = _mode(namespace, "warn")
    problems = violations(spec, level)
    return [f'would violate PodSecurity "{level}:{version}": {problems}'] if problems else []


def violations(spec: JSON, level: str) -> str:
    """Return what of a pod breaks a level (privileged, baseline or restricted), in one line; empty if nothing does."""
    checks = {"baseline": (*_BASELINE, *_BASELINE_ONLY), "restricted": (*_BASELINE, *_RESTRICTED)}.get(level, ())
    return ", ".join(problem for check in checks if (problem := check(spec)))


def _mode(namespace: JSON, mode: str) -> tuple[str, str]:
    labels = namespace["metadata"].get("labels", {})
    return labels.get(_LABEL + mode, "privileged"), labels.get(f"{_LABEL}{mode}-version", "latest")


def _containers(spec: JSON) -> list[JSON]:
    return [*spec.get("initContainers", []), *spec["containers"]]


def _own(container: JSON) -> JSON:
    context: JSON = container.get("securityContext", {})
    return context


def _names(names: Iterable[str], what: str = "container") -> str:
    quoted = [f'"{name}"' for name in names]
    return f"{what}{'s' if len(quoted) > 1 else ''} {', '.join(quoted)}"


def _of(spec: JSON, refused: Callable[[JSON], bool]) -> list[str]:
    return [container["name"] for container in _containers(spec) if refused(container)]


# -- baseline


def _host_namespaces(spec: JSON) -> str | None:
    used = [f"{name}=true" for name in ("hostNetwork", "hostPID", "hostIPC") if spec.get(name)]
    return f"host namespaces ({', '.join(used)})" if used else None


def _host_ports(spec: JSON) -> str | None:
    found = {
        c["name"]: [str(p["hostPort"]) for p in c.get("ports", []) if p.get("hostPort")] for c in _containers(spec)
    }
    names = [name for name, ports in found.items() if ports]
    ports = sorted({port for listed in found.values() for port in listed})
    if not names:
        return None
    uses = "uses" if len(names) == 1 else "use"
    return f"hostPort ({_names(names)} {uses} hostPort{'s' if len(ports) > 1 else ''} {', '.join(ports)})"


def _privileged(spec: JSON) -> str | None:
    names = _of(spec, lambda c: bool(_own(c).get("privileged")))
    return f"privileged ({_names(names)} must not set securityContext.privileged=true)" if names else None


def _proc_mount(spec: JSON) -> str | None:
    names = _of(spec, lambda c: _own(c).get("procMount", "Default") != "Default")
    return f"procMount ({_names(names)} must not set securityContext.procMount)" if names else None


def _selinux(spec: JSON) -> str | None:
    contexts = [spec.get("securityContext", {}), *(_own(c) for c in _containers(spec))]
    options = [context.get("seLinuxOptions", {}) for context in contexts]
    bad = any(o.get("type", "") not in _SELINUX_TYPES or o.get("user") or o.get("role") for o in options)
    return "seLinuxOptions (pod or containers set forbidden securityContext.seLinuxOptions)" if bad else None


def _sysctls(spec: JSON) -> str | None:
    listed = [s["name"] for s in spec.get("securityContext", {}).get("sysctls", []) if s["name"] not in _SAFE_SYSCTLS]
    return f"forbidden sysctls ({', '.join(listed)})" if listed else None


def _host_path(spec: JSON) -> str | None:
    names = [volume["name"] for volume in spec.get("volumes", []) if "hostPath" in volume]
    return f"hostPath volumes ({_names(names, 'volume')})" if names else None


def _added_capabilities(allowed: set[str]) -> Callable[[JSON], Iterator[tuple[str, list[str]]]]:
    def find(spec: JSON) -> Iterator[tuple[str, list[str]]]:
        for container in _containers(spec):
            added = set(_own(container).get("capabilities", {}).get("add", [])) - allowed
            if added:
                yield container["name"], sorted(added)

    return find


def _include(found: list[tuple[str, list[str]]]) -> str:
    quoted = [f'"{name}"' for name in sorted({name for _, listed in found for name in listed})]
    names = _names(name for name, _ in found)
    return f"{names} must not include {', '.join(quoted)} in securityContext.capabilities.add"


def _baseline_capabilities(spec: JSON) -> str | None:
    found = list(_added_capabilities(_BASELINE_CAPABILITIES)(spec))
    return f"non-default capabilities ({_include(found)})" if found else None


def _unconfined_seccomp(spec: JSON) -> str | None:
    def unconfined(context: JSON) -> bool:
        return context.get("seccompProfile", {}).get("type") == "Unconfined"

    where = ["pod"] if unconfined(spec.get("securityContext", {})) else []
    if names := _of(spec, lambda c: unconfined(_own(c))):
        where.append(_names(names))
    return (
        f'seccompProfile ({" and ".join(where)} must not set securityContext.seccompProfile.type to "Unconfined")'
        if where
        else None
    )


# -- restricted


def _privilege_escalation(spec: JSON) -> str | None:
    names = _of(spec, lambda c: _own(c).get("allowPrivilegeEscalation") is not False)
    why = f"{_names(names)} must set securityContext.allowPrivilegeEscalation=false"
    return f"allowPrivilegeEscalation != false ({why})" if names else None


def _restricted_capabilities(spec: JSON) -> str | None:
    kept = _of(spec, lambda c: "ALL" not in _own(c).get("capabilities", {}).get("drop", []))
    added = list(_added_capabilities({"NET_BIND_SERVICE"})(spec))
    parts = [f'{_names(kept)} must set securityContext.capabilities.drop=["ALL"]'] if kept else []
    parts += [_include(added)] if added else []
    return f"unrestricted capabilities ({'; '.join(parts)})" if parts else None


def _volume_types(spec: JSON) -> str | None:
    bad: dict[str, list[str]] = {}
    for volume in spec.get("volumes", []):
        for kind in sorted(set(volume) - {"name"} - _RESTRICTED_VOLUMES):
            bad.setdefault(kind, []).append(volume["name"])
    if not bad:
        return None
    names = [name for listed in bad.values() for name in listed]
    kinds = [f'"{kind}"' for kind in sorted(bad)]
    uses = "uses" if len(names) == 1 else "use"
    what = f"restricted volume type{'s' if len(kinds) > 1 else ''}"
    return f"restricted volume types ({_names(names, 'volume')} {uses} {what} {', '.join(kinds)})"


def _non_root(spec: JSON) -> str | None:
    pod = spec.get("securityContext", {}).get("runAsNonRoot")
    explicit = _of(spec, lambda c: _own(c).get("runAsNonRoot") is False)
    silent = _of(spec, lambda c: _own(c).get("runAsNonRoot") is None)
    if explicit or (pod is False and silent):
        where = (["pod"] if pod is False else []) + ([_names(explicit)] if explicit else [])
        return f"runAsNonRoot != true ({' and '.join(where)} must not set securityContext.runAsNonRoot=false)"
    if pod is True or not silent:
        return None
    return f"runAsNonRoot != true (pod or {_names(silent)} must set securityContext.runAsNonRoot=true)"


def _root_user(spec: JSON) -> str | None:
    where = ["pod"] if spec.get("securityContext", {}).get("runAsUser") == 0 else []
    if names := _of(spec, lambda c: _own(c).get("runAsUser") == 0):
        where.append(_names(names))
    return f"runAsUser=0 ({' and '.join(where)} must not set runAsUser=0)" if where else None


def _seccomp(spec: JSON) -> str | None:
    allowed = ("RuntimeDefault", "Localhost")

    def kind(context: JSON) -> str | None:
        found: str | None = context.get("seccompProfile", {}).get("type")
        return found

    pod = kind(spec.get("securityContext", {}))
    bad = _of(spec, lambda c: kind(_own(c)) not in (None, *allowed))
    silent = _of(spec, lambda c: kind(_own(c)) is None)
    if bad or (pod not in (None, *allowed)):
        where = (["pod"] if pod not in (None, *allowed) else []) + ([_names(bad)] if bad else [])
        return (
            f'seccompProfile ({" and ".join(where)} must not set securityContext.seccompProfile.type to "Unconfined")'
        )
    if pod in allowed or not silent:
        return None
    must = 'must set securityContext.seccompProfile.type to "RuntimeDefault" or "Localhost"'
    return f"seccompProfile (pod or {_names(silent)} {must})"


# In the order in which the API names them: within a level by the check's name. What is only in the baseline has a
# stricter check of the same thing among the restricted ones.
_BASELINE: tuple[Check, ...] = (_host_namespaces, _host_ports, _privileged, _proc_mount, _selinux, _sysctls)
_BASELINE_ONLY: tuple[Check, ...] = (_baseline_capabilities, _host_path, _unconfined_seccomp)
_RESTRICTED: tuple[Check, ...] = (
    _privilege_escalation,
    _restricted_capabilities,
    _volume_types,
    _non_root,
    _root_user,
    _seccomp,
)
