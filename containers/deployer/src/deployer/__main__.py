"""Command line: ``python -m deployer deploy --config … --input … --output …``, and ``variants`` for people."""

from __future__ import annotations

import logging
import os
import sys

from mlplatform.steps import main

# Loggers that say at INFO what is no news, and the level from which they are heard. The last one warns at every
# request that the tracking server is not SageMaker's, by a plugin that the SageMaker SDK installs.
QUIET = {
    "sagemaker": logging.WARNING,
    "mlflow.tracking.request_header.registry": logging.ERROR,
}


if __name__ == "__main__":
    if sys.argv[1:2] == ["variants"]:
        from deployer import variants

        sys.exit(variants.main(sys.argv[2:]))
    for name, level in QUIET.items():
        logging.getLogger(name).setLevel(level)
    os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
    sys.exit(main("deployer", sys.argv[1:]))
