"""One emulated account, bootstrapped once, in which the environments asked for are applied side by side."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.emulated.support import ENVIRONMENTS, Stories, Story


@pytest.fixture(scope="session")
def stories(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stories]:
    # Only what the selected tests are about: with `-k dev` nothing else is applied.
    wanted = {
        item.callspec.params["name"]
        for item in request.session.items
        if hasattr(item, "callspec") and "name" in item.callspec.params
    }
    made = Stories(tmp_path_factory.mktemp("emulated"), [name for name in ENVIRONMENTS if name in wanted])
    try:
        made.prepare()
        yield made
    finally:
        made.stop()
        for story in made.stories.values():
            print(f"\n{story.name}: {story.seconds}", end="")
        print(f"\nbootstrap: {made.bootstrap_seconds} s")


@pytest.fixture
def story(stories: Stories, name: str) -> Story:
    """An environment that is applied."""
    return stories.applied(name)


@pytest.fixture
def destroyed(stories: Stories, name: str) -> Story:
    """An environment that was applied and is destroyed; comes last, as it takes all of them down."""
    stories.all_applied()
    return stories.destroyed(name)
