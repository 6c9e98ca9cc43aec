"""The three patch formats of the API: JSON Patch, JSON Merge Patch, Strategic Merge Patch."""

from __future__ import annotations

import copy
from typing import Any

from local.kubernetes.errors import JSON, ApiError

JSON_PATCH = "application/json-patch+json"
MERGE_PATCH = "application/merge-patch+json"
STRATEGIC_PATCH = "application/strategic-merge-patch+json"
FORMATS = (JSON_PATCH, MERGE_PATCH, STRATEGIC_PATCH)

# patchMergeKey of the lists a pod has; a list that is not here is replaced whole, as in the API's own definition.
_MERGE_KEYS = {
    "containers": "name",
    "initContainers": "name",
    "volumes": "name",
    "env": "name",
    "ports": "containerPort",
    "volumeMounts": "mountPath",
    "imagePullSecrets": "name",
    "hostAliases": "ip",
    "ownerReferences": "uid",
    "conditions": "type",
}


def apply(media_type: str, current: JSON, patch: Any) -> JSON:
    """Return a patched copy of an object; ApiError 400/415/422 as the API server answers."""
    if media_type == JSON_PATCH:
        if not isinstance(patch, list):
            raise ApiError(400, "json: cannot unmarshal object into Go value of type jsonpatch.Patch")
        return _json_patch(current, patch)
    if media_type not in FORMATS:
        accepted = ", ".join(FORMATS)
        raise ApiError(
            415, f"the body of the request was in an unknown format - accepted media types include: {accepted}"
        )
    if not isinstance(patch, dict):
        raise ApiError(400, "the patch must be a JSON object")
    merged: JSON = _merge(current, patch, strategic=media_type == STRATEGIC_PATCH)
    return merged


def _merge(current: Any, patch: JSON, *, strategic: bool) -> Any:
    if strategic and patch.get("$patch") == "replace":
        return {key: value for key, value in patch.items() if key != "$patch"}
    result = copy.deepcopy(current) if isinstance(current, dict) else {}
    for key, value in patch.items():
        if strategic and key.startswith("$"):
            continue
        if value is None:
            result.pop(key, None)
        elif isinstance(value, dict):
            result[key] = _merge(result.get(key), value, strategic=strategic)
        elif strategic and isinstance(value, list) and key in _MERGE_KEYS and isinstance(result.get(key), list):
            result[key] = _merge_list(result[key], value, _MERGE_KEYS[key])
        else:
            result[key] = copy.deepcopy(value)
    return result


def _merge_list(current: list[Any], patch: list[Any], merge_key: str) -> list[Any]:
    items = {item.get(merge_key): item for item in current}
    for item in patch:
        if not isinstance(item, dict) or merge_key not in item:
            raise ApiError(400, f"map: {item} does not contain declared merge key: {merge_key}")
        if item.get("$patch") == "delete":
            items.pop(item[merge_key], None)
        else:
            items[item[merge_key]] = _merge(items.get(item[merge_key]), item, strategic=True)
    return list(items.values())


def _json_patch(current: JSON, operations: list[Any]) -> JSON:
    document: Any = copy.deepcopy(current)
    for operation in operations:
        try:
            document = _operate(document, operation)
        except (KeyError, IndexError, ValueError, TypeError, AttributeError) as error:
            raise ApiError(422, f"the server rejected our request due to an error in our request: {error}") from error
    return dict(document)


def _pointer(path: str) -> list[str]:
    return [part.replace("~1", "/").replace("~0", "~") for part in path.split("/")[1:]]


def _get(document: Any, path: list[str]) -> Any:
    for part in path:
        document = document[int(part)] if isinstance(document, list) else document[part]
    return document


def _put(document: Any, path: list[str], value: Any, *, insert: bool) -> None:
    parent, last = _get(document, path[:-1]), path[-1]
    if isinstance(parent, list):
        if insert:
            parent.insert(len(parent) if last == "-" else int(last), value)
        else:
            parent[int(last)] = value
    else:
        parent[last] = value


def _remove(document: Any, path: list[str]) -> Any:
    parent, last = _get(document, path[:-1]), path[-1]
    return parent.pop(int(last)) if isinstance(parent, list) else parent.pop(last)


def _operate(document: Any, operation: JSON) -> Any:
    path = _pointer(operation["path"])
    match operation["op"]:
        case "add":
            _put(document, path, operation["value"], insert=True)
        case "replace":
            _get(document, path)
            _put(document, path, operation["value"], insert=False)
        case "remove":
            _remove(document, path)
        case "move":
            _put(document, path, _remove(document, _pointer(operation["from"])), insert=True)
        case "copy":
            _put(document, path, copy.deepcopy(_get(document, _pointer(operation["from"]))), insert=True)
        case "test":
            if _get(document, path) != operation["value"]:
                raise ValueError(f"testing path {operation['path']} value failed")
        case unknown:
            raise ValueError(f"unexpected kind: {unknown}")
    return document
