"""Every document of a set is read by its schema, and says the same as it did."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

import pytest
from pydantic import BaseModel

from mlplatform import storage
from mlplatform.errors import NewerReleaseError
from tests.golden.sets import GoldenSet
from tests.unit.golden.conftest import World
from tests.unit.golden.present import SCHEMAS, Profiles


def schema_of(name: str) -> type[BaseModel] | None:
    """Return the schema of an object by its path under ``s3/``."""
    found = [schema for pattern, schema in SCHEMAS.items() if re.fullmatch(pattern, name)]
    assert len(found) == 1, f"{name}: {len(found)} patterns of SCHEMAS match it, and it should be one"
    return found[0]


def documents(golden: GoldenSet) -> dict[str, type[Any]]:
    return {name: schema for name, _ in golden.objects() if (schema := schema_of(name)) is not None}


def lost(written: Any, read: Any, path: str = "") -> list[str]:
    """Return where what was read does not have what was written; what it has besides is no matter."""
    if isinstance(written, dict) and isinstance(read, dict):
        gone = [f"{path}.{key}" for key in written.keys() - read.keys()]
        return gone + [
            line for key in written.keys() & read.keys() for line in lost(written[key], read[key], f"{path}.{key}")
        ]
    if isinstance(written, list) and isinstance(read, list) and len(written) == len(read):
        return [line for i, pair in enumerate(zip(written, read, strict=True)) for line in lost(*pair, f"{path}[{i}]")]
    return [] if written == read else [f"{path}: {written!r} became {read!r}"]


def test_every_kind_of_document_is_there(golden: GoldenSet) -> None:
    names = [name for name, _ in golden.objects()]
    missing = [pattern for pattern in SCHEMAS if not any(re.fullmatch(pattern, name) for name in names)]
    assert not missing, "a set without them proves nothing about them"


def test_every_document_is_read_and_says_what_it_said(world: World) -> None:
    golden = world.golden
    for name, schema in documents(golden).items():
        document = storage.read_document(golden.uri(name), schema)
        read = json.loads(document.model_dump_json(by_alias=True))
        written = json.loads((golden.folder / "s3" / name).read_bytes())
        for one in written.values() if schema is Profiles else (written,):
            one.pop("version" if isinstance(one.get("version"), int) else "schema_version", None)  # this release's now
        assert not lost(written, read), name


def models_in(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Yield where there are models in a document, itself included; people's schemas that it embeds are some."""
    if isinstance(value, BaseModel):
        yield path
        for name in type(value).model_fields:
            yield from models_in(getattr(value, name), (*path, name))
    elif isinstance(value, list | tuple):
        for index, one in enumerate(value):
            yield from models_in(one, (*path, index))
    elif isinstance(value, dict):
        for key, one in value.items():
            yield from models_in(one, (*path, key))


def test_a_field_that_a_later_release_adds_anywhere_is_passed_over(world: World) -> None:
    golden, added = world.golden, 0
    for name, schema in documents(golden).items():
        document = storage.read_document(golden.uri(name), schema)
        content = json.loads((golden.folder / "s3" / name).read_bytes())
        for path in models_in(document.root if schema is Profiles else document):
            here = content
            for part in path:
                here = here[part] if isinstance(here, list) else here.get(part)
                if here is None:
                    break  # a default of this release
            else:
                here["of_a_later_release"] = {"nested": [1]}
                added += 1
        assert schema.read(json.dumps(content), name) == document
    assert added > 500


def test_a_document_of_a_later_version_is_refused_in_one_sentence(world: World) -> None:
    golden = world.golden
    for name, schema in documents(golden).items():
        content = json.loads((golden.folder / "s3" / name).read_bytes())
        if schema is Profiles:
            content = {table: {**one, "schema_version": 99} for table, one in content.items()}
        else:
            content["schema_version"] = 99
        with pytest.raises(
            NewerReleaseError, match=r"a newer release wrote it \(\w+ in schema version 99; .* up to \d"
        ):
            schema.read(json.dumps(content), name)
