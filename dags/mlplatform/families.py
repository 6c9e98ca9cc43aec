"""The catalogue of model families, ``config/families/*.yaml``, and the check of parameters against it.

No Airflow import. A dataset's configuration and a run's trials are checked here before anything runs, and each
trial once more in its pod, by the same code.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path

from mlplatform.config import (
    BUNDLE,
    ConfigError,
    FamilySpec,
    ModelConfig,
    Parameter,
    Scalar,
    SearchRange,
    SearchSpace,
    read_document,
)


def family_names(bundle: Path = BUNDLE) -> list[str]:
    """Names of the families in the catalogue, sorted."""
    return sorted(path.stem for path in (bundle / "config" / "families").glob("*.yaml"))


def load_family(name: str, bundle: Path = BUNDLE) -> FamilySpec:
    """Load ``config/families/<name>.yaml``.

    Raises:
        ConfigError: there is no such family, or its file is refused.
    """
    names = family_names(bundle)
    if name not in names:
        raise ConfigError(f"family {name!r} is not in config/families: choose from {', '.join(names)}")
    source = f"config/families/{name}.yaml"
    spec = read_document(bundle / source, source, FamilySpec)
    if spec.name != name:
        raise ConfigError(f"{source}: name: must be {name!r} as the file's (got {spec.name!r})")
    for key, parameter in spec.parameters.items():
        _check(f"{source}: parameters.{key}.default", parameter, parameter.default)
    check_space(f"{source}: search", spec, spec.search)
    return spec


def effective_params(source: str, spec: FamilySpec, params: Mapping[str, Scalar]) -> dict[str, Scalar]:
    """Return all parameters of a family: those given, checked, and the defaults of the others.

    Args:
        source: where the given ones come from, for the message.

    Raises:
        ConfigError: one is unknown, of the wrong type or out of range.
    """
    chosen = {name: _check(name, parameter, parameter.default) for name, parameter in spec.parameters.items()}
    for name, value in params.items():
        chosen[name] = _check(f"{source}.{name}", _known(source, spec, name), value)
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
                _check(where, parameter, value)
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
            _check(f"{where}.{end}", parameter, int(value) if choices.integer and value == int(value) else value)


def check_model(model: ModelConfig, bundle: Path = BUNDLE) -> None:
    """Check a dataset's families against the catalogue.

    Raises:
        ConfigError: a family is unknown or cannot do the task, or a parameter or a search space is wrong.
    """
    source = f"config/models/{model.name}.yaml"
    for name, chosen in model.families.items():
        key = f"{source}: families.{name}"
        if name not in family_names(bundle):
            raise ConfigError(
                f"{key}: no such family in config/families: choose from {', '.join(family_names(bundle))}"
            )
        spec = load_family(name, bundle)
        if model.task not in spec.tasks:
            raise ConfigError(f"{key}: does {', '.join(spec.tasks)} tasks, not {model.task}")
        effective_params(f"{key}.params", spec, chosen.params)
        check_space(f"{key}.search", spec, chosen.search or {})
        if twice := sorted(set(chosen.params) & set(chosen.search or {})):
            raise ConfigError(f"{key}: {twice[0]} is fixed in params and searched in search; keep one")


def search_space(model: ModelConfig, spec: FamilySpec) -> SearchSpace:
    """Return what a dataset's trials are drawn from: its own search space, else the family's less what is fixed."""
    chosen = model.families[spec.name]
    if chosen.search is not None:
        return chosen.search
    return {name: space for name, space in spec.search.items() if name not in chosen.params}


def search_source(model: ModelConfig, spec: FamilySpec) -> str:
    """Return where `search_space` has a dataset's space from, for messages."""
    if model.families[spec.name].search is not None:
        return f"config/models/{model.name}.yaml: families.{spec.name}.search"
    return f"config/families/{spec.name}.yaml: search"


def _known(source: str, spec: FamilySpec, name: str) -> Parameter:
    if name not in spec.parameters:
        raise ConfigError(f"{source}.{name}: {spec.name} has no such parameter: {', '.join(sorted(spec.parameters))}")
    return spec.parameters[name]


def _check(where: str, parameter: Parameter, value: Scalar) -> Scalar:
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
