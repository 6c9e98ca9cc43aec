"""The part of Airflow's REST API that a push talks to where no Airflow runs: its pools, in memory.

As strict as Airflow (3.2): unknown fields and wrong types are refused, so is a name that is taken or not known.
"""

from __future__ import annotations

from typing import Any

Answer = tuple[int, dict[str, Any] | None]

_DEFAULT = {"name": "default_pool", "slots": 128, "description": "Default pool", "include_deferred": False}
_TYPES: dict[str, type] = {"slots": int, "description": str, "include_deferred": bool}
_REQUIRED = frozenset({"name", "slots"})
_PAGE = 100  # what Airflow gives at most, by default


class AirflowApi:
    """Pools of one environment."""

    def __init__(self) -> None:
        self.pools: dict[str, dict[str, Any]] = {"default_pool": dict(_DEFAULT)}

    def answer(self, method: str, path: str, query: dict[str, Any] | None = None, body: Any = None) -> Answer:
        """Return status and body for a request; `path` is what follows ``/api/v2``."""
        match method, path.strip("/").split("/"):
            case "GET", ["pools"]:
                start, limit = int((query or {}).get("offset", 0)), int((query or {}).get("limit", 50))
                page = sorted(self.pools.values(), key=lambda pool: pool["name"])[start : start + min(limit, _PAGE)]
                return 200, {"pools": page, "total_entries": len(self.pools)}
            case "POST", ["pools"]:
                return self._make(body if isinstance(body, dict) else {})
            case "PATCH", ["pools", name]:
                return self._change(name, body if isinstance(body, dict) else {})
        return 404, {"detail": "Not Found"}

    def _make(self, body: dict[str, Any]) -> Answer:
        if wrong := _wrong(body, {"name": str, **_TYPES}) or sorted(_REQUIRED - body.keys()):
            return 422, {"detail": [{"loc": ["body", key], "msg": "not as it should be"} for key in wrong]}
        if body["name"] in self.pools:
            return 409, {"detail": f"a pool {body['name']} is there"}
        self.pools[body["name"]] = {"description": None, "include_deferred": False, **body}
        return 201, self.pools[body["name"]]

    def _change(self, name: str, body: dict[str, Any]) -> Answer:
        if wrong := _wrong(body, {"pool": str, **_TYPES}):
            return 422, {"detail": [{"loc": ["body", key], "msg": "not as it should be"} for key in wrong]}
        if body.get("pool", name) != name or name == "default_pool":
            return 400, {"detail": "Invalid body, pool name from request body doesn't match uri parameter"}
        if name not in self.pools:
            return 404, {"detail": f"The Pool with name: `{name}` was not found"}
        self.pools[name] |= {key: value for key, value in body.items() if key != "pool"}
        return 200, self.pools[name]


def _wrong(body: dict[str, Any], types: dict[str, type]) -> list[str]:
    return sorted(key for key, value in body.items() if type(value) is not types.get(key))
