"""What variables refuse. One module alone: `make test-terraform PYTEST_ARGS="-k 'refuse and modules/network'"`."""

from __future__ import annotations

from pathlib import Path

import pytest

from cloud.module_docs import read_module
from cloud.terraform import Terraform
from tests.terraform.folders import ALL, ROOT, name_of
from tests.terraform.refusals import REFUSING, copy_variables, refusing_alone, validations

# There for their message: what they refuse, others of their variable refuse too.
IMPLIED = {"system_node_group.max_size must be at least 1; EKS takes no smaller one."}


@pytest.fixture(scope="module")
def copy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The variables of all modules and roots, without what they are for."""
    folder = tmp_path_factory.mktemp("variables")
    copy_variables(folder / "terraform")
    (folder / "dags").symlink_to(ROOT / "dags")
    return folder


@pytest.mark.parametrize("folder", REFUSING, ids=name_of)
def test_what_is_wrong_is_refused(copy: Path, provider: dict[str, str], folder: Path) -> None:
    done = Terraform(copy / name_of(folder), provider).run("test", check=False)

    assert done.returncode == 0, f"{done.stdout}{done.stderr}"
    assert " passed, 0 failed" in done.stdout


@pytest.mark.parametrize("folder", REFUSING, ids=name_of)
def test_every_validation_refuses_what_no_other_does(copy: Path, provider: dict[str, str], folder: Path) -> None:
    """So none can be broken or taken away without a test that fails."""
    found = set(validations(folder).values())
    assert len(found) == declared(folder)

    idle = {one.message for one in found - refusing_alone(copy / name_of(folder), provider)} - IMPLIED

    assert not idle, f"add a run to {name_of(folder)}/tests/refusals.tftest.hcl for each"


@pytest.mark.parametrize("folder", [folder for folder in ALL if folder not in REFUSING], ids=name_of)
def test_others_refuse_nothing(folder: Path) -> None:
    assert declared(folder) == 0, "add tests/refusals.tftest.hcl"


def declared(folder: Path) -> int:
    """How many validations a folder's variables have."""
    return sum(variable.validations for variable in read_module(folder).variables)
