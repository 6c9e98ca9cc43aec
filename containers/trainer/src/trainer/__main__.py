"""``python -m trainer <step>``; see `mlplatform.steps` for the contract."""

from __future__ import annotations

import os
import sys

from mlplatform.steps import main
from trainer import shutdown

if __name__ == "__main__":
    # Threads that spin at a barrier take the core from the one they wait for as soon as other pods share the
    # node: with it, fitting XGBoost on two busy cores took 20 s instead of 2 s. Read when OpenMP is loaded.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    shutdown.install()
    sys.exit(main("trainer", sys.argv[1:]))
