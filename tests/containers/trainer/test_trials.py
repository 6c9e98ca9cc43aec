"""What a trial goes on from: the notes beside its state."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from trainer.budget import Budget
from trainer.checkpoints import Checkpoints
from trainer.tracking import TrialRun
from trainer.trials import CheckpointSchedule, Clock, TrialSession


class Charts:
    """A trial's run in MLflow."""

    def __init__(self) -> None:
        self.points: dict[int, dict[str, float]] = {}
        self.metrics = SimpleNamespace(add=self.points.__setitem__)

    def logged_steps(self, name: str) -> set[int]:
        return {step for step, point in self.points.items() if name in point}


class Attempt:
    """An attempt at one trial, which saves its state after each step."""

    def __init__(self, checkpoints: Checkpoints, folder: Path) -> None:
        folder.mkdir()
        self.charts, self.clock = Charts(), Clock(1, clock=lambda: 0.0)
        self.session = TrialSession(
            label="trial 3",
            metric="roc_auc",
            folder=folder,
            run=cast("TrialRun", self.charts),
            checkpoints=checkpoints,
            record=None,
            budget=Budget(None, "s3://data/r/train/000"),
            clock=self.clock,
            schedule=CheckpointSchedule(0, stopping=lambda: False),
        )


@pytest.fixture
def checkpoints(request: pytest.FixtureRequest, tmp_path: Path) -> Checkpoints:
    return Checkpoints(f"s3://data/trials/{request.node.name}", "abc123", tmp_path)


def save(folder: Path) -> None:
    (folder / "weights").write_text("after 1")


def rewrite(checkpoints: Checkpoints, folder: Path, **changes: Any) -> None:
    """Save the last state as another release writes its notes."""
    step = checkpoints.restore(folder)
    assert step is not None
    notes = json.loads((folder / "notes.json").read_text()) | changes

    def write(target: Path) -> None:
        (target / "notes.json").write_text(json.dumps(notes))
        (folder / "state").rename(target / "state")

    checkpoints.save(step, write)


def test_an_attempt_goes_on_where_the_one_before_was(checkpoints: Checkpoints, tmp_path: Path) -> None:
    first = Attempt(checkpoints, tmp_path / "first")
    assert first.session.resume() is None
    first.clock.start()
    first.clock.add_earlier(5.0)
    first.session.step(0, {"roc_auc": 0.6, "train_roc_auc": float("nan")}, save)
    first.session.step(1, {"roc_auc": 0.7}, save)
    second = Attempt(checkpoints, tmp_path / "second")
    state = second.session.resume()
    assert state is not None
    assert (state / "weights").read_text() == "after 1"
    assert second.clock.seconds == 5.0
    assert second.session.history == first.session.history
    # Its run has none of the metrics, as after a kill before they were sent.
    assert second.charts.points == {0: {"validation/roc_auc": 0.6}, 1: {"validation/roc_auc": 0.7}}


def test_what_a_later_release_notes_of_a_trial_is_ignored(checkpoints: Checkpoints, tmp_path: Path) -> None:
    first = Attempt(checkpoints, tmp_path / "first")
    first.session.step(1, {"roc_auc": 0.7}, save)
    rewrite(checkpoints, tmp_path / "other", node="gpu-1")
    second = Attempt(checkpoints, tmp_path / "second")
    assert second.session.resume() is not None
    assert second.session.history == first.session.history


def test_notes_of_a_newer_release_are_refused_in_one_sentence_and_the_trial_begins_anew(
    checkpoints: Checkpoints, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    Attempt(checkpoints, tmp_path / "first").session.step(1, {"roc_auc": 0.7}, save)
    rewrite(checkpoints, tmp_path / "other", schema_version=2)
    second = Attempt(checkpoints, tmp_path / "second")
    caplog.clear()
    assert second.session.resume() is None
    assert caplog.messages == [
        "trial 3's state: a newer release wrote it (TrialProgress in schema version 2; this release reads up to 1); "
        "it is trained from the beginning"
    ]
    assert second.session.history == []
