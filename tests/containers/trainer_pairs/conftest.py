"""The fixtures of the trainer's tests, in the environment that has every family."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

TRAINER = Path(__file__).parents[1] / "trainer"
sys.path.insert(0, str(TRAINER))  # for `helpers`

_spec = importlib.util.spec_from_file_location("trainer_conftest", TRAINER / "conftest.py")
assert _spec is not None
assert _spec.loader is not None
_fixtures = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(_fixtures)

s3, mlflow_uri = _fixtures.s3, _fixtures.mlflow_uri
