"""checkov over the code. What it may find stands in the exceptions file, with a reason."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from fnmatch import fnmatchcase
from pathlib import Path

import pytest

from tests.policies.policies import ROOT, CheckovException, load_file

CHECKOV = ROOT / ".local" / "envs" / "checkov" / "bin" / "checkov"
Failure = tuple[str, str]
"""Check and resource."""


def run_checkov(folder: Path) -> dict[Failure, str]:
    """Return the checks that fail, with what each asks for."""
    if not CHECKOV.exists():
        pytest.fail(f"{CHECKOV} is missing: run `make setup`")
    command = [str(CHECKOV), "--directory", str(folder), "--framework", "terraform", "--output", "json", "--quiet"]
    # It works from what it brings: nothing is fetched, nothing is sent.
    command += ["--skip-download", "--download-external-modules", "false"]
    done = subprocess.run(command, capture_output=True, text=True, env=os.environ | {"LOG_LEVEL": "ERROR"}, cwd=folder)
    assert done.returncode in (0, 1), done.stderr
    report = json.loads(done.stdout)
    assert report["summary"]["parsing_errors"] == 0, report["results"]["parsing_errors"]
    assert report["summary"]["resource_count"] > 0
    assert report["summary"]["skipped"] == 0, "a skip belongs into the exceptions file, not into the code"
    return {(entry["check_id"], entry["resource"]): entry["check_name"] for entry in report["results"]["failed_checks"]}


def covers(exception: CheckovException, failure: Failure) -> bool:
    check, resource = failure
    return exception.check == check and any(
        fnmatchcase(resource, pattern.replace("[", "[[]")) for pattern in exception.resources
    )


# Beside the code, so that one run says of both.
OPEN_PORT = """
resource "aws_security_group_rule" "open" {
  type              = "ingress"
  from_port         = 22
  to_port           = 22
  protocol          = "tcp"
  cidr_blocks       = ["0.0.0.0/0"]
  security_group_id = "sg-0"
}
"""


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> dict[Failure, str]:
    folder = tmp_path_factory.mktemp("checkov")
    shutil.copytree(ROOT / "terraform", folder / "terraform", ignore=shutil.ignore_patterns(".terraform"))
    (folder / "open").mkdir()
    (folder / "open" / "main.tf").write_text(OPEN_PORT, encoding="utf-8")
    return run_checkov(folder)


@pytest.fixture(scope="module")
def failures(found: dict[Failure, str]) -> dict[Failure, str]:
    """What it finds in the code."""
    return {failure: asked for failure, asked in found.items() if failure[1] != "aws_security_group_rule.open"}


def test_checkov_finds_nothing_else(failures: dict[Failure, str]) -> None:
    exceptions = load_file().checkov
    left = [
        f"{check}: {resource}: {asked}"
        for (check, resource), asked in failures.items()
        if not any(covers(exception, (check, resource)) for exception in exceptions)
    ]

    assert not left, "\n".join(sorted(left))


def test_no_exception_is_idle(failures: dict[Failure, str]) -> None:
    idle = [
        f"{exception.check}: {pattern}: nothing needs it"
        for exception in load_file().checkov
        for pattern in exception.resources
        if not any(covers(exception.model_copy(update={"resources": (pattern,)}), failure) for failure in failures)
    ]

    assert not idle, "\n".join(idle)


def test_checkov_sees_an_open_port(found: dict[Failure, str]) -> None:
    assert ("CKV_AWS_24", "aws_security_group_rule.open") in found
