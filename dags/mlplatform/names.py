"""Names that fit."""

from __future__ import annotations

import hashlib

_DIGITS = 8


def shortened(name: str, limit: int) -> str:
    """Return a name as it is where a service takes it, otherwise its beginning and a digest of the whole.

    Two names that begin alike stay two.

    Args:
        name: to be shortened.
        limit: the most characters that the service takes.
    """
    if len(name) <= limit:
        return name
    digest = hashlib.sha256(name.encode()).hexdigest()[:_DIGITS]
    return f"{name[: limit - 1 - _DIGITS].rstrip('-')}-{digest}"
