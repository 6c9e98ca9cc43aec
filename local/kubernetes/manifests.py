"""Reads what a cluster is given besides pods: namespaces, accounts, rights, limits."""

from __future__ import annotations

import logging
import reprlib
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from local.kubernetes import documents, schema
from local.kubernetes.errors import JSON, ApiError
from local.kubernetes.kinds import CLUSTER_SCOPED, RESOURCES
from local.kubernetes.resources import Resources

logger = logging.getLogger(__name__)

_BY_KIND = {(known.group_version, known.kind): name for name, known in RESOURCES.items()}
_NEVER = ("pods", "jobs", "events", "nodes")
_FIRST = ("namespaces", "priorityclasses")
_MADE_BEFORE = ("namespaces", "serviceaccounts", "priorityclasses")  # some of them every cluster has


def read(path: Path) -> list[JSON]:
    """Return the objects of a YAML file, or of a kustomization's folder.

    Raises:
        ValueError: it cannot be read.
    """
    try:
        text = _build(path) if path.is_dir() else path.read_text(encoding="utf-8")
        return [obj for document in documents.read_yaml(text) if document for obj in _listed(document)]
    except (OSError, ValueError) as error:
        raise ValueError(f"{path}: cannot be read: {error}") from None


def _listed(document: Any) -> Iterator[JSON]:
    """Yield the objects of a document: it is one, or a list of them."""
    if not isinstance(document, dict) or not all(isinstance(document.get(key), str) for key in ("apiVersion", "kind")):
        raise ValueError(f"no object, which has an apiVersion and a kind: {reprlib.repr(document)}")
    if not (document["kind"].endswith("List") and "items" in document):
        yield document
        return
    items = document["items"]
    if not isinstance(items, list):
        raise ValueError(f"the items of a {document['kind']} are no list: {reprlib.repr(items)}")
    for item in items:
        yield from _listed(item)


def apply(resources: Resources, objects: list[JSON]) -> None:
    """Make the objects of the kinds that this API has, namespaces first; the others are named in the log.

    Raises:
        ValueError: an object is refused.
    """
    ignored = set()
    known = []
    for obj in objects:
        name = _BY_KIND.get((obj["apiVersion"], obj["kind"]))
        if name is None or name in _NEVER:
            ignored.add(obj["kind"])
        else:
            known.append((name, obj))
    for name, obj in sorted(known, key=lambda pair: pair[0] not in _FIRST):
        _add(resources, name, obj)
    if ignored:
        logger.info("the manifests also have what this API ignores: %s", ", ".join(sorted(ignored)))


def _add(resources: Resources, name: str, obj: JSON) -> None:
    kind, version = obj["kind"], obj["apiVersion"]
    about = kind
    try:
        cleaned, unknown = schema.check(kind, obj, version=version)
        about = f"{kind} {cleaned.setdefault('metadata', {}).get('name', '')}"
        if unknown:
            raise ValueError(f"{about}: {', '.join(unknown)}")
        cleaned = {key: value for key, value in cleaned.items() if key not in ("apiVersion", "kind")}
        if name not in CLUSTER_SCOPED:
            namespace = cleaned["metadata"].setdefault("namespace", "default")
            resources.store.get("namespaces", "", namespace)
        where = cleaned["metadata"].get("namespace", ""), cleaned["metadata"].get("name", "")
        if name in _MADE_BEFORE and (old := resources.store.find(name, *where)):
            resources.change(name, old, _laid(cleaned, old))
        else:
            resources.add(name, cleaned)
    except ApiError as error:
        raise ValueError(f"{about}: {error}") from None


def _laid(new: JSON, old: JSON) -> JSON:
    """Return what is asked for when a manifest is laid over an object that the cluster had already."""
    merged = {**old, **new, "metadata": dict(old["metadata"])}
    for key in ("labels", "annotations"):
        merged["metadata"][key] = {**old["metadata"].get(key, {}), **new["metadata"].get(key, {})}
    return merged


def _build(folder: Path) -> str:
    own = Path(sys.executable).with_name("kubectl")  # this project's own, else the one on PATH
    kubectl = str(own) if own.exists() else shutil.which("kubectl")
    if kubectl is None:
        raise ValueError("kubectl was not found, which builds a kustomization: run `make setup`")
    built = subprocess.run([kubectl, "kustomize", str(folder)], capture_output=True, text=True, check=False)
    if built.returncode != 0:
        raise ValueError(built.stderr.strip())
    return built.stdout
