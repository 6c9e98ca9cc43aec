"""Pod Security admission: the standards that a namespace's labels ask for.

Follows k8s.io/pod-security-admission/policy in its current version, whichever version the labels name. Checks of
fields that this API does not have, or refuses (Windows, ephemeral containers, probes and hooks), are left out.
See https://kubernetes.io/docs/concepts/security/pod-security-standards/
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

from local.kubernetes.errors import JSON, forbidden

LABEL = "pod-security.kubernetes.io/"
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
_PROFILES = ("RuntimeDefault", "Localhost")  # of seccomp, and of AppArmor
Check = Callable[[JSON], str | None]


def check_pod(namespace: JSON, pod: JSON) -> list[str]:
    """Return the warnings for a new pod in a namespace; 403 if the level that is enforced refuses it."""
    level, version = asked(namespace["metadata"], "enforce")
    if problems := violations(pod["spec"], level):
        why = f'violates PodSecurity "{level}:{version}": {problems}'
        raise forbidden("pods", pod["metadata"]["name"], why)
    return warnings(namespace, pod["spec"])


def warnings(namespace: JSON, spec: JSON) -> list[str]:
    """Return what to warn of in a pod, or in the template of a controller's pods."""
    level, version = asked(namespace["metadata"], "warn")
    problems = violations(spec, level)
    return [f'would violate PodSecurity "{level}:{version}": {problems}'] if problems else []


def violations(spec: JSON, level: str) -> str:
    """Return what of a pod breaks a level (privileged, baseline or restricted), in one line; empty if nothing does."""
    checks = {"baseline": _BASELINE, "restricted": _RESTRICTED}.get(level, ())
    return ", ".join(problem for check in checks if (problem := check(spec)))


def asked(metadata: JSON, mode: str) -> tuple[str, str]:
    """Return the level and the version that a namespace's labels ask for in a mode: enforce, audit or warn."""
    labels = metadata.get("labels", {})
    return labels.get(LABEL + mode, "privileged"), labels.get(f"{LABEL}{mode}-version", "latest")


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


def _quoted(texts: Iterable[str]) -> str:
    return ", ".join(f'"{text}"' for text in sorted(texts))


def _setters(spec: JSON, field: str, bad: Callable[[JSON], bool]) -> tuple[list[JSON], str]:
    """Return what is bad of a field of the security contexts, and who has set it."""
    pod = spec.get("securityContext", {})
    owners = [c for c in _containers(spec) if field in _own(c) and bad(_own(c)[field])]
    found = [_own(c)[field] for c in owners]
    where = [_names(c["name"] for c in owners)] if owners else []
    if field in pod and bad(pod[field]):
        found, where = [pod[field], *found], ["pod", *where]
    return found, " and ".join(where)


def _has_own_users(spec: JSON) -> bool:
    """Tell whether root in the pod is nobody on the node (a user namespace)."""
    return spec.get("hostUsers") is False


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
    if _has_own_users(spec):
        return None
    names = _of(spec, lambda c: _own(c).get("procMount", "Default") != "Default")
    kinds = _quoted({str(_own(c).get("procMount", "Default")) for c in _containers(spec)} - {"Default"})
    return f"procMount ({_names(names)} must not set securityContext.procMount to {kinds})" if names else None


def _selinux(spec: JSON) -> str | None:
    def bad(options: JSON) -> bool:
        return options.get("type", "") not in _SELINUX_TYPES or bool(options.get("user") or options.get("role"))

    found, where = _setters(spec, "seLinuxOptions", bad)
    if not found:
        return None
    types = {options.get("type", "") for options in found} - _SELINUX_TYPES
    # As there, user and role are only told of beside a wrong type.
    why = [f"type{'s' if len(types) > 1 else ''} {_quoted(types)}"] if types else []
    why += [f"{field} may not be set" for field in ("user", "role") if types and any(o.get(field) for o in found)]
    return f"seLinuxOptions ({where} set forbidden securityContext.seLinuxOptions: {'; '.join(why)})"


def _apparmor(spec: JSON) -> str | None:
    found, where = _setters(spec, "appArmorProfile", lambda p: p.get("type") not in _PROFILES)
    if not found:
        return None
    types = {str(profile.get("type", "")) for profile in found}
    what = f"forbidden AppArmor profile{'s' if len(types) > 1 else ''}"
    return f"{what} ({where} must not set AppArmor profile type to {_quoted(types)})"


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
    names = _names(name for name, _ in found)
    added = _quoted({name for _, listed in found for name in listed})
    return f"{names} must not include {added} in securityContext.capabilities.add"


def _baseline_capabilities(spec: JSON) -> str | None:
    found = list(_added_capabilities(_BASELINE_CAPABILITIES)(spec))
    return f"non-default capabilities ({_include(found)})" if found else None


def _bad_seccomp(spec: JSON) -> str | None:
    found, where = _setters(spec, "seccompProfile", lambda p: p.get("type") not in _PROFILES)
    types = _quoted({str(profile.get("type", "")) for profile in found})
    return f"seccompProfile ({where} must not set securityContext.seccompProfile.type to {types})" if found else None


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
    kinds = {v["name"]: set(v) - {"name"} - _RESTRICTED_VOLUMES for v in spec.get("volumes", [])}
    names = [name for name, found in kinds.items() if found]
    bad = {kind for found in kinds.values() for kind in found}
    if not names:
        return None
    uses = "uses" if len(names) == 1 else "use"
    what = f"restricted volume type{'s' if len(bad) > 1 else ''}"
    return f"restricted volume types ({_names(names, 'volume')} {uses} {what} {_quoted(bad)})"


def _non_root(spec: JSON) -> str | None:
    if _has_own_users(spec):
        return None
    pod = spec.get("securityContext", {}).get("runAsNonRoot")
    where = ["pod"] if pod is False else []
    if explicit := _of(spec, lambda c: _own(c).get("runAsNonRoot") is False):
        where.append(_names(explicit))
    if where:
        return f"runAsNonRoot != true ({' and '.join(where)} must not set securityContext.runAsNonRoot=false)"
    silent = _of(spec, lambda c: _own(c).get("runAsNonRoot") is None)
    if pod is True or not silent:
        return None
    return f"runAsNonRoot != true (pod or {_names(silent)} must set securityContext.runAsNonRoot=true)"


def _root_user(spec: JSON) -> str | None:
    if _has_own_users(spec):
        return None
    where = ["pod"] if spec.get("securityContext", {}).get("runAsUser") == 0 else []
    if names := _of(spec, lambda c: _own(c).get("runAsUser") == 0):
        where.append(_names(names))
    return f"runAsUser=0 ({' and '.join(where)} must not set runAsUser=0)" if where else None


def _seccomp(spec: JSON) -> str | None:
    if bad := _bad_seccomp(spec):
        return bad
    silent = _of(spec, lambda c: "seccompProfile" not in _own(c))
    if "seccompProfile" in spec.get("securityContext", {}) or not silent:
        return None
    must = 'must set securityContext.seccompProfile.type to "RuntimeDefault" or "Localhost"'
    return f"seccompProfile (pod or {_names(silent)} {must})"


# In the order in which the API names them: those of the baseline first, within a level by the check's identifier.
# Some of the baseline have a stricter check of the same thing among the restricted ones, which takes their place.
_BASELINE: tuple[Check, ...] = (
    *(_apparmor, _baseline_capabilities, _host_namespaces, _host_path, _host_ports, _privileged, _proc_mount),
    *(_selinux, _bad_seccomp, _sysctls),
)
_REPLACED = (_baseline_capabilities, _host_path, _bad_seccomp)
_RESTRICTED: tuple[Check, ...] = (
    *(check for check in _BASELINE if check not in _REPLACED),
    *(_privilege_escalation, _restricted_capabilities, _volume_types, _non_root, _root_user, _seccomp),
)
