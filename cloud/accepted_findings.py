"""The findings of scans that are accepted: a committed list, each with a reason and a day on which it ends."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Annotated, Any

import yaml
from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError

from cloud.errors import CloudError

FILE = "containers/accepted-findings.yaml"
_Text = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1)]


class _Entry(BaseModel):
    """An entry as it is written."""

    model_config = ConfigDict(extra="forbid", strict=True)

    id: _Text
    package: _Text
    images: Annotated[list[str], Field(min_length=1)] | None = None
    reason: _Text
    expires: date


@dataclass(frozen=True)
class Accepted:
    """A weakness of a package that images may have, up to and including a day."""

    id: str
    package: str
    images: frozenset[str]
    reason: str
    expires: date
    place: str
    """File and line."""

    def covers(self, image: str, name: str, package: str) -> bool:
        """Whether it is about this weakness of this package in this image."""
        return (self.id, self.package) == (name, package) and image in self.images


def read(root: Path, images: Collection[str]) -> list[Accepted]:
    """Read the list.

    Args:
        images: the names there are.

    Raises:
        CloudError: the list is missing or an entry says what it must not, with file and line.
    """
    path = root / FILE
    try:
        document = yaml.compose(path.read_text(encoding="utf-8"), Loader=yaml.SafeLoader)
    except OSError as error:
        raise CloudError(f"{FILE}: cannot be read ({error.strerror}): an empty list is `findings: []`") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise CloudError(f"{FILE}: not valid YAML: {' '.join(str(error).split())}") from None
    accepted: list[Accepted] = []
    problems: list[str] = []
    for entry in _entries(document):
        place = f"{FILE}:{entry.start_mark.line + 1}"
        try:
            given = _Entry.model_validate(_mapping(entry))
        except ValidationError as error:
            problems += [f"{place}: {'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors()]
            continue
        except ValueError as error:
            problems.append(f"{place}: {error}")
            continue
        about = frozenset(images if given.images is None else given.images)
        if unknown := sorted(about - set(images)):
            problems.append(f"{place}: images: no {', '.join(unknown)}: choose of {', '.join(sorted(images))}")
        found = Accepted(given.id, given.package, about, given.reason, given.expires, place)
        problems += [
            f"{place}: {found.id} in {found.package} is accepted already, see {other.place}"
            for other in accepted
            if (other.id, other.package) == (found.id, found.package) and other.images & about
        ]
        accepted.append(found)
    if problems:
        raise CloudError("\n".join(problems))
    return accepted


def _entries(document: yaml.Node | None) -> list[yaml.Node]:
    keys = [key.value for key, _ in document.value] if isinstance(document, yaml.MappingNode) else None
    if keys != ["findings"] or not isinstance(entries := document.value[0][1], yaml.SequenceNode):  # type: ignore[union-attr]
        raise CloudError(f"{FILE}:1: expected a list under the one key `findings`; an empty one is `findings: []`")
    return list(entries.value)


def _mapping(node: yaml.Node) -> dict[Any, Any]:
    """Return an entry's keys and values.

    Raises:
        ValueError: it has none, or one of them twice: YAML's loader would keep the last one and say nothing.
    """
    if not isinstance(node, yaml.MappingNode):
        raise ValueError("expected the keys id, package, images, reason and expires")
    loader = yaml.SafeLoader("")
    try:
        content: dict[Any, Any] = loader.construct_document(node)
    except yaml.YAMLError as error:
        raise ValueError(" ".join(str(error).split())) from None
    finally:
        loader.dispose()
    if len(content) != len(node.value):
        raise ValueError("a key is there twice")
    return content
