"""The family pytorch's tests run on the CPU; those marked ``gpu`` need a GPU and say so."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))  # for `helpers`, in pytest's import mode "importlib"

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # as `trainer.__main__` does, before OpenMP is loaded

import torch


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "gpu: needs a GPU")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    if torch.cuda.is_available():
        return
    for item in items:
        if item.get_closest_marker("gpu"):
            item.add_marker(pytest.mark.skip(reason="no GPU: torch.cuda.is_available() is False"))
