"""Model families. A new one is a module here that defines ``FAMILY``, and its name in `MODULES`."""

from __future__ import annotations

from importlib import import_module

from trainer.families.base import ModelFamily

MODULES = {"xgboost": "trainer.families.xgboost", "sklearn": "trainer.families.sklearn"}


def load_family(name: str) -> ModelFamily:
    """Import a family and its libraries; those of the others are not touched."""
    family: ModelFamily = import_module(MODULES[name]).FAMILY
    return family
