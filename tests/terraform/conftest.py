"""Copies of the tree in which Terraform may leave what it leaves, and the one provider for all of them."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from subprocess import CompletedProcess

import pytest

from cloud.terraform import Terraform
from tests.provider import install, running
from tests.terraform.folders import ROOT, name_of
from tests.terraform.refusals import REFUSALS

Done = CompletedProcess[str]


class Workshop:
    """Runs the tests of modules and roots that need what Terraform would make, two folders at a time."""

    def __init__(self, copy: Path, environment: dict[str, str], pool: ThreadPoolExecutor) -> None:
        self.copy, self._environment, self._pool = copy, environment, pool
        self._tested: dict[str, Future[Done]] = {}

    def start_tests(self, folder: Path) -> Future[Done]:
        """Begin `terraform test` in the copy of a folder, unless it was begun."""
        name = name_of(folder)
        if name not in self._tested:
            self._tested[name] = self._pool.submit(self._test, name)
        return self._tested[name]

    def _test(self, name: str) -> Done:
        terraform = Terraform(self.copy / name, self._environment)
        terraform.init("-backend=false")
        return terraform.run("test", check=False)


@pytest.fixture(scope="session")
def provider(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """The environment of Terraform commands that share a provider; nothing here gives it a configuration."""
    with running(install(tmp_path_factory.mktemp("provider"))) as environment:
        yield environment


@pytest.fixture(scope="session")
def workshop(tmp_path_factory: pytest.TempPathFactory, provider: dict[str, str]) -> Iterator[Workshop]:
    copy = tmp_path_factory.mktemp("repository")
    left_out = shutil.ignore_patterns(".terraform", "*.tfstate*", REFUSALS)
    shutil.copytree(ROOT / "terraform", copy / "terraform", ignore=left_out)
    for entry in ROOT.iterdir():
        # Modules read the DAG bundle and the configuration beside terraform/.
        if entry.name != "terraform" and not entry.name.startswith("."):
            (copy / entry.name).symlink_to(entry)
    with ThreadPoolExecutor(2) as pool:
        yield Workshop(copy, provider, pool)
        pool.shutdown(cancel_futures=True)
