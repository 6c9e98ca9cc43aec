"""What the kubelet resolves before a container starts: volumes, environment, command line."""

from __future__ import annotations

import base64
import math
import os
import re
from pathlib import Path

from local.images import Image
from local.kubernetes import quantities
from local.kubernetes.errors import JSON
from local.kubernetes.store import Store

_LOOPBACK = "127.0.0.1"
_DEFAULT_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


class MountError(Exception):
    """A volume that cannot be set up (yet): the pod waits in ContainerCreating."""


class ConfigError(Exception):
    """A reference that cannot be resolved (yet): the container waits in CreateContainerConfigError."""


def _data(store: Store, resource: str, namespace: str, name: str) -> dict[str, bytes] | None:
    obj = store.find(resource, namespace, name)
    if obj is None:
        return None
    data = obj.get("data", {})
    if resource == "secrets":
        return {key: base64.b64decode(value) for key, value in data.items()}
    binary = {key: base64.b64decode(value) for key, value in obj.get("binaryData", {}).items()}
    return {key: value.encode() for key, value in data.items()} | binary


_SOURCES = {"configMap": ("configmaps", "configmap", "name"), "secret": ("secrets", "secret", "secretName")}


def _write_files(store: Store, namespace: str, volume: str, kind: str, source: JSON, folder: Path) -> None:
    resource, word, name_key = _SOURCES[kind]
    name = source.get(name_key) or source.get("name", "")
    data = _data(store, resource, namespace, name)
    if data is None:
        if source.get("optional"):
            return
        raise MountError(f'MountVolume.SetUp failed for volume "{volume}" : {word} "{name}" not found')
    items = source.get("items") or [{"key": key, "path": key} for key in data]
    for item in items:
        if item["key"] not in data:
            if source.get("optional"):
                continue
            raise MountError(
                f'MountVolume.SetUp failed for volume "{volume}" : {word} references non-existent config key: '
                f"{item['key']}"
            )
        target = folder / item["path"]
        if not target.resolve().is_relative_to(folder.resolve()):
            raise MountError(f'MountVolume.SetUp failed for volume "{volume}" : invalid path {item["path"]}')
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(data[item["key"]])
        target.chmod(item.get("mode", source.get("defaultMode", 0o644)) | 0o400)


def prepare_volumes(store: Store, pod: JSON, folder: Path) -> dict[str, Path]:
    """Make a pod's volumes under a folder; returns volume name -> directory. MountError when one has to wait."""
    namespace = pod["metadata"]["namespace"]
    volumes: dict[str, Path] = {}
    for volume in pod["spec"].get("volumes", []):
        name = volume["name"]
        kind = next(key for key in volume if key != "name")
        target = folder / name
        match kind:
            case "emptyDir":
                target.mkdir(parents=True, exist_ok=True)
            case "configMap" | "secret":
                target.mkdir(parents=True, exist_ok=True)
                _write_files(store, namespace, name, kind, volume[kind], target)
            case "projected" if all(set(s) <= {"configMap", "secret"} for s in volume[kind].get("sources", [])):
                target.mkdir(parents=True, exist_ok=True)
                for source in volume[kind].get("sources", []):
                    for part in source:
                        _write_files(store, namespace, name, part, source[part], target)
            case "hostPath":
                target = Path(volume[kind]["path"])
                if volume[kind].get("type") == "DirectoryOrCreate":
                    target.mkdir(parents=True, exist_ok=True)
                elif not target.exists():
                    raise MountError(f'MountVolume.SetUp failed for volume "{name}" : hostPath {target} does not exist')
            case _:
                raise MountError(
                    f'MountVolume.SetUp failed for volume "{name}" : the local kubelet has no {kind} volumes; '
                    "use emptyDir, configMap, secret or hostPath"
                )
        volumes[name] = target
    return volumes


def mounts(container: JSON, volumes: dict[str, Path]) -> dict[str, Path]:
    """Return mount path -> directory on this machine."""
    result: dict[str, Path] = {}
    for mount in container.get("volumeMounts", []):
        source = volumes[mount["name"]] / mount.get("subPath", "")
        if mount.get("subPath") and not source.exists():
            source.mkdir(parents=True)
        result[mount["mountPath"].rstrip("/") or "/"] = source
    return result


def substitute(text: str, mounted: dict[str, Path]) -> str:
    """Replace mount paths by the directories that stand for them, where a whole path component matches."""
    for path in sorted(mounted, key=len, reverse=True):
        pattern = rf"(?:(?<![\w./-])|(?<=file://)){re.escape(path)}(?![\w.-])"
        text = re.sub(pattern, lambda _, to=str(mounted[path]): to, text)  # type: ignore[misc]
    return text


def pod_names(store: Store, namespace: str) -> dict[str, str]:
    """Return the DNS names that pods have by hostname and subdomain, and what stands for each on this machine.

    Those of all pods that an indexed job will have are there before the pods are.
    """
    names: set[tuple[str, str, str]] = set()
    for pod in store.select("pods"):
        spec = pod["spec"]
        if spec.get("hostname") and spec.get("subdomain"):
            names.add((spec["hostname"], spec["subdomain"], pod["metadata"]["namespace"]))
    for job in store.select("jobs"):
        spec, metadata = job["spec"], job["metadata"]
        subdomain = spec["template"]["spec"].get("subdomain")
        if subdomain and spec["completionMode"] == "Indexed":
            hosts = (f"{metadata['name']}-{index}" for index in range(spec["completions"]))
            names |= {(host, subdomain, metadata["namespace"]) for host in hosts}
    found = {f"{host}.{subdomain}.{home}": _LOOPBACK for host, subdomain, home in names}
    return found | {f"{host}.{subdomain}": _LOOPBACK for host, subdomain, home in names if home == namespace}


def resolve_names(text: str, names: dict[str, str]) -> str:
    """Replace names of pods by their addresses, where a whole name matches, with or without the cluster's domain."""
    for name in sorted((name for name in names if name in text), key=len, reverse=True):
        pattern = rf"(?<![\w.-]){re.escape(name)}(?:\.svc(?:\.cluster\.local)?)?\.?(?![\w-]|\.\w)"
        text = re.sub(pattern, names[name], text)
    return text


def expand(text: str, variables: dict[str, str]) -> str:
    """Replace `$(NAME)`; `$$` is a plain dollar, and an unknown name stays as it is."""

    def value(match: re.Match[str]) -> str:
        if match[0] == "$$":
            return "$"
        return variables.get(match[1], match[0])

    return re.sub(r"\$\$|\$\(([^)]*)\)", value, text)


def _field(pod: JSON, path: str) -> str:
    if match := re.fullmatch(r"metadata\.(labels|annotations)\['(.+)'\]", path):
        return str(pod["metadata"].get(match[1], {}).get(match[2], ""))
    if path in ("status.podIP", "status.hostIP", "status.podIPs", "status.hostIPs"):
        return "127.0.0.1"
    section, name = path.split(".")
    return str(pod[section].get(name, ""))


def _resource(pod: JSON, container: JSON, reference: JSON) -> str:
    containers = pod["spec"]["containers"] + pod["spec"].get("initContainers", [])
    wanted = reference.get("containerName", container["name"])
    owner = next((c for c in containers if c["name"] == wanted), container)
    kind, _, name = reference["resource"].partition(".")
    amounts = owner.get("resources", {}).get(kind, {})
    fallback = str(os.cpu_count() or 1) if name == "cpu" else "0"
    divisor = quantities.parse(reference.get("divisor") or "1") or quantities.parse("1")
    return str(math.ceil(quantities.parse(amounts.get(name, fallback)) / divisor))


def _from_key(store: Store, namespace: str, kind: str, reference: JSON) -> str | None:
    resource, word, owner = (
        ("configmaps", "configmap", "ConfigMap") if kind == "configMapKeyRef" else ("secrets", "secret", "Secret")
    )
    data = _data(store, resource, namespace, reference["name"])
    if data is not None and reference["key"] in data:
        return data[reference["key"]].decode(errors="replace")
    if reference.get("optional"):
        return None
    if data is None:
        raise ConfigError(f'{word} "{reference["name"]}" not found')
    raise ConfigError(f"couldn't find key {reference['key']} in {owner} {namespace}/{reference['name']}")


def _from_all(store: Store, namespace: str, source: JSON) -> dict[str, str]:
    kind, resource, word = (
        ("configMapRef", "configmaps", "configmap") if "configMapRef" in source else ("secretRef", "secrets", "secret")
    )
    reference = source[kind]
    data = _data(store, resource, namespace, reference["name"])
    if data is None:
        if reference.get("optional"):
            return {}
        raise ConfigError(f'{word} "{reference["name"]}" not found')
    return {source.get("prefix", "") + key: value.decode(errors="replace") for key, value in data.items()}


def build_environment(
    store: Store, pod: JSON, container: JSON, image: Image, base: dict[str, str], mounted: dict[str, Path]
) -> dict[str, str]:
    """Return a container's whole environment; nothing of this process's own is in it.

    base: what stands for the node's additions (HOME, the device plugin, Pod Identity), after the image's own.
    """
    namespace = pod["metadata"]["namespace"]
    names = pod_names(store, namespace)
    variables = {"PATH": _DEFAULT_PATH, "HOSTNAME": pod["spec"].get("hostname") or pod["metadata"]["name"]}
    if "HOME" not in image.env and "HOME" in base:
        variables["HOME"] = base["HOME"]
    variables |= image.env | {key: value for key, value in base.items() if key != "HOME"}
    if "/tmp" in mounted:
        variables["TMPDIR"] = str(mounted["/tmp"])
    for source in container.get("envFrom", []):
        variables |= _from_all(store, namespace, source)
    for variable in container.get("env", []):
        name, reference = variable["name"], variable.get("valueFrom", {})
        if "fieldRef" in reference:
            value: str | None = _field(pod, reference["fieldRef"]["fieldPath"])
        elif "resourceFieldRef" in reference:
            value = _resource(pod, container, reference["resourceFieldRef"])
        elif reference:
            kind = next(iter(reference))
            if kind not in ("configMapKeyRef", "secretKeyRef"):
                raise ConfigError(f"the local kubelet cannot resolve {kind} of environment variable {name}")
            value = _from_key(store, namespace, kind, reference[kind])
        else:
            value = resolve_names(substitute(expand(variable.get("value", ""), variables), mounted), names)
        if value is not None:
            variables[name] = value
    return variables


def build_command(
    container: JSON, image: Image, variables: dict[str, str], mounted: dict[str, Path], names: dict[str, str]
) -> list[str]:
    """Return the command line: `command` replaces ENTRYPOINT and drops CMD, `args` replaces CMD."""

    def resolved(words: list[str]) -> list[str]:
        return [resolve_names(substitute(expand(word, variables), mounted), names) for word in words]

    command, args = container.get("command"), container.get("args")
    first = resolved(command) if command else list(image.entrypoint)
    rest = resolved(args) if args else ([] if command else list(image.cmd))
    return first + rest
