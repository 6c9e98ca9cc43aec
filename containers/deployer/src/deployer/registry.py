"""The model registry: what is champion, where its files are, and the move of the aliases."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import mlflow
from mlflow import MlflowClient
from mlflow.exceptions import MlflowException

from mlplatform.steps import Refused

log = logging.getLogger(__name__)

CHAMPION = "champion"
PREVIOUS = "previous"
# What MLflow says where there is no such model, version or alias:
_MISSING = ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE")


class Registry:
    """One registered model."""

    def __init__(self, tracking_uri: str, registered_model: str) -> None:
        mlflow.set_tracking_uri(tracking_uri)
        self._client = MlflowClient(tracking_uri)
        self._name = registered_model

    def version_of(self, alias: str) -> str | None:
        """Return the version an alias stands for, or None where there is no such alias."""
        try:
            return str(self._client.get_model_version_by_alias(self._name, alias).version)
        except MlflowException as error:
            if error.error_code in _MISSING:
                return None
            raise

    def download(self, version: str, directory: Path) -> Path:
        """Copy a version's files into a directory.

        Raises:
            Refused: there is no such version.
        """
        try:
            self._client.get_model_version(self._name, version)
        except MlflowException as error:
            if error.error_code in _MISSING:
                raise Refused(f"models:/{self._name}/{version}: no such version in the registry") from None
            raise
        uri = f"models:/{self._name}/{version}"
        return Path(mlflow.artifacts.download_artifacts(artifact_uri=uri, dst_path=str(directory)))

    def tag(self, version: str, tags: Mapping[str, str]) -> None:
        """Tag a version."""
        for key, value in tags.items():
            self._client.set_model_version_tag(self._name, version, key, value)

    def promote(self, version: str, champion: str | None) -> None:
        """Make a version champion and the champion so far ``previous``; the champion's alias moves last.

        When that fails, the aliases are as before, as far as the registry can be reached.
        """
        if champion == version:
            return
        before = self.version_of(PREVIOUS)
        try:
            self._set(PREVIOUS, champion)
            self._set(CHAMPION, version)
        except Exception:
            if self._try("read the champion", self.version_of, CHAMPION) == version:
                return  # it was done; only the answer was lost
            self._try("put back the alias `previous`", self._set, PREVIOUS, before)
            raise

    def _set(self, alias: str, version: str | None) -> None:
        if version is not None:
            self._client.set_registered_model_alias(self._name, alias, version)
        elif self.version_of(alias) is not None:
            self._client.delete_registered_model_alias(self._name, alias)

    @staticmethod
    def _try(what: str, call: Any, *arguments: Any) -> Any:
        try:
            return call(*arguments)
        except Exception as error:  # the first error is the one to report
            log.warning("could not %s: %s", what, error)
            return None
