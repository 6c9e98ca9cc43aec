from __future__ import annotations

import os
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))  # for `helpers` and `servers`, in pytest's import mode "importlib"

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # as `trainer.__main__` does, before OpenMP is loaded

from servers import mlflow_uri, prepared, run, s3, tracked

__all__ = ["mlflow_uri", "prepared", "run", "s3", "tracked"]
