"""The checklist for the first live account names commands, options and files that exist."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import botocore.session
import pytest
from botocore import xform_name

from tests.unit.test_docs_of_tests import TARGETS

ROOT = Path(__file__).resolve().parents[2]
CODE = re.findall(r"`([^`\n]+)`", (ROOT / "docs" / "first-apply.md").read_text(encoding="utf-8"))
AWS = [code for code in CODE if code.startswith("aws ")]
MAKE = [code for code in CODE if code.startswith("make ")]
FILES = [code for code in CODE if re.match(r"(cloud|config|containers|dags|local|terraform)/", code)]

SERVICES = {"s3api": "s3", "service-quotas": "service-quotas"}
"""By their names in the AWS CLI, where botocore has another."""
OF_THE_CLI = {"query", "output", "region", "max-items"}


def test_there_is_something_to_check() -> None:
    assert AWS
    assert MAKE
    assert FILES


@pytest.mark.parametrize("command", AWS)
def test_aws_has_the_operation_and_its_options(command: str) -> None:
    _, service, operation, *words = shlex.split(command)
    model = botocore.session.get_session().get_service_model(SERVICES.get(service, service))
    operations = {xform_name(name, "-"): name for name in model.operation_names}
    assert operation in operations

    shape = model.operation_model(operations[operation]).input_shape
    options = {xform_name(member, "-") for member in shape.members} if shape else set()
    given = {word.removeprefix("--") for word in words if word.startswith("--")}
    assert given - OF_THE_CLI <= options
    assert {xform_name(member, "-") for member in shape.required_members} <= given if shape else True


@pytest.mark.parametrize("command", MAKE)
def test_make_has_the_target(command: str) -> None:
    assert command.split()[1] in TARGETS


@pytest.mark.parametrize("pattern", FILES)
def test_a_file_that_is_named_exists(pattern: str) -> None:
    assert list(ROOT.glob(pattern))
