"""Early stopping, reporting, and going on after an interruption."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from parcel_tasks import TASK_KINDS, VALIDATION, Recorder, digest, fit, make_task, save

from mlplatform.config.base import TaskKind
from trainer.families.boosting import ROUNDS_PER_STEP, Progress, Rounds
from trainer.metrics import score_all
from trainer.session import Diverged, Pruned, Stopped

BOOSTED = pytest.mark.parametrize("case", ["xgboost", "lightgbm"])
FAST: dict[str, Any] = {"n_estimators": 400, "early_stopping_rounds": 5, "learning_rate": 0.5}


def interrupted(case: str, kind: TaskKind, session: Recorder, **more: Any) -> Any:
    """Train as often as it takes."""
    while True:
        try:
            return fit(case, make_task(kind), session, **more)
        except Stopped:
            pass


@BOOSTED
@pytest.mark.parametrize("kind", TASK_KINDS)
@pytest.mark.parametrize("subsample", [0.7, 0.5, 1.0])
def test_interrupted_twice_is_bitwise_the_same(case: str, kind: TaskKind, subsample: float, tmp_path: Path) -> None:
    session = Recorder(tmp_path / "state", stops=(0, 2))
    whole = Recorder(tmp_path / "nothing")
    one = fit(case, make_task(kind), whole, subsample=subsample)
    two = interrupted(case, kind, session, subsample=subsample)
    assert digest(one, tmp_path / "one") == digest(two, tmp_path / "two")
    assert one.importance == two.importance
    assert one.facts == two.facts
    assert session.told == whole.told
    assert [number for number, _ in whole.told] == [0, 1, 2]


@BOOSTED
def test_early_stopping_goes_on_after_an_interruption(case: str, tmp_path: Path) -> None:
    more = FAST | {"learning_rate": 0.1, "early_stopping_rounds": 8}
    whole = Recorder(tmp_path / "nothing")
    one = fit(case, make_task("binary"), whole, **more)
    # Stopped at its last step: part of the patience is used up by then.
    session = Recorder(tmp_path / "state", stops=(whole.told[-1][0],))
    two = interrupted(case, "binary", session, **more)
    assert one.facts["trees_trained"] > ROUNDS_PER_STEP
    assert one.facts["trees"] < (whole.told[-1][0] + 1) * ROUNDS_PER_STEP, "choose parameters that make this a test"
    assert digest(one, tmp_path / "one") == digest(two, tmp_path / "two")


@BOOSTED
def test_early_stopping_keeps_the_best_trees(case: str, tmp_path: Path) -> None:
    fitted = fit(case, make_task("binary"), **FAST)
    assert fitted.facts["trees"] == fitted.facts["trees_trained"] - 5 < 100
    kept = score_all(
        "binary",
        VALIDATION["binary"].target,
        save(fitted, tmp_path / "m").predict(VALIDATION["binary"].columns),
    )
    fewer = fit(case, make_task("binary"), **FAST | {"n_estimators": int(fitted.facts["trees"]) + 2})
    more = score_all(
        "binary", VALIDATION["binary"].target, save(fewer, tmp_path / "n").predict(VALIDATION["binary"].columns)
    )
    assert kept["roc_auc"] == more["roc_auc"], "two more rounds that were not better are cut off as well"


@BOOSTED
@pytest.mark.parametrize("kind", TASK_KINDS)
def test_a_step_tells_the_metric_of_the_trees_so_far(case: str, kind: TaskKind, tmp_path: Path) -> None:
    session = Recorder(tmp_path)
    fit(case, make_task(kind), session, early_stopping_rounds=35, subsample=1.0, colsample_bytree=1.0)
    told = dict(session.told)[1]
    fewer = fit(case, make_task(kind), early_stopping_rounds=35, subsample=1.0, colsample_bytree=1.0, n_estimators=20)
    data = VALIDATION[kind]
    metric = make_task(kind).metric
    if fewer.facts["trees"] == 20:
        expected = score_all(kind, data.target, save(fewer, tmp_path / "model").predict(data.columns))[metric]
        assert told == {metric: pytest.approx(expected, rel=1e-4)}
    else:
        assert set(told) == {metric}


@BOOSTED
def test_a_pruned_trial_ends(case: str, tmp_path: Path) -> None:
    session = Recorder(tmp_path, stops=(1,), end=Pruned)
    with pytest.raises(Pruned):
        fit(case, make_task("binary"), session)
    assert [number for number, _ in session.told] == [0, 1]


@BOOSTED
def test_the_last_step_is_not_told(case: str, tmp_path: Path) -> None:
    session = Recorder(tmp_path)
    fit(case, make_task("binary"), session, n_estimators=20, early_stopping_rounds=20)
    assert [number for number, _ in session.told] == [0]


def test_progress() -> None:
    progress = Progress()
    for value in (0.5, 0.7, 0.7, 0.6):
        progress = progress.after(value, higher_is_better=True)
    assert progress == Progress(rounds=4, best_round=2, best_value=0.7)
    assert not progress.ended(limit=5, patience=3)
    assert progress.ended(limit=4, patience=3)
    assert progress.ended(limit=5, patience=2)
    assert progress.after(0.1, higher_is_better=False).best_round == 5


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_value_that_is_no_number_ends_as_diverged(value: float, tmp_path: Path) -> None:
    session = Recorder(tmp_path)
    rounds = Rounds(make_task("binary"), VALIDATION["binary"], session, watched="auc", limit=99, patience=9)
    rounds.add(0.5, predict=lambda: VALIDATION["binary"].target, save=lambda folder: None)
    with pytest.raises(Diverged, match=rf"^round 1: auc of the validation split is {value}$"):
        rounds.add(value, predict=lambda: VALIDATION["binary"].target, save=lambda folder: None)
    assert rounds.progress == Progress(rounds=1, best_round=1, best_value=0.5)


@BOOSTED
def test_the_state_is_small_and_readable(case: str, tmp_path: Path) -> None:
    session = Recorder(tmp_path, stops=(1,))
    with pytest.raises(Stopped):
        fit(case, make_task("binary"), session)
    state = session.resume()
    assert state is not None
    assert json.loads((state / "progress.json").read_text())["rounds"] == 20
    assert len(list(state.iterdir())) == 2
