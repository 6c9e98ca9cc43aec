"""The tests' own platform, whatever this clone's is called."""

from __future__ import annotations

import pytest

from cloud.platform_file import Platform

PLATFORM = Platform(name="ml-platform", region_in_names=True)


@pytest.fixture(autouse=True)
def our_platform(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in ("access.forwards", "destroy", "environments", "images", "preflight.account"):
        monkeypatch.setattr(f"cloud.{module}.platform", lambda: PLATFORM)
