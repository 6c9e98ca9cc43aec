"""The model registry: what is champion, where its files are, and the move of the aliases."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import mlflow
from mlflow import MlflowClient
from mlflow.exceptions import MlflowException

from mlplatform.errors import NonRetryableError

log = logging.getLogger(__name__)

CHAMPION = "champion"
PREVIOUS = "previous"
DEPLOYMENT = "deployment"
"""Tag of a version: what became of it."""
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
            NonRetryableError: there is no such version.
        """
        self._version(version)
        uri = f"models:/{self._name}/{version}"
        return Path(mlflow.artifacts.download_artifacts(artifact_uri=uri, dst_path=str(directory)))

    def tag(self, version: str, tags: Mapping[str, str]) -> None:
        """Tag a version."""
        for key, value in tags.items():
            self._client.set_model_version_tag(self._name, version, key, value)

    def tags(self, version: str) -> dict[str, str]:
        """Return a version's tags.

        Raises:
            NonRetryableError: there is no such version.
        """
        return dict(self._version(version).tags)

    def promote(self, version: str, champion: str | None) -> None:
        """Make a version champion and the champion so far ``previous``; the champion's alias moves last.

        Args:
            version: the new champion.
            champion: the one before this deployment began, so that it can be done again.
        """
        if champion == version:
            return
        self._set(PREVIOUS, champion)
        try:
            self._set(CHAMPION, version)
        except Exception:
            if self._try("read the champion", self.version_of, CHAMPION) == version:
                return  # it was done; only the answer was lost
            raise

    def put_back(self, champion: str | None, previous: str | None) -> None:
        """Set both aliases to what they were."""
        for alias, version in ((CHAMPION, champion), (PREVIOUS, previous)):
            if self.version_of(alias) != version:
                self._set(alias, version)

    def mark_live(self, version: str, challenger: str | None, replaced_by: str) -> None:
        """Tag versions with what became of them: ``deployment`` is ``live`` and ``challenger`` for one each.

        Args:
            version: the champion.
            challenger: the other version of an experiment.
            replaced_by: what becomes of versions that were live: ``replaced`` or ``rolled-back``.
        """
        for value, ended in (("live", replaced_by), ("challenger", "experiment-ended")):
            for other in self._tagged(value):
                if other not in (version, challenger):
                    self.tag(other, {DEPLOYMENT: ended})
        self.tag(version, {DEPLOYMENT: "live"})
        if challenger is not None:
            self.tag(challenger, {DEPLOYMENT: "challenger"})

    def _tagged(self, value: str) -> list[str]:
        wanted = f"name = '{self._name}' and tags.`{DEPLOYMENT}` = '{value}'"
        return [str(found.version) for found in self._client.search_model_versions(wanted)]

    def _version(self, version: str) -> Any:
        try:
            return self._client.get_model_version(self._name, version)
        except MlflowException as error:
            if error.error_code in _MISSING:
                raise NonRetryableError(f"models:/{self._name}/{version}: no such version in the registry") from None
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
