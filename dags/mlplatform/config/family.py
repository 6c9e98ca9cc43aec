"""``config/families/<family>.yaml``: a model family's parameters, and the check of values against them.

A dataset's configuration and a run's trials are checked here before anything runs, and each trial once more in its
pod, by the same code.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Annotated, Literal, Self

from pydantic import Discriminator, Field, Tag, model_validator

from mlplatform.config.base import Name, Scalar, Strict, TaskKind
from mlplatform.errors import ConfigError


class SearchRange(Strict):
    """A numeric hyperparameter, drawn uniformly between both ends, on a logarithmic scale if asked."""

    low: float
    high: float
    scale: Literal["linear", "log"] = "linear"
    integer: bool = False
    points: Annotated[int, Field(ge=2, le=100)] = Field(
        default=3, description="How many values a grid has of it, both ends among them, evenly spread on its scale."
    )

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if not self.low < self.high:
            raise ValueError(f"low ({self.low:g}) must be below high ({self.high:g})")
        if self.scale == "log" and self.low <= 0:
            raise ValueError(f"a logarithmic scale needs low above 0, not {self.low:g}")
        return self


# Which one is meant is plain to see, so that a mistake in it is told once and not of both.
SearchSpace = dict[
    str,
    Annotated[
        Annotated[SearchRange, Tag("range")] | Annotated[list[Scalar], Field(min_length=1), Tag("values")],
        Discriminator(lambda written: "values" if isinstance(written, list) else "range"),
    ],
]


class Parameter(Strict):
    """A parameter of a model family: its type, what it may be, and what it is unless said otherwise."""

    type: Literal["integer", "number", "string", "boolean"]
    default: Scalar
    minimum: float | None = None
    maximum: float | None = None
    above: float | None = Field(default=None, description="Must be greater than this; `minimum` may be equal.")
    choices: list[str] | None = None
    help: str = ""


class FamilySpec(Strict):
    """``config/families/<family>.yaml``: what a model family can do and which parameters it has."""

    name: Name
    description: str
    module: str = Field(description="Python module with the family's code; see `trainer.families.base`.")
    image: Literal["trainer", "trainer_cuda"] = Field(
        description="The image it needs; on a pod with a GPU every family gets `trainer_cuda`."
    )
    tasks: Annotated[list[TaskKind], Field(min_length=1)]
    devices: Annotated[list[Literal["cpu", "cuda"]], Field(min_length=1)] = Field(
        default=["cpu"], description="What it can compute on; without `cuda` it is never given a GPU."
    )
    distributed: bool = Field(default=False, description="Whether one trial can train over several pods.")
    parameters: dict[str, Parameter]
    search: SearchSpace = Field(description="Searched where a dataset's configuration does not say otherwise.")


class FamilyConfig(Strict):
    """Fixed parameters of a model family for one dataset, and the space its trials are drawn from."""

    params: dict[str, Scalar] = Field(default={})
    search: SearchSpace | None = Field(default=None, description="Instead of the family's own search space.")


def effective_params(source: str, spec: FamilySpec, params: Mapping[str, Scalar]) -> dict[str, Scalar]:
    """Return all parameters of a family: those given, checked, and the defaults of the others.

    Args:
        source: where the given ones come from, for the message.

    Raises:
        ConfigError: one is unknown, of the wrong type or out of range.
    """
    chosen = {name: check_value(name, parameter, parameter.default) for name, parameter in spec.parameters.items()}
    for name, value in params.items():
        chosen[name] = check_value(f"{source}.{name}", _known(source, spec, name), value)
    return chosen


def check_space(source: str, spec: FamilySpec, space: SearchSpace) -> None:
    """Check that every point of a search space is a valid set of parameters.

    Raises:
        ConfigError: a parameter is unknown, or a value or an end of a range is not allowed.
    """
    for name, choices in space.items():
        parameter = _known(source, spec, name)
        where = f"{source}.{name}"
        if not isinstance(choices, SearchRange):
            for value in choices:
                check_value(where, parameter, value)
            if len({(type(value), value) for value in choices}) < len(choices):
                raise ConfigError(f"{where}: a value is there twice")
            continue
        if parameter.type not in ("integer", "number"):
            raise ConfigError(f"{where}: a {parameter.type} has no range; give a list of values")
        if (parameter.type == "integer") != choices.integer:
            says = "true" if parameter.type == "integer" else "false"
            raise ConfigError(f"{where}.integer: must be {says}, as {name} is of type {parameter.type}")
        for end in ("low", "high"):
            value = getattr(choices, end)
            check_value(f"{where}.{end}", parameter, int(value) if choices.integer and value == int(value) else value)


def _known(source: str, spec: FamilySpec, name: str) -> Parameter:
    if name not in spec.parameters:
        raise ConfigError(f"{source}.{name}: {spec.name} has no such parameter: {', '.join(sorted(spec.parameters))}")
    return spec.parameters[name]


def check_value(where: str, parameter: Parameter, value: Scalar) -> Scalar:
    """Return the value, a whole number as a float where one is wanted."""
    kind = parameter.type
    numeric = isinstance(value, int | float) and not isinstance(value, bool)
    fits = {
        "string": isinstance(value, str),
        "boolean": isinstance(value, bool),
        "integer": numeric and isinstance(value, int),
        "number": numeric and math.isfinite(value),  # type: ignore[arg-type]
    }[kind]
    if not fits:
        raise ConfigError(f"{where}: must be {'an' if kind == 'integer' else 'a'} {kind} (got {value!r})")
    if parameter.choices is not None and value not in parameter.choices:
        raise ConfigError(f"{where}: must be one of {', '.join(parameter.choices)} (got {value!r})")
    if kind in ("integer", "number") and isinstance(value, int | float):
        if parameter.above is not None and not value > parameter.above:
            raise ConfigError(f"{where}: must be greater than {parameter.above:g} (got {value!r})")
        if parameter.minimum is not None and value < parameter.minimum:
            raise ConfigError(f"{where}: must be at least {parameter.minimum:g} (got {value!r})")
        if parameter.maximum is not None and value > parameter.maximum:
            raise ConfigError(f"{where}: must be at most {parameter.maximum:g} (got {value!r})")
        if kind == "number":
            return float(value)
    return value
