"""Terraform's own judgement of the code: format, validity, and the tests each module brings, but for refusals.

One module alone: `make test-terraform PYTEST_ARGS="-k modules/network"`.
"""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from cloud.terraform import Terraform
from tests.terraform.conftest import Workshop
from tests.terraform.folders import ALL, ENVIRONMENTS, MODULES, ROOTS, TERRAFORM, TESTED, name_of


def test_the_format_is_terraforms_own() -> None:
    done = Terraform(TERRAFORM).run("fmt", "-check", "-recursive", "-list=true", check=False)

    assert done.returncode == 0, f"run `terraform fmt -recursive terraform`:\n{done.stdout}{done.stderr}"


def test_every_module_and_root_brings_tests() -> None:
    assert MODULES
    assert [name_of(folder) for folder in ALL if folder not in TESTED] == []


def test_every_root_has_the_same_lock_file_and_no_module_has_one() -> None:
    """The provider that all tests here run with is installed by one of them, read only."""
    assert len({(root / ".terraform.lock.hcl").read_text(encoding="utf-8") for root in ROOTS}) == 1
    assert [name_of(module) for module in MODULES if (module / ".terraform.lock.hcl").exists()] == []


@pytest.mark.parametrize("folder", TESTED, ids=name_of)
def test_its_own_tests_pass(workshop: Workshop, folder: Path, request: pytest.FixtureRequest) -> None:
    """`terraform test` validates the code before it runs anything."""
    # The next ones run while this one is waited for.
    wanted = [found for item in request.session.items if (found := _folder_tested_by(item))]
    for following in wanted[wanted.index(folder) :][:3]:
        workshop.start_tests(following)

    done = workshop.start_tests(folder).result()

    assert done.returncode == 0, f"{done.stdout}{done.stderr}"
    passed = re.search(r"Success! (\d+) passed, 0 failed", done.stdout)
    assert passed, done.stdout
    assert int(passed.group(1)) > 0


def test_there_are_three_environments() -> None:
    assert [folder.name for folder in ENVIRONMENTS] == ["dev", "prod", "staging"]


def _folder_tested_by(item: pytest.Item) -> Path | None:
    if isinstance(item, pytest.Function) and item.originalname == test_its_own_tests_pass.__name__:
        folder = item.callspec.params["folder"]
        assert isinstance(folder, Path)
        return folder
    return None
