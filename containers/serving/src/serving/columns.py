"""The columns of a request, whatever body they came in."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from modelformat import Encoder
from serving.errors import bad

Columns = dict[str, Sequence[Any]]
"""The values of each feature, row by row."""


def check_names(names: Sequence[str], encoder: Encoder) -> None:
    """Check that these are the features, each once, in any order.

    Raises:
        RequestError: 400.
    """
    given = set(names)
    if len(given) != len(names):
        raise bad(f"column {_short(next(name for name in names if list(names).count(name) > 1))}: there twice")
    for name in encoder.names:
        if name not in given:
            raise bad(f"column {name!r}: missing; send it empty or null if its values are not known")
    if len(given) != len(encoder.names):
        raise bad(f"column {unknown(names, encoder)}: not a feature of this model")


def unknown(names: Iterable[str], encoder: Encoder) -> str:
    """Return the first name that is no feature, as an error shows it."""
    known = set(encoder.names)
    return _short(next(name for name in names if name not in known))


def _short(name: str) -> str:
    return repr(name if len(name) <= 80 else name[:77] + "...")
