"""``python -m trainer <step>``; see `mlplatform.steps` for the contract."""

from __future__ import annotations

import os
import sys
from importlib import import_module

from mlplatform.steps import StepDefinition, main
from trainer import shutdown


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


def _monitor() -> StepDefinition:
    definition: StepDefinition = import_module("trainer.monitor").STEP
    return definition


# Functions, so that a step only pays for the libraries it uses.
STEPS = {"validate": _validate, "prepare": _prepare, "train": _train, "evaluate": _evaluate, "monitor": _monitor}


if __name__ == "__main__":
    # Threads that spin at a barrier take the core from the one they wait for as soon as other pods share the
    # node: with it, fitting XGBoost on two busy cores took 20 s instead of 2 s. Read when OpenMP is loaded.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    shutdown.install()
    sys.exit(main("trainer", STEPS, sys.argv[1:]))
