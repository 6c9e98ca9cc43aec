"""Every document of a set is read by its schema, and says the same as it did."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest
from pydantic import BaseModel

from tests.golden.sets import GoldenSet
from tests.unit.golden.conftest import World
from tests.unit.golden.present import SCHEMAS, storage


def schema_of(name: str) -> type[BaseModel] | None:
    """Return the schema of an object by its path under ``s3/``."""
    found = [schema for pattern, schema in SCHEMAS.items() if re.fullmatch(pattern, name)]
    assert len(found) == 1, f"{name}: {len(found)} patterns of SCHEMAS match it, and it should be one"
    return found[0]


def documents(golden: GoldenSet) -> dict[str, type[BaseModel]]:
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
        assert not lost(json.loads((golden.folder / "s3" / name).read_bytes()), read), name


@pytest.mark.xfail(strict=True, reason="documents refuse keys that they do not know")
def test_a_key_that_a_later_release_adds_is_passed_over(world: World) -> None:
    golden = world.golden
    refused = []
    for name, schema in documents(golden).items():
        content = json.loads((golden.folder / "s3" / name).read_bytes())
        uri = f"s3://{golden.buckets['data']}/later/{name}"
        storage.write_bytes(uri, json.dumps({**content, "of_a_later_release": 1}).encode())
        try:
            storage.read_document(uri, schema)
        except storage.StorageError as error:
            refused.append(str(error))
    assert not refused
