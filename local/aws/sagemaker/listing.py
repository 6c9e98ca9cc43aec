"""Filter, sort and page, as the List operations do."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from typing import Any

from local.aws.sagemaker.errors import ValidationException

_DEFAULT_PAGE = 10


def page(rows: list[Any], params: dict[str, Any], default: int = _DEFAULT_PAGE) -> tuple[list[Any], str | None]:
    """Return one page of the rows and the token of the next one."""
    start = _offset(params["NextToken"]) if params.get("NextToken") else 0
    end = start + params.get("MaxResults", default)
    token = base64.urlsafe_b64encode(str(end).encode()).decode() if end < len(rows) else None
    return rows[start:end], token


def select(
    rows: Iterable[dict[str, Any]],
    params: dict[str, Any],
    sort_keys: dict[str, Callable[[dict[str, Any]], Any]],
    name_member: str,
) -> list[dict[str, Any]]:
    """Return the summaries that pass NameContains, StatusEquals and the time bounds, in the wanted order.

    Newest first is the default, as in the real service.
    """
    chosen = [row for row in rows if _passes(row, params, name_member)]
    key = sort_keys[params.get("SortBy", "CreationTime")]
    return sorted(chosen, key=key, reverse=params.get("SortOrder", "Descending") == "Descending")


def _passes(row: dict[str, Any], params: dict[str, Any], name_member: str) -> bool:
    if params.get("NameContains", "").lower() not in row[name_member].lower():
        return False
    if "StatusEquals" in params and row["EndpointStatus"] != params["StatusEquals"]:
        return False
    for member in ("CreationTime", "LastModifiedTime"):
        before, after = params.get(f"{member}Before"), params.get(f"{member}After")
        if before is not None and row[member] > datetime.fromtimestamp(before, UTC):
            return False
        if after is not None and row[member] < datetime.fromtimestamp(after, UTC):
            return False
    return True


def _offset(token: str) -> int:
    try:
        return int(base64.urlsafe_b64decode(token.encode()))
    except (ValueError, binascii.Error):
        raise ValidationException("Invalid NextToken.") from None
