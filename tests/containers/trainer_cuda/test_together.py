"""Trials trained together: each as if it were alone, and faster."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, ClassVar

import pytest
import torch
from helpers import Case, Keeper, TooExpensive, model_bytes, params

from mlplatform.errors import NonRetryableError
from trainer.families.pytorch import FAMILY, stack
from trainer.session import Diverged, NoSession, Stopped

MIXED: list[dict[str, Any]] = [
    {"learning_rate": 0.01, "dropout": 0.0},
    {"learning_rate": 0.03, "weight_decay": 0.1, "dropout": 0.5},
    {"optimizer": "sgd", "learning_rate": 0.05, "momentum": 0.5},
    {"optimizer": "sgd", "learning_rate": 0.02, "epochs": 2},
    {"optimizer": "adam", "dropout": 0.2},
    {"width": 24},  # another shape
    {"batch_size": 32},
    {"layers": 1, "embedding_width": 3},
]


def together(case: Case, chosen: list[dict[str, Any]], sessions: list[Any] | None = None) -> list[Any]:
    return list(
        FAMILY.fit_together(
            case.task,
            case.train,
            case.validation,
            [params(**one) for one in chosen],
            sessions or [NoSession() for _ in chosen],
        )
    )


@pytest.mark.parametrize("kind", ["binary", "multiclass", "regression"])
def test_each_trial_is_bitwise_what_it_is_alone(kind: Any, tmp_path: Path) -> None:
    case = Case(kind, 500)
    packed = together(case, MIXED)
    for number, (one, fitted) in enumerate(zip(MIXED, packed, strict=True)):
        alone = FAMILY.fit(case.task, case.train, case.validation, params(**one), NoSession())
        assert [epoch[case.task.metric] for epoch in fitted.history] == [
            epoch[case.task.metric] for epoch in alone.history
        ], one
        same = model_bytes(fitted, tmp_path / f"{number}p") == model_bytes(alone, tmp_path / f"{number}a")
        assert same, one


def test_those_that_end_early_leave_the_others_alone(tmp_path: Path) -> None:
    case = Case("regression", 500)
    chosen: list[dict[str, Any]] = [
        {},
        {"dropout": 0.4},
        {"optimizer": "sgd", "momentum": 0.999, "learning_rate": 10.0, "weight_decay": 5.0, "epochs": 30},
        {"width": 16384, "layers": 16},
        {"dropout": 0.3},
    ]
    sessions = [Keeper(tmp_path / str(number)) for number in range(5)]
    sessions[1].prune_at = 1
    found = together(case, chosen, sessions)
    assert type(found[1]) is TooExpensive  # and not any Pruned
    assert isinstance(found[2], Diverged)
    assert isinstance(found[3], NonRetryableError)
    assert sessions[1].steps == [0, 1]
    for number in (0, 4):
        alone = FAMILY.fit(case.task, case.train, case.validation, params(**chosen[number]), NoSession())
        assert model_bytes(found[number], tmp_path / f"{number}p") == model_bytes(alone, tmp_path / f"{number}a")


class Shared(Keeper):
    """As a pod's sessions: none saves before the process is told to stop, and from then on each saves and says so."""

    told: ClassVar[bool] = False

    def step(self, number: int, metrics: Mapping[str, float], save: Callable[[Path], None]) -> None:
        Shared.told = Shared.told or number == self.stop_at
        self.steps.append(number)
        if Shared.told:
            self.folder.mkdir(parents=True, exist_ok=True)
            save(self.folder)
            raise Stopped(f"stopped at {number}")


def test_a_stop_saves_all_and_all_go_on(tmp_path: Path) -> None:
    case = Case(rows=300)
    whole = [model_bytes(one, tmp_path / f"w{number}") for number, one in enumerate(together(case, MIXED))]

    def attempt(trial: int, stop_at: int) -> list[Shared]:
        Shared.told = False
        sessions = [Shared(tmp_path / str(number)) for number in range(len(MIXED))]
        sessions[trial].stop_at = stop_at
        with pytest.raises(Stopped):
            together(case, MIXED, sessions)
        return sessions

    # Told when trial 3 has ended, others were asked already, and those of other shapes have not begun.
    first = attempt(1, 2)
    assert [(tmp_path / str(number)).exists() for number in range(len(MIXED))] == [True] * 5 + [False] * 3
    assert first[3].steps == [0, 1, 1]  # its end was saved when all had to stop
    second = attempt(5, 1)
    assert second[3].steps == [1]  # and it was not trained again
    assert second[0].steps == [3, 3]
    last = [Keeper(tmp_path / str(number)) for number in range(len(MIXED))]
    found = together(case, MIXED, last)
    assert [model_bytes(one, tmp_path / f"r{number}") for number, one in enumerate(found)] == whole
    assert [one.steps for one in last[:6]] == [[]] * 5 + [[2, 3]]


def test_too_little_memory_for_all_trains_half_at_once(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, tmp_path: Path
) -> None:
    case = Case(rows=300)
    chosen = [{"dropout": 0.1 * number} for number in range(5)]
    whole = [model_bytes(one, tmp_path / f"w{number}") for number, one in enumerate(together(case, chosen))]
    backward = stack.Stack._backward

    def limited(one: stack.Stack, batch: Any, divisor: int, first: bool) -> None:
        if len(one.weights) > 2:
            raise torch.OutOfMemoryError("CUDA out of memory")
        backward(one, batch, divisor, first)

    monkeypatch.setattr(stack.Stack, "_backward", limited)
    with caplog.at_level(logging.WARNING):
        found = together(case, chosen)
    assert "does not hold 5 trials at once: in two halves" in caplog.text
    assert [model_bytes(one, tmp_path / f"h{number}") for number, one in enumerate(found)] == whole


def test_on_a_cpu_no_more_at_once_than_its_caches_hold() -> None:
    case = Case(rows=100)
    sizes: list[int] = []

    class Noted(stack.Stack):
        def __init__(self, *arguments: Any) -> None:
            sizes.append(len(arguments[1]))
            super().__init__(*arguments)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("trainer.families.pytorch.training.Stack", Noted)
        patch.setattr(stack, "CACHED_NUMBERS", 64 * 20 * 3)
        together(case, [{"dropout": 0.1 * number, "epochs": 1, "width": 20} for number in range(8)])
    assert sizes == [3, 3, 2]
