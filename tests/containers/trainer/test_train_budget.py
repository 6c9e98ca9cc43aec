from __future__ import annotations

import itertools
from datetime import UTC, datetime
from types import SimpleNamespace

import pytest

from mlplatform import storage
from mlplatform.documents.results import TrainResult, TrialResult
from trainer import budget
from trainer.budget import Budget, EndedTrial, gpus_held
from trainer.trials import Clock

NUMBERS = itertools.count()


@pytest.fixture
def run() -> str:
    return f"s3://data/budgets/{next(NUMBERS)}"


def trial(gpu_seconds: float) -> TrialResult:
    return TrialResult(trial=0, status="succeeded", family="xgboost", params={}, gpu_seconds=gpu_seconds)


def ended(uri: str, gpu_seconds: float) -> None:
    storage.write_document(uri, EndedTrial(result=trial(gpu_seconds)))


def finished(run: str, pod: str, *gpu_seconds: float) -> None:
    now = datetime.now(UTC)
    trials = [trial(seconds) for seconds in gpu_seconds]
    document = TrainResult(run_key="r", started_at=now, finished_at=now, trials=trials)
    storage.write_document(f"{run}/train/{pod}/result.json", document)


def test_what_all_pods_have_used_counts(run: str) -> None:
    finished(run, "000", 600, 600)
    ended(f"{run}/train/001/trials/004.json", 1200)  # of a pod that has more to do
    ended(f"{run}/train/001/checkpoints/005/latest.json", 9e9)
    finished(run, "002", 9e9)  # this pod's own, which it counts itself
    finished(run, "other/000", 9e9)
    own = Budget(1.0, f"{run}/train/002/")
    assert own.exceeded(1199) is None
    reason = own.exceeded(1200)
    assert reason is not None
    assert "used 1.00 of 1 GPU-hours" in reason


def test_a_finished_pod_counts_once(run: str) -> None:
    ended(f"{run}/train/000/trials/000.json", 1800)
    now = [0.0]
    own = Budget(1.0, f"{run}/train/001", clock=lambda: now[0])
    assert own.exceeded(1799) is None
    finished(run, "000", 1800)
    assert own.exceeded(1799, now=True) is None
    finished(run, "003", 1800)
    assert own.exceeded(0.0) is None  # not asked again so soon
    now[0] = budget.CHECK_SECONDS
    assert own.exceeded(0.0) is not None


def test_without_a_limit_nobody_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(budget, "list_objects", lambda uri: pytest.fail("asked"))
    assert Budget(None, "s3://data/r/train/000").exceeded(1e9) is None


def test_the_first_pod_of_a_run_may_start(run: str) -> None:
    assert Budget(0.001, f"{run}/train/000").exceeded(0.0, now=True) is None


@pytest.mark.parametrize(
    ("visible", "expected"),
    [("GPU-1", 1), ("GPU-1,GPU-2", 2), ("0,1,2,3", 4), ("none", 0), ("", 0), ("all", 3), ("void", 3)],
)
def test_gpus_are_those_the_container_was_given(visible: str, expected: int, monkeypatch: pytest.MonkeyPatch) -> None:
    driver = SimpleNamespace(nvmlInit=lambda: None, nvmlShutdown=lambda: None, nvmlDeviceGetCount=lambda: 3)
    for name in ("WORLD_SIZE", "LOCAL_WORLD_SIZE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setitem(__import__("sys").modules, "pynvml", driver if visible in ("all", "void") else None)
    monkeypatch.setenv("NVIDIA_VISIBLE_DEVICES", visible)
    assert gpus_held() == expected


def test_all_pods_of_a_trial_count(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NVIDIA_VISIBLE_DEVICES", "0,1")
    monkeypatch.setenv("WORLD_SIZE", "8")
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "2")
    assert gpus_held() == 8


def test_a_pods_clock_adds_up_its_trainings_and_their_earlier_attempts() -> None:
    now = [100.0]
    clock = Clock(2, clock=lambda: now[0])
    assert clock.gpu_seconds == 0
    clock.start()
    clock.add_earlier(5)
    clock.add_earlier(3)  # of a trial that trains along
    now[0] += 10
    assert (clock.seconds, clock.gpu_seconds) == (15, 30)
    assert clock.stop() == 15
    clock.start()
    now[0] += 1
    assert (clock.seconds, clock.gpu_seconds) == (1, 32)
