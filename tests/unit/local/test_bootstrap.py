"""Setting up on a machine that lacks something, and finding all in place the second time."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from local import bootstrap

Script = Callable[[str, str], Path]


@pytest.fixture
def script(tmp_path: Path) -> Script:
    def write(name: str, body: str) -> Path:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"#!/bin/sh\n{body}\n")
        path.chmod(path.stat().st_mode | stat.S_IXUSR)
        return path

    return write


@pytest.fixture
def bare_machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Nothing on PATH, nothing in the home folder, nothing set up yet."""
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.delenv("PYENV_ROOT", raising=False)
    monkeypatch.setattr(bootstrap, "ROOT", tmp_path)
    monkeypatch.setattr(bootstrap, "LOCAL", tmp_path / ".local")
    monkeypatch.setattr(bootstrap, "ENVS", tmp_path / ".local" / "envs")
    return tmp_path


def test_uv_on_the_path_is_used(bare_machine: Path, script: Script) -> None:
    uv = script("bin/uv", "echo uv 0.13.9")
    assert bootstrap.find_or_install_uv() == uv


def test_a_uv_that_is_too_old_is_not_used(bare_machine: Path, script: Script, monkeypatch: pytest.MonkeyPatch) -> None:
    script("bin/uv", "echo uv 0.4.1")
    asked: list[tuple[object, ...]] = []

    def run(*command: object) -> str:
        asked.append(command)
        return ""

    monkeypatch.setattr(bootstrap, "run", run)
    assert bootstrap.find_or_install_uv() == bare_machine / ".local/uv/bin/uv"
    assert f"uv=={bootstrap.UV_VERSION}" in asked[-1]


def test_without_uv_and_without_venv_the_message_says_what_to_install(
    bare_machine: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*command: object, **_: object) -> str:
        raise bootstrap.SetupError("ensurepip is not available")

    monkeypatch.setattr(bootstrap, "run", fail)
    with pytest.raises(bootstrap.SetupError, match=r"uv was not found .* install uv .* or your system's python3-venv"):
        bootstrap.find_or_install_uv()


def test_a_python_under_pyenv_is_found(bare_machine: Path, script: Script, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bootstrap.sys, "executable", str(script("bin/python3", "echo 3.10")))
    script("pyenv/versions/3.12.0/bin/python", "exit 1")  # a broken one
    right = script("pyenv/versions/3.12.7/bin/python", "echo 3.12")
    monkeypatch.setenv("PYENV_ROOT", str(bare_machine / "pyenv"))
    assert bootstrap.find_or_fetch_python(Path("uv-is-not-asked")) == str(right)


def test_without_any_python_the_message_says_what_to_install(
    bare_machine: Path, script: Script, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bootstrap.sys, "executable", str(script("bin/python3", "echo 3.10")))
    uv = script("bin/uv", "echo no network >&2; exit 2")
    with pytest.raises(bootstrap.SetupError, match=r"Python 3\.12 was not found on PATH or under pyenv .* install it"):
        bootstrap.find_or_fetch_python(uv)


def test_an_environment_is_made_again_when_its_lock_changes_or_it_was_interrupted(
    bare_machine: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bootstrap, "ENVIRONMENTS", {"one": ([], "one.lock", [])})
    lock = bare_machine / "one.lock"
    lock.write_text("a==1\n")
    made: list[str] = []

    def create(name: str, uv: Path, python: str) -> None:
        made.append(name)
        (bootstrap.ENVS / name / "bin").mkdir(parents=True, exist_ok=True)
        (bootstrap.ENVS / name / "bin" / "python").touch()
        (bootstrap.ENVS / name / ".stamp").write_text(bootstrap.stamp_for(lock))

    monkeypatch.setattr(bootstrap, "create", create)
    monkeypatch.setattr(bootstrap, "find_or_install_uv", lambda: Path("uv"))
    monkeypatch.setattr(bootstrap, "find_or_fetch_python", lambda uv: "python")
    bootstrap.setup(["one"])
    bootstrap.setup(["one"])
    assert made == ["one"]
    lock.write_text("a==2\n")
    bootstrap.setup(["one"])
    assert made == ["one", "one"]
    (bootstrap.ENVS / "one" / ".stamp").unlink()
    bootstrap.setup(["one"])
    assert made == ["one", "one", "one"]


def test_an_unknown_environment_is_refused_by_name() -> None:
    done = subprocess.run(
        [sys.executable, bootstrap.__file__, "nonsense"], capture_output=True, text=True, env=dict(os.environ)
    )
    assert done.returncode == 2
    assert "unknown environment 'nonsense': choose from dev, airflow" in done.stderr


def test_no_lock_file_names_an_index() -> None:
    locks = [bootstrap.ROOT / lock for _, lock, _ in bootstrap.ENVIRONMENTS.values()]
    for lock in [*locks, *bootstrap.ROOT.glob("containers/*/requirements.lock")]:
        assert "://" not in lock.read_text(), f"{lock} would tie the project to one package index"
