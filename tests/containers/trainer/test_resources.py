from __future__ import annotations

import os
from pathlib import Path

import pytest

from trainer.resources import UNLIMITED_SHARE, memory, threads


@pytest.fixture(autouse=True)
def four_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: {0, 1, 2, 3})
    monkeypatch.delenv("TRAINER_THREADS", raising=False)
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.delenv("TRAINER_MEMORY_MIB", raising=False)


@pytest.mark.parametrize(
    ("limit", "expected"),
    [
        ("max 100000", 4),
        ("200000 100000", 2),
        ("150000 100000", 2),
        ("10000 100000", 1),
        ("800000 100000", 4),
        ("?", 4),
    ],
)
def test_threads_follow_the_containers_limit(tmp_path: Path, limit: str, expected: int) -> None:
    (tmp_path / "cpu.max").write_text(limit + "\n")
    assert threads(tmp_path / "cpu.max") == expected


def test_without_control_groups_the_cores_count(tmp_path: Path) -> None:
    assert threads(tmp_path / "absent") == 4


def test_the_environment_decides(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    assert threads() == 3
    monkeypatch.setenv("TRAINER_THREADS", "7")
    assert threads() == 7


@pytest.mark.parametrize("value", ["", "0", "many", "-1"])
def test_nonsense_in_the_environment_is_ignored(monkeypatch: pytest.MonkeyPatch, value: str) -> None:
    monkeypatch.setenv("TRAINER_THREADS", value)
    assert threads(Path("absent")) == 4


MACHINE = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
UNLIMITED = int(MACHINE * UNLIMITED_SHARE)


@pytest.mark.parametrize(
    ("limit", "expected"),
    [("536870912", 2**29), ("max", UNLIMITED), (str(2**62), UNLIMITED), ("?", UNLIMITED), ("", UNLIMITED)],
)
def test_memory_follows_the_containers_limit(tmp_path: Path, limit: str, expected: int) -> None:
    (tmp_path / "memory.max").write_text(limit + "\n")
    assert memory(tmp_path / "memory.max") == expected


def test_without_control_groups_a_part_of_the_machines_memory_is_ours(tmp_path: Path) -> None:
    assert memory(tmp_path / "absent") == UNLIMITED


def test_the_environment_decides_about_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "memory.max").write_text("536870912\n")
    monkeypatch.setenv("TRAINER_MEMORY_MIB", "2048")
    assert memory(tmp_path / "memory.max") == 2**31
    monkeypatch.setenv("TRAINER_MEMORY_MIB", "much")
    assert memory(tmp_path / "memory.max") == 2**29
