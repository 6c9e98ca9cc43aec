"""One registered model as a deployment changes it: which version is champion, and what became of the others."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path

from mlplatform.promotion import registry
from mlplatform.promotion.registry import CHAMPION, PREVIOUS

log = logging.getLogger(__name__)

DEPLOYMENT = "deployment"
"""Tag of a version: what became of it."""


class Registry:
    """One registered model."""

    def __init__(self, tracking_uri: str, registered_model: str) -> None:
        self._model = (tracking_uri, registered_model)

    def version_of(self, alias: str) -> str | None:
        """Return the version an alias stands for, or None where there is no such alias."""
        return registry.version_with_alias(*self._model, alias)

    def download(self, version: str, directory: Path) -> Path:
        """Copy a version's files into a directory.

        Raises:
            NonRetryableError: there is no such version.
        """
        tracking_uri, _ = self._model
        return registry.download(tracking_uri, registry.get_version(*self._model, version).source, directory)

    def tag(self, version: str, tags: Mapping[str, str]) -> None:
        """Tag a version."""
        registry.tag_version(*self._model, version, tags)

    def tags(self, version: str) -> Mapping[str, str]:
        """Return a version's tags.

        Raises:
            NonRetryableError: there is no such version.
        """
        return registry.get_version(*self._model, version).tags

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
            if self._champion_if_known() == version:
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
            for other in registry.tagged_versions(*self._model, DEPLOYMENT, value):
                if other not in (version, challenger):
                    self.tag(other, {DEPLOYMENT: ended})
        self.tag(version, {DEPLOYMENT: "live"})
        if challenger is not None:
            self.tag(challenger, {DEPLOYMENT: "challenger"})

    def _set(self, alias: str, version: str | None) -> None:
        if version is None:
            registry.delete_alias(*self._model, alias)
        else:
            registry.set_alias(*self._model, alias, version)

    def _champion_if_known(self) -> str | None:
        try:
            return self.version_of(CHAMPION)
        except Exception as error:  # the first error is the one to report
            log.warning("could not read the champion: %s", error)
            return None
