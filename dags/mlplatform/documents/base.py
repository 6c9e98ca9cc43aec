"""What every document has in common: strict when it is made, tolerant when it is read.

A document outlives the release that wrote it. Within one `schema_version` a reader ignores fields that it does not
know, its own schemas' and those of the people's configuration that a document embeds. So a new field that changes
what is done must raise the version: an older reader then refuses the document instead of dropping, say, a guard.
"""

from __future__ import annotations

from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from pkgutil import iter_modules
from typing import Any, ClassVar, Self

from pydantic import ValidationError
from pydantic_core import from_json

from mlplatform.config.base import Strict
from mlplatform.errors import NewerReleaseError, StorageError


class Document(Strict):
    """Base of every document; a subclass that was changed so that older readers must not read it says its version."""

    schema_version: int = 1
    oldest_readable: ClassVar[int] = 1
    """Versions from this one on can still be read; `upgrade` makes the present one of them."""

    @classmethod
    def read(cls, content: bytes | str, source: str) -> Self:
        """Read what this release or another one wrote.

        Args:
            content: JSON.
            source: where it is from, for messages.

        Raises:
            NewerReleaseError: a newer release wrote it, in a version that this one does not know.
            StorageError: it is not such a document, or too old a one.
        """
        try:
            found = from_json(content)
        except ValueError as error:
            raise StorageError(f"{source}: not valid JSON: {error}") from None
        return cls.read_object(found, source)

    @classmethod
    def read_object(cls, content: Any, source: str) -> Self:
        """Like `read`, of JSON that was parsed."""
        if not isinstance(content, dict):
            raise StorageError(f"{source}: not a valid {cls.__name__}: it is no JSON object")
        found = dict(content)
        written, present = _written_version(found), cls.current_version()
        if not isinstance(written, int) or isinstance(written, bool):
            raise StorageError(f"{source}: schema_version: {written!r} is not a whole number")
        if written > present:
            raise NewerReleaseError(
                f"{source}: a newer release wrote it ({cls.__name__} in schema version {written}; "
                f"this release reads up to {present})"
            )
        if written < cls.oldest_readable:
            raise StorageError(
                f"{source}: an older release wrote it ({cls.__name__} in schema version {written}; this release reads "
                f"from {cls.oldest_readable} on), so it has to be made again"
            )
        try:
            return cls.model_validate({**cls.upgrade(found, written), "schema_version": present}, extra="ignore")
        except ValidationError as error:
            first = error.errors()[0]
            key = ".".join(str(part) for part in first["loc"])
            raise StorageError(f"{source}: not a valid {cls.__name__}: {key}: {first['msg']}") from None

    @classmethod
    def upgrade(cls, found: dict[str, Any], written: int) -> dict[str, Any]:
        """Return the fields of a readable older version as the present one has them.

        Args:
            found: the fields, without ``schema_version``.
            written: the version that they are of.
        """
        return found

    @classmethod
    def current_version(cls) -> int:
        """Return the version that this release writes."""
        version: int = cls.model_fields["schema_version"].default
        return version


def kinds() -> list[type[Document]]:
    """Return every kind of document that is kept, by name."""
    for module in iter_modules([str(Path(__file__).parent)]):
        import_module(f"{__package__}.{module.name}")
    return sorted(
        (kind for kind in _below(Document) if kind.__module__.startswith(str(__package__))),
        key=lambda kind: kind.__name__,
    )


def versions() -> dict[str, list[int]]:
    """Return the oldest and newest version that can be read of each kind of document; the newest is written."""
    return {kind.__name__: [kind.oldest_readable, kind.current_version()] for kind in kinds()}


def _below(base: type[Document]) -> Iterator[type[Document]]:
    for kind in base.__subclasses__():
        yield kind
        yield from _below(kind)


def _written_version(found: dict[str, Any]) -> Any:
    """Take the version out of a document; release 0.1.0 called it `version` in some, and had none in others."""
    if "schema_version" in found:
        return found.pop("schema_version")
    return found.pop("version") if isinstance(found.get("version"), int) else 1
