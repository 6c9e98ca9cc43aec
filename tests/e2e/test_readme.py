"""The README's commands are the ones that were run."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from local.pipeline.attached import AttachedPlatform
from tests import readme
from tests.e2e.support import ROOT, Shell

# `make test` runs this very test; the last line of the README's story is run when the session ends; test_story.py asks
# for the status, which fails where a test before has left something wrong.
RUN_ELSEWHERE = {"make test", "make local-down", "make status"}
OTHER_DEMOS = [command for command in readme.commands(in_aws=False) if command.startswith("make demo ")]


def test_every_command_of_the_readme_works(
    demo: subprocess.CompletedProcess[str], platform: AttachedPlatform, shell: Shell
) -> None:
    commands = readme.commands(in_aws=False)
    assert {"make demo", "make test"} <= set(commands)
    for command in commands:
        if command in RUN_ELSEWHERE or command in shell.ran or command in OTHER_DEMOS:
            continue
        done = shell(command, timeout=120)
        assert done.returncode == 0, f"{command}\n{done.stdout}"


@pytest.mark.replaces_platform
@pytest.mark.parametrize("command", OTHER_DEMOS)
def test_the_demo_tells_of_other_datasets_and_families(command: str, shell: Shell) -> None:
    """On a new platform, which takes the place of the one before, as it does for a reader."""
    told = shell(command)
    assert told.returncode == 0, told.stdout
    summary = told.stdout[told.stdout.index("Summary") :]
    assert summary.count("Decision of demo-") == 3
    for part in ("Deployments", "Audit log", "Examples the model never saw"):
        assert part in summary
    assert "Live: " in summary


def test_make_test_runs_every_folder_of_tests() -> None:
    recipes = (ROOT / "Makefile").read_text(encoding="utf-8")
    goals = recipes.partition("\ntest: ")[2].partition("##")[0].split()
    for folder in sorted(path for path in (ROOT / "tests").iterdir() if any(path.glob("**/test_*.py"))):
        assert f"test-{folder.name}" in goals, f"tests/{folder.name} is not part of `make test`"


def test_links_in_the_documents_lead_somewhere() -> None:
    import re

    missing = []
    for document in ROOT.glob("**/*.md"):
        if any(part.startswith(".") for part in document.relative_to(ROOT).parts):
            continue
        for link in re.findall(r"\]\((?!https?://|#)([^)#]+)", document.read_text(encoding="utf-8")):
            if not (document.parent / link).exists():
                missing.append(f"{Path(document).relative_to(ROOT)}: {link}")
    assert not missing
