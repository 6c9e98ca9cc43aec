"""The fixtures of the trainer's tests, in the environment that has PySpark."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "trainer"))  # for `helpers` and `servers`

from servers import run, s3

__all__ = ["run", "s3"]
