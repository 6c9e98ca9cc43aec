"""Hyperparameter trials drawn from a search space: seeded, unique, in a stable order. No Airflow import."""

from __future__ import annotations

import json
import math
import random
from collections.abc import Mapping, Sequence

from mlplatform.config import FamilyConfig, Scalar, SearchRange, Trial

Space = SearchRange | Sequence[Scalar]

# Draws that only repeat trials already there: a discrete space is nearly used up after this many in a row.
_PATIENCE = 200


def generate_trials(family: FamilyConfig, count: int, seed: int) -> list[Trial]:
    """Draw trials from a family's search space.

    Trial 0 is the middle of the space, so that one trial is always a sensible baseline; the others are
    drawn uniformly (on the declared scale) and never repeat one another. The first trials do not depend on
    ``count``: asking for more adds to the end.

    Args:
        family: fixed parameters and search space.
        count: how many trials are wanted, at least 1.
        seed: of the random draws.

    Returns:
        At most ``count`` trials; fewer when the space has fewer distinct points.

    Raises:
        ValueError: ``count`` is below 1.
    """
    if count < 1:
        raise ValueError(f"trials: {count} is not allowed; at least one is needed")
    generator = random.Random(seed)
    names = sorted(family.search)
    points = [{name: _middle(family.search[name]) for name in names}]
    seen = {_identity(points[0])}
    failures = 0
    while names and len(points) < count and failures < _PATIENCE:
        point = {name: _draw(family.search[name], generator) for name in names}
        identity = _identity(point)
        if identity in seen:
            failures += 1
            continue
        failures = 0
        seen.add(identity)
        points.append(point)
    return [Trial(index=index, params={**family.params, **point}) for index, point in enumerate(points)]


def _identity(point: Mapping[str, Scalar]) -> str:
    # JSON keeps True and 1 apart, which a tuple of values would not.
    return json.dumps(point, sort_keys=True)


def _middle(space: Space) -> Scalar:
    if not isinstance(space, SearchRange):
        return space[0]
    middle = math.sqrt(space.low * space.high) if space.scale == "log" else (space.low + space.high) / 2
    return _value(space, middle)


def _draw(space: Space, generator: random.Random) -> Scalar:
    if not isinstance(space, SearchRange):
        return generator.choice(space)
    # Integers own the half-open interval around them, so that both ends are as likely as the rest.
    margin = 0.5 if space.integer else 0.0
    low, high = space.low - margin, space.high + margin
    if space.scale == "log":
        return _value(space, math.exp(generator.uniform(math.log(max(low, space.low / 2)), math.log(high))))
    return _value(space, generator.uniform(low, high))


def _value(space: SearchRange, number: float) -> Scalar:
    if space.integer:
        return int(min(max(round(number), math.ceil(space.low)), math.floor(space.high)))
    # Six digits are enough for any hyperparameter and can be read and typed again.
    return min(max(float(f"{number:.6g}"), space.low), space.high)
