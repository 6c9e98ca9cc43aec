"""The modules and roots, and a copy of them in which Terraform may leave what it leaves."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from subprocess import CompletedProcess

import pytest

from cloud.terraform import Terraform
from tests.terraform.folders import ROOT, name_of

Done = CompletedProcess[str]


class Workshop:
    """Runs Terraform's own tests in a copy of the tree, two folders at a time."""

    def __init__(self, copy: Path, pool: ThreadPoolExecutor) -> None:
        self.copy, self._pool = copy, pool
        self._tested: dict[str, Future[Done]] = {}

    def start_tests(self, folder: Path) -> Future[Done]:
        """Begin `terraform test` in the copy of a folder, unless it was begun."""
        name = name_of(folder)
        if name not in self._tested:
            self._tested[name] = self._pool.submit(self._test, name)
        return self._tested[name]

    def _test(self, name: str) -> Done:
        terraform = Terraform(self.copy / name)
        # The committed lock file has to fit; a module has none.
        locked = (self.copy / name / ".terraform.lock.hcl").exists()
        terraform.init("-backend=false", *(["-lockfile=readonly"] if locked else []))
        return terraform.run("test", check=False)


@pytest.fixture(scope="session")
def workshop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Workshop]:
    copy = tmp_path_factory.mktemp("repository")
    shutil.copytree(ROOT / "terraform", copy / "terraform", ignore=shutil.ignore_patterns(".terraform", "*.tfstate*"))
    for entry in ROOT.iterdir():
        # Modules read the DAG bundle and the configuration beside terraform/.
        if entry.name != "terraform" and not entry.name.startswith("."):
            (copy / entry.name).symlink_to(entry)
    with ThreadPoolExecutor(2) as pool:
        yield Workshop(copy, pool)
        pool.shutdown(cancel_futures=True)
