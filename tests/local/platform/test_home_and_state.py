from __future__ import annotations

import os
from pathlib import Path

import pytest

from local.platform.home import DEFAULT_HOME, Home, PlatformError
from local.platform.processes import find, identify, tail
from local.platform.state import PlatformState, ProcessId, ServiceState, read_state, write_state


def test_the_home_is_the_option_then_the_variable_then_the_default(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ML_PLATFORM_HOME", str(tmp_path / "variable"))
    assert Home.resolve(tmp_path / "option").root == tmp_path / "option"
    assert Home.resolve().root == tmp_path / "variable"
    monkeypatch.setenv("ML_PLATFORM_HOME", "")
    assert Home.resolve().root == DEFAULT_HOME


def test_a_folder_with_somebody_elses_files_is_refused(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("years of work")
    with pytest.raises(PlatformError, match="files that are not a local platform's"):
        Home(tmp_path).claim()
    assert (tmp_path / "thesis.tex").exists()


def test_a_file_in_place_of_the_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "home").touch()
    with pytest.raises(PlatformError, match="is not a folder"):
        Home(tmp_path / "home").claim()


def test_a_wiped_home_keeps_logs_and_nothing_else(tmp_path: Path) -> None:
    home = Home(tmp_path / "home")
    home.claim()
    home.rotate_logs()
    home.log("mlflow").write_text("first")
    (home.folder("postgres") / "data").mkdir(parents=True)
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "precious").touch()
    (home.root / "link").symlink_to(outside)
    home.rotate_logs()
    home.wipe()
    home.claim()  # still ours
    assert (home.logs / "previous" / "mlflow.log").read_text() == "first"
    assert not home.folder("postgres").exists()
    assert not (home.root / "link").is_symlink()
    assert (outside / "precious").exists()


def test_only_the_last_platforms_logs_are_kept(tmp_path: Path) -> None:
    home = Home(tmp_path / "home")
    home.claim()
    for name in ("first", "second", "third"):
        home.rotate_logs()
        home.log(name).touch()
    assert [path.name for path in home.logs.glob("*.log")] == ["third.log"]
    assert [path.name for path in (home.logs / "previous").iterdir()] == ["second.log"]


def example_state() -> PlatformState:
    return PlatformState(
        home="/somewhere",
        phase="running",
        supervisor=ProcessId(pid=1, create_time=2.0),
        started_at=3.0,
        services={
            "mlflow": ServiceState(state="healthy", since=4.0, log="/somewhere/logs/mlflow.log", port=5000),
            "airflow": ServiceState(state="crashed", since=5.0, log="/somewhere/logs/airflow.log", error="signal 9"),
        },
    )


def test_state_survives_the_file(tmp_path: Path) -> None:
    state = example_state()
    write_state(tmp_path / "state.json", state)
    assert read_state(tmp_path / "state.json") == state
    assert list(state.broken) == ["airflow"]
    assert [path.name for path in tmp_path.iterdir()] == ["state.json"]


@pytest.mark.parametrize("content", ["", "{", "[]", '{"version": 2}'])
def test_a_state_nobody_understands_counts_as_none(tmp_path: Path, content: str) -> None:
    (tmp_path / "state.json").write_text(content)
    assert read_state(tmp_path / "state.json") is None
    assert read_state(tmp_path / "missing.json") is None


def test_a_process_with_a_reused_number_is_another_process() -> None:
    own = identify(os.getpid())
    assert own is not None
    assert find(own) is not None
    assert find(ProcessId(pid=own.pid, create_time=own.create_time - 60)) is None
    assert find(None) is None


def test_tail_of_long_short_and_missing_files(tmp_path: Path) -> None:
    path = tmp_path / "log"
    assert tail(path, 5) == ""
    path.write_text("one\ntwo\nthree\n")
    assert tail(path, 2) == "two\nthree"
    assert tail(path, 50) == "one\ntwo\nthree"
    path.write_bytes(b"\xff" * 100_000 + b"\nend\n")
    assert tail(path, 1) == "end"
