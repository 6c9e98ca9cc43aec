"""A model registry in memory, in the state that a set has written down."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any


class Registry:
    """The part of MlflowClient that is asked about versions, with what a set knows of them."""

    def __init__(self, known: dict[str, Any]) -> None:
        self._models = known["models"]

    def get_model_version_by_alias(self, name: str, alias: str) -> SimpleNamespace:
        from mlflow.exceptions import INVALID_PARAMETER_VALUE, MlflowException

        aliases = self._models[name]["aliases"]
        if alias not in aliases:
            raise MlflowException(alias, error_code=INVALID_PARAMETER_VALUE)
        return SimpleNamespace(version=aliases[alias])

    def get_model_version(self, name: str, version: str) -> SimpleNamespace:
        found = next(one for one in self._models[name]["versions"] if one["version"] == version)
        return SimpleNamespace(name=name, **found)

    def set_model_version_tag(self, name: str, version: str, key: str, value: str) -> None:
        self.get_model_version(name, version).tags[key] = value

    def tags(self, name: str, version: str) -> dict[str, str]:
        return dict(self.get_model_version(name, version).tags)
