"""Reads and checks the configuration files of the bundle.

Three sources make the settings of an environment, later ones winning key by key:

1. ``config/base.yaml``: what all environments share;
2. ``config/<environment>.yaml``: what differs by choice (sizes, schedules, thresholds);
3. ``platform.json``: what differs by fact (names, ARNs, addresses), written by whatever made the
   platform (Terraform in the cloud, the local platform on one machine).

``config/models`` has a file for each dataset, which may lay settings of its own over these;
``config/families`` has one for each model family.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from mlplatform.config.base import Strict
from mlplatform.config.dataset import ModelConfig
from mlplatform.config.environment import Orchestration, Settings
from mlplatform.config.family import FamilySpec, SearchSpace, check_space, check_value, effective_params
from mlplatform.config.own_settings import OWN_KEYS, DatasetFile
from mlplatform.errors import ConfigError

# The folder that holds ``config/`` and ``platform.json``: in Airflow, the DAG bundle itself.
BUNDLE = Path(__file__).parents[2]


# Those that all datasets share are kept once for all of them.
_KEPT_FILES = 32
# Ten times as fast as the one in Python, where libyaml is there.
_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


@dataclass(frozen=True)
class Dataset:
    """A dataset in an environment."""

    model: ModelConfig
    settings: Settings
    """The environment's, under what the dataset says itself."""
    enabled: bool
    """Whether it has DAGs in this environment."""

    @property
    def name(self) -> str:
        """Return the dataset's name."""
        return self.model.name


def _read_yaml(path: Path) -> dict[str, Any]:
    if not path.is_file():  # nor a folder of that name, a link to nowhere, or a pipe
        raise ConfigError(f"{path}: no such file")
    try:
        content = _parse_yaml(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {error.strerror}") from None
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path}: not text in UTF-8: {error.reason} at byte {error.start}") from None
    # The others are what PyYAML lets through of a date, a number or a tag that says what is not there.
    except (yaml.YAMLError, ValueError, LookupError, AttributeError, RecursionError) as error:
        raise ConfigError(f"{path}: not valid YAML: {' '.join(str(error).split())}") from None
    if not isinstance(content, dict):
        raise ConfigError(f"{path}: expected keys and values at the top level")
    return content


@lru_cache(_KEPT_FILES)
def _parse_yaml(text: str) -> Any:
    """Return what a text says; the same to all who ask, so it is not to be changed.

    Raises:
        yaml.YAMLError: it is not YAML, or a key is there twice: YAML's loader would keep the last one and say nothing.
    """
    loader = _LOADER(text)
    try:
        if (document := loader.get_single_node()) is None:
            return None
        _refuse_repeated_keys(document)
        return loader.construct_document(document)
    finally:
        loader.dispose()


def _refuse_repeated_keys(document: yaml.Node) -> None:
    seen, waiting = {id(document)}, [document]
    while waiting:
        node = waiting.pop()
        below: list[yaml.Node] = []
        if isinstance(node, yaml.MappingNode):
            keys: set[str] = set()
            for key, value in node.value:
                if isinstance(key, yaml.ScalarNode):
                    if key.value in keys:
                        raise yaml.MarkedYAMLError(
                            problem=f"key {key.value!r} is there twice", problem_mark=key.start_mark
                        )
                    keys.add(key.value)
                below.append(value)
        elif isinstance(node, yaml.SequenceNode):
            below = node.value
        for one in below:
            if id(one) not in seen:  # an alias is the node that it names
                seen.add(id(one))
                waiting.append(one)


def merge(base: Mapping[str, Any], overlay: Mapping[str, Any]) -> dict[str, Any]:
    """Overlay mappings key by key; anything that is not a mapping replaces what was there."""
    merged = dict(base)
    for key, value in overlay.items():
        below = merged.get(key)
        both = isinstance(below, Mapping) and isinstance(value, Mapping)
        merged[key] = merge(below, value) if both else value  # type: ignore[arg-type]
    return merged


def explain(source: str, error: ValidationError, content: Any = None) -> ConfigError:
    """One line per key that is wrong: file, key, what is wrong.

    Args:
        source: what the file is called in a message.
        content: what was refused; with it, a key is named as it is written there.
    """
    mistakes: dict[str, list[str]] = {}
    got: dict[str, str] = {}
    for problem in error.errors():
        key = ".".join(_written(problem["loc"], content, missing=problem["type"] == "missing"))
        mistakes.setdefault(key, []).append(re.sub(r"^Value error, ", "", problem["msg"]))
        structured = isinstance(problem["input"], dict | list) or not key
        got[key] = "" if structured else f" (got {problem['input']!r})"
    return ConfigError(
        "\n".join(
            f"{source}: {key + ': ' if key else ''}{' or '.join(dict.fromkeys(messages))}{got[key]}"
            for key, messages in mistakes.items()
        )
    )


def _written(location: tuple[int | str, ...], content: Any, *, missing: bool) -> list[str]:
    """Return a key's path without the names of alternatives that pydantic puts between."""
    path: list[str] = []
    here: Any = content
    for position, part in enumerate(location):
        if (isinstance(here, Mapping) and part in here) or (
            isinstance(here, list) and isinstance(part, int) and part < len(here)
        ):
            here = here[part]  # type: ignore[index]
        elif content is not None and not (missing and position == len(location) - 1):
            continue
        path.append(str(part))
    return path


def load_settings(bundle: Path = BUNDLE) -> Settings:
    """Load the settings of the environment named in ``platform.json``, as they are for all datasets.

    Raises:
        ConfigError: a file is missing, unreadable or refused by the schema.
    """
    source, content = _settings_content(bundle)
    return _settings(source, content)


def _settings_content(bundle: Path) -> tuple[str, dict[str, Any]]:
    """Return where the settings of the environment are from, and what is there."""
    platform_file = bundle / "platform.json"
    try:
        platform = json.loads(platform_file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ConfigError(
            f"{platform_file}: no such file; it is written by Terraform (`make apply`) or by `make local-up`"
        ) from None
    except json.JSONDecodeError as error:
        raise ConfigError(f"{platform_file}: not valid JSON: {error}") from None
    environment = platform.get("environment")
    content = merge(_chosen(environment, bundle), platform)
    return f"config/base.yaml + config/{environment}.yaml + platform.json", content


def _chosen(environment: str | None, bundle: Path) -> dict[str, Any]:
    """Return what people have chosen for an environment, without the facts of ``platform.json``."""
    folder = bundle / "config"
    return merge(_read_yaml(folder / "base.yaml"), _read_yaml(folder / f"{environment}.yaml"))


def _with_own(content: dict[str, Any], own: dict[str, Any], environment: str | None) -> dict[str, Any]:
    """Lay what a dataset's file says of its settings over those of an environment."""
    here = own["environments"].get(environment, {})
    return merge(merge(content, own["settings"]), here.get("settings") or {})


def _settings(source: str, content: dict[str, Any]) -> Settings:
    try:
        return Settings.model_validate(content)
    except ValidationError as error:
        raise explain(source, error, content) from None


def model_names(bundle: Path = BUNDLE) -> list[str]:
    """Names of the configured datasets, sorted."""
    return sorted(path.stem for path in (bundle / "config" / "models").glob("*.yaml"))


def load_model(name: str, bundle: Path = BUNDLE) -> ModelConfig:
    """Load what ``config/models/<name>.yaml`` says of a prediction task.

    Raises:
        ConfigError: there is no such dataset, or its file is refused by the schema.
    """
    return _load_file(name, bundle)[0]


def load_dataset(name: str, bundle: Path = BUNDLE) -> Dataset:
    """Load a dataset and its settings in the environment named in ``platform.json``.

    Raises:
        ConfigError: there is no such dataset, or one of the files is refused.
    """
    model, own = _load_file(name, bundle)
    source, content = _settings_content(bundle)
    environment = content.get("environment")
    return Dataset(
        model,
        _settings(f"{source}, under settings of config/models/{name}.yaml", _with_own(content, own, environment)),
        _enabled(own, environment),
    )


def enabled_datasets(environment: str, bundle: Path = BUNDLE) -> list[str]:
    """Return the datasets that have DAGs in an environment, sorted; it needs no ``platform.json``.

    Raises:
        ConfigError: a dataset's file is refused.
    """
    return [name for name in model_names(bundle) if is_enabled(name, environment, bundle)]


def is_enabled(name: str, environment: str, bundle: Path = BUNDLE) -> bool:
    """Tell whether a dataset has DAGs in an environment; it needs no ``platform.json``.

    Raises:
        ConfigError: there is no such dataset, or its file is refused.
    """
    return _enabled(_load_file(name, bundle)[1], environment)


def starts_paused(name: str, environment: str, bundle: Path = BUNDLE) -> bool:
    """Tell whether a dataset's new DAGs wait in an environment for somebody to unpause them; needs no platform.json.

    Raises:
        ConfigError: there is no such dataset, or one of the files is refused.
    """
    content = _with_own(_chosen(environment, bundle), _load_file(name, bundle)[1], environment)["orchestration"]
    try:
        return Orchestration.model_validate(content).start_paused
    except ValidationError as error:
        raise explain(f"config/base.yaml + config/{environment}.yaml: orchestration", error, content) from None


def serving_settings(name: str, environment: str, bundle: Path = BUNDLE) -> dict[str, Any]:
    """Return what the files say of a dataset's endpoint in an environment; it needs no ``platform.json``.

    Raises:
        ConfigError: there is no such dataset, or a file is unreadable or refused by the schema.
    """
    content = _with_own(_chosen(environment, bundle), _load_file(name, bundle)[1], environment)
    serving: dict[str, Any] = content["serving"]
    return serving


def _enabled(own: dict[str, Any], environment: str | None) -> bool:
    enabled: bool = own["environments"].get(environment, {}).get("enabled", True)
    return enabled


def default_family(dataset: Dataset) -> str:
    """Return the family that a dataset is trained with unless a run says another one."""
    chosen = dataset.settings.training.family
    return chosen if chosen in dataset.model.families else next(iter(dataset.model.families))


def _load_file(name: str, bundle: Path) -> tuple[ModelConfig, dict[str, Any]]:
    """Return a dataset's prediction task, and what its file says of how it is run."""
    if name not in model_names(bundle):
        raise ConfigError(f"dataset {name!r} is not configured: config/models has {', '.join(model_names(bundle))}")
    source = f"config/models/{name}.yaml"
    found = read_document(bundle / source, source, DatasetFile)
    own = found.model_dump(mode="json", include=set(OWN_KEYS), exclude_unset=True)
    model = ModelConfig.model_construct(
        found.model_fields_set - set(OWN_KEYS),
        **{key: getattr(found, key) for key in ModelConfig.model_fields},
    )
    if model.name != name:
        raise ConfigError(f"{source}: name: must be {name!r} as the file's (got {model.name!r})")
    if model.task != "binary" and "calibration" in model.policy.model_fields_set and model.policy.calibration:
        raise ConfigError(f"{source}: policy.calibration: only a binary task has a calibration error")
    check_model(model, bundle)
    return model, {"settings": own.get("settings") or {}, "environments": own.get("environments") or {}}


def read_document[Document: Strict](path: Path, source: str, schema: type[Document]) -> Document:
    """Read a YAML file by a schema.

    Args:
        source: what the file is called in a message.

    Raises:
        ConfigError: the file is missing, unreadable or refused by the schema.
    """
    content = _read_yaml(path)
    try:
        return schema.model_validate(content)
    except ValidationError as error:
        raise explain(source, error, content) from None


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
        check_value(f"{source}: parameters.{key}.default", parameter, parameter.default)
    check_space(f"{source}: search", spec, spec.search)
    return spec


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
