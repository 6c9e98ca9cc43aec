"""One home for the whole session: the README's commands start and stop the one platform in it."""

from __future__ import annotations

import os
import re
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from local.pipeline import driver
from local.pipeline.attached import AttachedPlatform
from local.platform.home import Home
from tests.e2e.support import Kubernetes, Shell, is_open, ports_of, processes_of


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Let the first test, whichever it is, wait for the demo as long as the command itself may take.

    Other demos come last: each replaces the platform that the other tests use.
    """
    for item in items:
        if item.path.parent == Path(__file__).parent:
            item.add_marker(pytest.mark.timeout(1500))
    items.sort(key=lambda item: item.get_closest_marker("replaces_platform") is not None)


@pytest.fixture(scope="session")
def shell() -> Iterator[Shell]:
    """A reader's shell; what the README's commands have started, its last one stops when all tests are done."""
    # Short, because a socket's path in it may not be longer than 107 characters.
    with tempfile.TemporaryDirectory(prefix="mlp-") as home:
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("MAKE", "MFLAGS", "PYTHON"))}
        shell = Shell(kept | {"ML_PLATFORM_HOME": home})
        try:
            yield shell
        finally:
            _stop(shell, Path(home))


def _stop(shell: Shell, home: Path) -> None:
    demos = [done for command, done in shell.ran.items() if command.startswith("make demo")]
    ports = ports_of(home)
    stopped = shell("make local-down")
    left = processes_of(home)
    assert stopped.returncode == 0, stopped.stdout
    assert ports or all(demo.returncode != 0 for demo in demos[-1:]), (
        "a running platform listens somewhere: this check would see nothing"
    )
    assert not left, f"local-down left processes: {left}"
    assert not (open_ports := [port for port in ports if is_open(port)]), f"local-down left open: {open_ports}"


@pytest.fixture(scope="session")
def demo(shell: Shell) -> subprocess.CompletedProcess[str]:
    """The README's first command; its platform stays up for the tests."""
    return shell("make demo")


@pytest.fixture(scope="session")
def platform(demo: subprocess.CompletedProcess[str], shell: Shell) -> AttachedPlatform:
    assert demo.returncode == 0, f"make demo failed:\n{demo.stdout}"
    return AttachedPlatform(Home(Path(shell.environment["ML_PLATFORM_HOME"])))


@pytest.fixture(autouse=True)
def _clean_slate(request: pytest.FixtureRequest) -> Iterator[None]:
    """No test finds another's faults or files."""
    yield
    if "platform" in request.fixturenames:
        platform: AttachedPlatform = request.getfixturevalue("platform")
        for key in platform.keys("", platform.landing):
            platform.s3.delete_object(Bucket=platform.landing, Key=key)
        Kubernetes(platform).clear_faults()
        httpx.delete(f"{platform.addresses['aws']}/_local/faults").raise_for_status()


@pytest.fixture(scope="session")
def kubernetes(platform: AttachedPlatform) -> Kubernetes:
    return Kubernetes(platform)


Runner = Callable[..., driver.RunReport]


@pytest.fixture
def run_pipeline(platform: AttachedPlatform, request: pytest.FixtureRequest) -> Runner:
    """Trigger a run, land files once it waits for them, and follow it to its end."""

    def run(land: dict[str, bytes] | None = None, timeout: float = 600, **params: Any) -> driver.RunReport:
        run_id = driver.unique_run_id(re.sub(r"\W+", "-", request.node.name)[:60])
        wait = land is not None
        driver.trigger(platform, "flights", run_id, wait_for_new_data=wait, **params)
        if land is not None:
            driver.wait_until_waiting(platform, "flights", run_id)
            for key, body in land.items():
                platform.s3.put_object(Bucket=platform.landing, Key=key, Body=body)
        return driver.follow(platform, "flights", run_id, timeout)

    return run
