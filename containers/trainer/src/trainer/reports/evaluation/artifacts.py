"""Reads what the candidate's run says of its training; whoever trained it can have written anything."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any


def importance_shares(artifact: Any) -> dict[str, float] | None:
    """Return importance by feature, None where the artifact is missing or says something else."""
    if not isinstance(artifact, Mapping):
        return None
    shares = {str(name): number for name, value in artifact.items() if (number := _number(value)) is not None}
    return shares if len(shares) == len(artifact) else None


def history_points(artifact: Any) -> dict[str, list[tuple[float, float]]]:
    """Return the (step, value) pairs of each metric of a training's history.

    The artifact is a list with an object for each step, ``{"step": 0, "log_loss": 0.6, "train_log_loss": 0.5}``. What
    does not look like this is left out.
    """
    found: dict[str, list[tuple[float, float]]] = {}
    for index, note in enumerate(artifact if isinstance(artifact, list) else []):
        if not isinstance(note, Mapping):
            continue
        step = _number(note.get("step", index))
        for name, given in note.items():
            value = _number(given)
            if name != "step" and step is not None and value is not None:
                found.setdefault(str(name), []).append((step, value))
    return found


def _number(value: Any) -> float | None:
    """Return a JSON number that is finite."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        return None
    return float(value)
