"""``python -m trainer <step>``; see `mlplatform.steps` for the contract."""

from __future__ import annotations

import signal
import sys
from importlib import import_module
from types import FrameType
from typing import NoReturn

from mlplatform.steps import StepDefinition, main


def _validate() -> StepDefinition:
    definition: StepDefinition = import_module("trainer.validate").STEP
    return definition


def _prepare() -> StepDefinition:
    definition: StepDefinition = import_module("trainer.prepare").STEP
    return definition


def _train() -> StepDefinition:
    definition: StepDefinition = import_module("trainer.train").STEP
    return definition


def _evaluate() -> StepDefinition:
    definition: StepDefinition = import_module("trainer.evaluate").STEP
    return definition


# Functions, so that a step only pays for the libraries it uses.
STEPS = {"validate": _validate, "prepare": _prepare, "train": _train, "evaluate": _evaluate}


def _stop(signal_number: int, frame: FrameType | None) -> NoReturn:
    # As an exception, so that temporary files go and the MLflow run is closed within the grace period.
    raise SystemExit(128 + signal_number)


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, _stop)
    sys.exit(main("trainer", STEPS, sys.argv[1:]))
