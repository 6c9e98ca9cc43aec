"""Every test here runs once for each set."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from moto import mock_aws

from mlplatform import storage
from mlplatform.config.environment import Settings
from mlplatform.promotion import registry
from tests.golden.sets import SETS, GoldenSet
from tests.unit.golden.present import use_bundle
from tests.unit.golden.registry import Registry

ROOT = Path(__file__).parents[3]


@pytest.fixture(scope="session", params=SETS, ids=lambda found: found.folder.name)
def golden(request: pytest.FixtureRequest) -> GoldenSet:
    found: GoldenSet = request.param
    return found


@dataclass(frozen=True)
class World:
    """The platform that a set was made on, as it was left."""

    golden: GoldenSet
    settings: Settings
    registry: Registry
    s3: Any

    def keys(self, purpose: str) -> dict[str, str]:
        """Return the digest of each object of a bucket by key."""
        listed = self.s3.get_paginator("list_objects_v2").paginate(Bucket=self.golden.buckets[purpose])
        return {entry["Key"]: entry["ETag"] for page in listed for entry in page.get("Contents", [])}


@pytest.fixture(scope="module")
def world(golden: GoldenSet, tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """Today's code, with yesterday's objects in S3 and versions in the registry; tests add to them, and change none."""
    bundle = tmp_path_factory.mktemp("bundle")
    (bundle / "config").symlink_to(ROOT / "config")
    (bundle / "platform.json").write_text(json.dumps(golden.platform))
    known = Registry(golden.read("registry.json"))
    with pytest.MonkeyPatch.context() as patch:
        for name in ("ACCESS_KEY_ID", "SECRET_ACCESS_KEY"):
            patch.setenv(f"AWS_{name}", "testing")
        patch.setenv("AWS_DEFAULT_REGION", "us-east-1")
        patch.delenv("AWS_ENDPOINT_URL", raising=False)
        patch.setattr(registry, "client", lambda uri: known)
        storage.client.cache_clear()
        with mock_aws():
            golden.put(storage.client())
            yield World(golden, use_bundle(bundle, patch), known, storage.client())
        storage.client.cache_clear()
