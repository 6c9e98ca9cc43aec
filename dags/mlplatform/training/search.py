"""Hyperparameter trials from a search space: seeded, unique, in a stable order."""

from __future__ import annotations

import itertools
import json
import math
import random
from collections.abc import Mapping, Sequence
from typing import Literal

from mlplatform.config.base import Scalar
from mlplatform.config.family import SearchRange, SearchSpace
from mlplatform.documents.run import Trial
from mlplatform.errors import ConfigError

Space = SearchRange | Sequence[Scalar]
Method = Literal["grid", "random", "bayesian"]
# Draws that only repeat trials already there: a discrete space is nearly used up after this many in a row.
_PATIENCE = 200


def generate_trials(
    fixed: Mapping[str, Scalar], space: SearchSpace, method: Method, count: int, seed: int, source: str = "search"
) -> list[Trial]:
    """Choose the trials of a search.

    * ``grid``: every combination of the values of each parameter, in order; ranges give `SearchRange.points` values.
    * ``random``: trial 0 is the middle of the space, so that one trial is always a sensible baseline; the others are
      drawn uniformly (on the declared scale) and never repeat one another. The first trials do not depend on
      ``count``: asking for more adds to the end.
    * ``bayesian``: trial 0 is the middle too, the others have the fixed parameters only: each asks for its point when
      it starts, knowing how the earlier ones went.

    Args:
        fixed: parameters that all trials have.
        space: what is searched; without anything there is one trial.
        method: one of the above.
        count: how many trials are wanted, at least 1; a grid has as many as it has points.
        seed: of the random draws.
        source: where the space comes from, for the message.

    Returns:
        At most ``count`` trials; fewer when the space has fewer distinct points.

    Raises:
        ValueError: ``count`` is below 1.
        ConfigError: a grid has more than ``count`` points.
    """
    if count < 1:
        raise ValueError(f"trials: {count} is not allowed; at least one is needed")
    if method == "grid":
        check_grid(source, space, count)
        points = _grid(space)
    elif method == "random":
        points = _random(space, count, seed)
    else:
        points = [_middle_of(space), *({} for _ in range(count - 1 if space else 0))]
    return [Trial(index=index, params={**fixed, **point}) for index, point in enumerate(points)]


def check_grid(source: str, space: SearchSpace, count: int) -> None:
    """Check that a grid is not larger than the trials that were asked for.

    Raises:
        ConfigError: it is; the message says how large.
    """
    sizes = {name: len(_values(space[name])) for name in sorted(space)}
    points = math.prod(sizes.values())
    if points > count:
        factors = " x ".join(f"{name} {size}" for name, size in sizes.items())
        raise ConfigError(
            f"{source}: its grid has {points} points ({factors}), more than trials ({count}); ask for {points} trials, "
            "search fewer parameters or values, or take another search"
        )


def packs(trials: Sequence[Trial], size: int) -> list[list[Trial]]:
    """Divide trials among pods, ``size`` to each; the last may have fewer."""
    return [list(pack) for pack in itertools.batched(trials, size)]


def _grid(space: SearchSpace) -> list[dict[str, Scalar]]:
    names = sorted(space)
    return [dict(zip(names, values, strict=True)) for values in itertools.product(*(_values(space[n]) for n in names))]


def _values(space: Space) -> list[Scalar]:
    """Return the values of a parameter in a grid; whole numbers that coincide count once."""
    if not isinstance(space, SearchRange):
        return list(space)
    shares = [number / (space.points - 1) for number in range(space.points)]
    return list(dict.fromkeys(_value(space, _at(space, share)) for share in shares))


def _random(space: SearchSpace, count: int, seed: int) -> list[dict[str, Scalar]]:
    generator = random.Random(seed)
    names = sorted(space)
    points = [_middle_of(space)]
    seen = {_identity(points[0])}
    failures = 0
    while names and len(points) < count and failures < _PATIENCE:
        point = {name: _draw(space[name], generator) for name in names}
        identity = _identity(point)
        if identity in seen:
            failures += 1
            continue
        failures = 0
        seen.add(identity)
        points.append(point)
    return points


def _identity(point: Mapping[str, Scalar]) -> str:
    # JSON keeps True and 1 apart, which a tuple of values would not.
    return json.dumps(point, sort_keys=True)


def _middle_of(space: SearchSpace) -> dict[str, Scalar]:
    return {name: _middle(space[name]) for name in sorted(space)}


def _middle(space: Space) -> Scalar:
    return _value(space, _at(space, 0.5)) if isinstance(space, SearchRange) else space[0]


def _at(space: SearchRange, share: float) -> float:
    """Return the number at a share of the way from low to high, on the range's scale."""
    if space.scale == "log":
        return math.exp(math.log(space.low) + share * (math.log(space.high) - math.log(space.low)))
    return space.low + share * (space.high - space.low)


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
