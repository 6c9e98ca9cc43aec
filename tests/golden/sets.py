"""The sets that lie beside this file, for tests in every environment. Standard library only."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class GoldenSet:
    """What one release has written."""

    folder: Path

    def read(self, name: str) -> Any:
        """Return one of the set's own JSON files."""
        return json.loads((self.folder / name).read_bytes())

    @cached_property
    def buckets(self) -> dict[str, str]:
        """Names of the buckets by purpose."""
        return dict(self.read("set.json")["buckets"])

    @cached_property
    def dataset(self) -> str:
        """That most of it is about."""
        return str(self.read("set.json")["dataset"])

    @cached_property
    def platform(self) -> dict[str, Any]:
        """The facts of the platform that it was made on."""
        return dict(self.read("platform.json"))

    def objects(self) -> Iterator[tuple[str, Path]]:
        """Yield each object's path under ``s3/``, beginning with the bucket's purpose, and its file."""
        for path in sorted(path for path in (self.folder / "s3").rglob("*") if path.is_file()):
            yield path.relative_to(self.folder / "s3").as_posix(), path

    def uri(self, name: str) -> str:
        """Return the address of an object by its path under ``s3/``."""
        purpose, _, key = name.partition("/")
        return f"s3://{self.buckets[purpose]}/{key}"

    def matching(self, pattern: str) -> list[str]:
        """Return the addresses of objects by a glob of their path under ``s3/``."""
        found = sorted((self.folder / "s3").glob(pattern))
        return [self.uri(path.relative_to(self.folder / "s3").as_posix()) for path in found]

    def put(self, s3: Any) -> None:
        """Put all objects into buckets that are made for them."""
        for bucket in self.buckets.values():
            s3.create_bucket(Bucket=bucket)
        metadata = self.read("objects.json")
        for name, path in self.objects():
            uri = self.uri(name)
            bucket, key = uri.removeprefix("s3://").split("/", 1)
            s3.put_object(Bucket=bucket, Key=key, Body=path.read_bytes(), Metadata=metadata.get(uri, {}))

    def remove(self, s3: Any) -> None:
        """Remove the buckets with all that is in them by now."""
        for bucket in self.buckets.values():
            for page in s3.get_paginator("list_objects_v2").paginate(Bucket=bucket):
                for entry in page.get("Contents", []):
                    s3.delete_object(Bucket=bucket, Key=entry["Key"])
            s3.delete_bucket(Bucket=bucket)

    def models(self) -> dict[str, Path]:
        """Return the folders of saved models by their run's id; each has ``model/`` and ``answers.json``."""
        found = sorted((self.folder / "models").glob("*/answers.json"))
        return {json.loads(path.read_bytes())["run_id"]: path.parent for path in found}

    def registered(self) -> dict[str, Any]:
        """Return what the registry says of the dataset's model: ``name``, ``aliases``, ``versions``."""
        for name, model in self.read("registry.json")["models"].items():
            if model["versions"][0]["tags"]["dataset"] == self.dataset:
                return {"name": name, **model}
        raise LookupError(f"{self.folder}: no model of {self.dataset}")


SETS = [GoldenSet(path) for path in sorted(Path(__file__).parent.glob("[0-9]*"))]
