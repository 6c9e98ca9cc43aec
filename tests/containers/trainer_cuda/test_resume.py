"""Interrupted, pruned and damaged: what a session saves and a later attempt goes on from."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest
from helpers import Case, Keeper, model_bytes, params

from trainer.families.pytorch import FAMILY
from trainer.session import NoSession, Pruned, Stopped


@pytest.mark.parametrize("optimizer", ["adamw", "adam", "sgd"])
@pytest.mark.parametrize("stops", [(0, 1), (1, 3), (0, 3)])
def test_two_interruptions_leave_no_trace(optimizer: str, stops: tuple[int, int], tmp_path: Path) -> None:
    case = Case("multiclass", 300)
    chosen = params(optimizer=optimizer, epochs=5)

    def fit(keeper: Keeper | NoSession) -> object:
        return FAMILY.fit(case.task, case.train, case.validation, chosen, keeper)

    whole = model_bytes(fit(NoSession()), tmp_path / "whole")
    steps: list[int] = []
    for stop in stops:
        keeper = Keeper(tmp_path / "state", stop_at=stop)
        with pytest.raises(Stopped, match=f"stopped at {stop}"):
            fit(keeper)
        steps += keeper.steps
    last = Keeper(tmp_path / "state")
    assert model_bytes(fit(last), tmp_path / "resumed") == whole
    assert steps + last.steps == list(range(5))


def test_what_early_stopping_knows_survives(tmp_path: Path) -> None:
    case = Case(rows=200)
    chosen = params(epochs=60, patience=3, learning_rate=0.05)
    alone = Keeper(tmp_path / "alone")
    whole = FAMILY.fit(case.task, case.train, case.validation, chosen, alone)
    stop = int(whole.facts["best_epoch"]) + 1
    with pytest.raises(Stopped):
        FAMILY.fit(case.task, case.train, case.validation, chosen, Keeper(tmp_path / "state", stop_at=stop))
    last = Keeper(tmp_path / "state")
    resumed = FAMILY.fit(case.task, case.train, case.validation, chosen, last)
    assert last.steps == [stop + 1, stop + 2]
    assert model_bytes(resumed, tmp_path / "a") == model_bytes(whole, tmp_path / "b")
    assert resumed.history == whole.history


def test_a_trial_that_was_done_is_not_trained_again(tmp_path: Path) -> None:
    case = Case(rows=200)
    first = FAMILY.fit(case.task, case.train, case.validation, params(), Keeper(tmp_path / "state"))
    again = Keeper(tmp_path / "state")
    second = FAMILY.fit(case.task, case.train, case.validation, params(), again)
    assert again.steps == []
    assert model_bytes(first, tmp_path / "a") == model_bytes(second, tmp_path / "b")


@pytest.mark.parametrize("damage", ["cut", "bit", "empty", "nothing", "no digest", "other parameters"])
def test_a_checkpoint_that_cannot_be_used_is_named_and_left(
    damage: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    case = Case(rows=200)
    state = tmp_path / "state"
    with pytest.raises(Stopped):
        FAMILY.fit(case.task, case.train, case.validation, params(), Keeper(state, stop_at=1))
    file = state / "state.pt"
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    chosen = params(width=24) if damage == "other parameters" else params()
    if damage == "cut":
        file.write_bytes(content[: len(content) // 2])
    elif damage == "bit":
        file.write_bytes(content)
    elif damage == "empty":
        file.write_bytes(b"")
    elif damage == "nothing":
        file.unlink()
    elif damage == "no digest":
        (state / "state.sha256").unlink()
    keeper = Keeper(state)
    with caplog.at_level(logging.WARNING):
        resumed = FAMILY.fit(case.task, case.train, case.validation, chosen, keeper)
    assert keeper.steps == [0, 1, 2, 3]
    assert f"the checkpoint in {state} is not used, the trial begins anew" in caplog.text
    fresh = FAMILY.fit(case.task, case.train, case.validation, chosen, NoSession())
    assert model_bytes(resumed, tmp_path / "a") == model_bytes(fresh, tmp_path / "b")


def test_pruned_is_let_through(tmp_path: Path) -> None:
    case = Case(rows=200)
    with pytest.raises(Pruned, match="pruned at 1"):
        FAMILY.fit(case.task, case.train, case.validation, params(), Keeper(tmp_path / "state", prune_at=1))
