"""Refusals of variables, without what the variables are for.

What a variable refuses is decided by its own file, so the tests of it (`tests/refusals.tftest.hcl` of each module) run
on a copy that has no resources: nothing is planned and no provider asked, which makes them fifty a second.
"""

from __future__ import annotations

import json
import re
import shutil
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from cloud.terraform import Terraform
from tests.terraform.folders import TERRAFORM, TESTED

REFUSALS = "refusals.tftest.hcl"
REFUSING = [folder for folder in TESTED if (folder / "tests" / REFUSALS).exists()]
_KEPT = {"variables.tf", "choices.tf", REFUSALS}
_VARIABLE = re.compile(r'^variable "(\w+)" \{\n.*?^\}\n', re.MULTILINE | re.DOTALL)
_VALIDATION = re.compile(r'^  validation \{\n.*?^    error_message = "(.*?)"\n  \}\n', re.MULTILINE | re.DOTALL)
_EXPECTATION = re.compile(r"^  expect_failures = \[.*?\]\n", re.MULTILINE | re.DOTALL)
_RULE = re.compile(r"This was checked by the validation rule at variables\.tf:(\d+),")


@dataclass(frozen=True)
class Validation:
    """A validation block of a variable."""

    variable: str
    message: str


def copy_variables(to: Path) -> None:
    """Copy `terraform/` with the variables of its modules and roots and the tests of their refusals, and no more."""

    def left_out(_: str, names: Iterable[str]) -> set[str]:
        return {name for name in names if name.endswith((".tf", ".tftest.hcl")) and name not in _KEPT} | {".terraform"}

    shutil.copytree(TERRAFORM, to, ignore=left_out)


def validations(folder: Path) -> dict[int, Validation]:
    """Return the validations of a folder's variables, by the line on which each begins."""
    text = (folder / "variables.tf").read_text(encoding="utf-8")
    return {
        text.count("\n", 0, variable.start() + found.start()) + 1: Validation(variable[1], found[1])
        for variable in _VARIABLE.finditer(text)
        for found in _VALIDATION.finditer(variable[0])
    }


def refusing_alone(folder: Path, environment: dict[str, str]) -> set[Validation]:
    """Return the validations of a copied folder without which some of its tests would fail.

    A test only says which variable has to refuse. So each is run without its expectation, when Terraform tells by which
    rule it was refused; and in a file of its own, as Terraform leaves a file at the first test that fails.
    """
    written = (folder / "tests" / REFUSALS).read_text(encoding="utf-8")
    shared, *runs = re.split(r"^(?=run )", written, flags=re.MULTILINE)
    (folder / "alone").mkdir()
    for number, run in enumerate(runs):
        (folder / "alone" / f"{number}.tftest.hcl").write_text(shared + _EXPECTATION.sub("", run), encoding="utf-8")
    said = Terraform(folder, environment).run("test", "-test-directory=alone", "-json", check=False).stdout

    rules = validations(folder)
    refused: dict[tuple[str, str], set[Validation]] = defaultdict(set)
    for entry in map(json.loads, said.splitlines()):
        if rule := _RULE.search(entry.get("diagnostic", {}).get("detail", "")):
            validation = rules[int(rule[1])]
            refused[entry["@testrun"], validation.variable].add(validation)
    return {validation for found in refused.values() if len(found) == 1 for validation in found}
