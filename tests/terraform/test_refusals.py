"""What variables refuse. One module alone: `make test-terraform PYTEST_ARGS="-k 'refuse and modules/network'"`."""

from __future__ import annotations

from pathlib import Path

import pytest

from cloud.module_docs import read_module
from cloud.terraform import Terraform
from tests.terraform.folders import ALL, ROOT, name_of
from tests.terraform.refusals import REFUSALS, REFUSING, copy_variables, refusing_alone, validations

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


def test_a_validation_without_a_test_is_found(provider: dict[str, str], tmp_path: Path) -> None:
    """Both refuse a long name with capitals, and only one of them a name with capitals."""
    (tmp_path / "variables.tf").write_text(
        """
variable "name" {
  type = string

  validation {
    condition     = length(var.name) <= 8
    error_message = "too long"
  }

  validation {
    condition     = lower(var.name) == var.name
    error_message = "has capitals"
  }
}
""",
        encoding="utf-8",
    )
    (tmp_path / "tests").mkdir()
    (tmp_path / "tests" / REFUSALS).write_text(
        """
run "capitals" {
  command = plan

  variables {
    name = "Capitals"
  }

  expect_failures = [var.name]
}

run "many_capitals" {
  command = plan

  variables {
    name = "Many-Capitals"
  }

  expect_failures = [var.name]
}
""",
        encoding="utf-8",
    )

    assert {one.message for one in refusing_alone(tmp_path, provider)} == {"has capitals"}
