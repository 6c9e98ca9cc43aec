"""What becomes of a platform that runs already when another start is asked for. Nothing is started here."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
import typer

from local import cli
from local.platform import control
from local.platform.control import Report
from local.platform.home import Home, PlatformError
from local.platform.state import PlatformState, ProcessId

RUNS = ProcessId(pid=os.getpid(), create_time=1.0)


@pytest.fixture
def done(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What is done to the platform, in order."""
    done: list[str] = []
    monkeypatch.setattr(control, "supervisor", lambda home: RUNS)
    monkeypatch.setattr(control, "stop", lambda home: done.append("stop"))

    def launch(home: Home) -> ProcessId:
        done.append("launch")
        return RUNS

    monkeypatch.setattr(control, "launch", launch)
    monkeypatch.setattr(control, "refresh", lambda home, state: done.append("refresh"))
    monkeypatch.setattr(cli, "_follow", lambda home, identity: identity)
    monkeypatch.setattr(cli, "_print_report", lambda report: done.append("up" if report.up else "unwell"))
    return done


def state() -> PlatformState:
    return PlatformState(home="h", phase="running", supervisor=RUNS, started_at=1.0)


def found(monkeypatch: pytest.MonkeyPatch, *problems: str) -> Report:
    known = state()
    report = Report(home="h", up=not problems, summary="", problems=dict.fromkeys(problems, "not well"), state=known)
    monkeypatch.setattr(control, "inspect", lambda home: report)
    monkeypatch.setattr(cli, "read_state", lambda path: known)
    return report


def adopt(tmp_path: Path) -> Any:
    return cli._adopt_or_start(Home(tmp_path), fresh=False)


def test_a_healthy_platform_is_kept(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, done: list[str]) -> None:
    found(monkeypatch)
    adopt(tmp_path)
    assert done == ["refresh", "up"]


def test_a_broken_platform_is_replaced(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, done: list[str]) -> None:
    found(monkeypatch, "dags", "scheduler")
    adopt(tmp_path)
    assert done == ["stop", "launch"]


def test_a_platform_that_has_not_read_a_new_dataset_is_kept_and_waited_for(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, done: list[str]
) -> None:
    well = found(monkeypatch)
    found(monkeypatch, "dags")
    monkeypatch.setattr(control, "read_dags", lambda home, state: well)
    adopt(tmp_path)
    assert done == ["refresh", "up"]


def test_dags_that_stay_unwell_are_told_and_the_platform_is_kept(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, done: list[str]
) -> None:
    unwell = found(monkeypatch, "dags")
    monkeypatch.setattr(control, "read_dags", lambda home, state: unwell)
    with pytest.raises(typer.Exit):
        adopt(tmp_path)
    assert done == ["refresh", "unwell"]


def test_a_mistake_in_the_configuration_stops_nothing(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, done: list[str]
) -> None:
    def refused(home: Home, state: PlatformState) -> None:
        raise PlatformError("config/models/x.yaml: name: Field required")

    found(monkeypatch, "dags")
    monkeypatch.setattr(control, "refresh", refused)
    with pytest.raises(PlatformError):
        adopt(tmp_path)
    assert done == []
